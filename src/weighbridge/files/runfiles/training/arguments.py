"""The keys of transformers' TrainingArguments, which many trainers take, read for all of them.

Sources: transformers 5.2 training_args.py (per_device_train_batch_size 8, optim
adamw_torch_fused), trainer_utils.py; trl @ f2cd5771 trainer/base_config.py; examples/deepspeed of
LLaMA-Factory @ ff6d4d12 (what the names of such files say).
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.base.wording import shown
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.runfiles.beside import beside, of_another
from weighbridge.files.runfiles.reading import VARIABLE, KeyReading
from weighbridge.files.runfiles.record import Value
from weighbridge.files.runfiles.tables import table
from weighbridge.files.runfiles.training import zero
from weighbridge.settings.ranks import SIZES
from weighbridge.training.launching import OPTIMIZERS
from weighbridge.training.learning.words import section
from weighbridge.training.sharding.numbers import Sharding

NAMES = table(text_beside(__file__, "arguments.txt")).names
# accelerate utils/constants.py: FSDP_SHARDING_STRATEGY and FSDP_BACKWARD_PREFETCH, from 1
SHARDING = ("full_shard", "shard_grad_op", "no_shard", "hybrid_shard", "hybrid_shard_zero2")
STRATEGIES: Mapping[str, str] = dict(zip("12345", SHARDING, strict=True))
# prefixes of known strategies and words of `fsdp`
KNOWN = (*STRATEGIES.values(), "auto_wrap", "offload", "fsdp")
AHEAD = NAMES["backward_prefetch"]
PREFETCHES = ("backward_prefetch", "backward_prefetch_policy")  # the second up to accelerate 0.26
ATTENTION = NAMES["attn_implementation"]
MOST_WORDS = 3  # words of a path; more are an instruction for people
STAGE = re.compile(r"(?:zero|ds_z|_z)[-_]?(?:stage)?[-_]?([0-3])", re.IGNORECASE)


def merged(*tables: str) -> str:
    """Return several kinds' tables as one; sections with the same name are joined."""
    sections: dict[str, list[str]] = {}
    for text in tables:
        name = ""
        for line in filter(str.strip, text.splitlines()):
            if line.startswith("["):
                name = line.strip("[] ")
            else:
                sections.setdefault(name, []).append(line)
    return "\n".join(f"[{name}]\n" + "\n".join(lines) for name, lines in sections.items())


KEYS = merged(section("trainer"), text_beside(__file__, "arguments.txt"))


def name_of(keys: KeyReading, key: str) -> str:
    """Return the model in a key, also from a path, whose folders may be variables; "" for a
    variable or a sentence."""
    value = str(keys.value(key) or "")
    named = keys.text(key) or value.rstrip("/").rpartition("/")[2]
    if VARIABLE.search(named) or len(value.split()) > MOST_WORDS:
        return ""
    if named:
        keys.take(key, "model")
    return model_of(named) if named else ""


def attention(name: object) -> str | None:
    """Return our name of an attention implementation; None for sdpa, where torch chooses the kernel
    as our rules do."""
    return ATTENTION.get(str(name))


OF_RANKS: Mapping[str, str] = {  # fields of accelerate's ParallelismConfig
    "tp_size": SIZES["tensor"],
    "cp_size": SIZES["context"],
    "sp_size": SIZES["context"],
}


def _arranged(keys: KeyReading, section: str, options: Mapping[str, Any]) -> None:
    """Read the ranks in accelerate's `parallelism_config`."""
    keys.used.update(f"{section}.{name}" for name in options)
    several = (options.get("sp_size") or 1) != 1
    for name, setting in OF_RANKS.items():
        if name != "sp_size" or several:
            keys.take(f"{section}.{name}", setting)
    if several:
        keys.set("context_parallel_by", "ulysses", f"{section}.sp_size")


def sequence(keys: KeyReading) -> None:
    """Read sequence and tensor parallelism: accelerate's `parallelism_config`, and ms-swift's
    `sequence_parallel_size`, which exchanges heads if ranks divide the KV heads, and pads rows
    until ranks divide them (swift/sequence_parallel/sequence_parallel.py)."""
    section = "parallelism_config"
    options = keys.value(section)
    if isinstance(options, dict):
        _arranged(keys, section, options)
    elif options is not None:
        keys.leave(section, "- ranks are arranged by it")
    if (keys.value("sequence_parallel_size") or 1) != 1 and keys.take(
        "sequence_parallel_size", "context_parallel_size"
    ):
        keys.set("context_parallel_by", "ulysses", "sequence_parallel_size")
        ranks, length = (keys.settings.get(n) for n in ("context_parallel_size", "seq_len"))
        if isinstance(length, int) and isinstance(ranks, int) and ranks > 0:
            keys.settings["seq_len"] = ceil_div(length, ranks) * ranks


def fsdp(keys: KeyReading) -> None:
    """Read FSDP from `fsdp` and `fsdp_config`, as axolotl and TrainingArguments spell them."""
    config, asked = keys.value("fsdp_config"), keys.value("fsdp")
    options = config if isinstance(config, dict) else {}
    keys.used.update(f"fsdp_config.{name}" for name in options)
    version = keys.value("fsdp_version")
    if isinstance(asked, str) and not keys.text("fsdp"):
        asked = None
    if not asked and not options:
        return
    words = " ".join(map(str, asked)) if isinstance(asked, list) else str(asked or "")
    sharded(keys, options, version, words, "fsdp" if asked else "fsdp_config")
    keys.take("dp_shard_size", "data_parallel_size")
    _copies(keys)


def _copies(keys: KeyReading) -> None:
    """Read HSDP from the number of replicas and the ranks that shard one."""
    shards, copies = keys.data.get("dp_shard_size"), keys.data.get("dp_replicate_size")
    if not isinstance(copies, int) or copies <= 1:
        return
    keys.settings["shard"] = "hsdp"
    keys.set("data_parallel_replicas", copies, "dp_replicate_size")
    if isinstance(shards, int):
        keys.set("data_parallel_size", shards * copies, "dp_shard_size")


def sharded(
    keys: KeyReading, options: Mapping[str, Any], version: object, words: str, key: str
) -> None:
    """Read the options of FSDP, with or without the prefix `fsdp_`; `key` is the section they are
    in."""
    bare = {str(name).removeprefix("fsdp_"): value for name, value in options.items()}
    named = {name: f"fsdp_config.{name}" for name in map(str, options)}
    whose = {name.removeprefix("fsdp_"): key for name, key in named.items()}
    key = whose.get("sharding_strategy", key) if bare.get("sharding_strategy") else key
    number = version or bare.get("version") or 1
    strategy = _strategy(bare, words)
    if "no_shard" in strategy:
        keys.set("shard", "ddp", key)
        return
    copies = "hybrid" in strategy and str(number) == "1"  # FSDP2 ignores the strategy
    keys.set("shard", "hsdp" if copies else f"fsdp{number}", key)
    _gathered(keys, bare, whose, strategy, key)
    _moved(keys, bare, whose, words)
    if (
        bare.get("activation_checkpointing") is True
    ):  # by torch's wrapper, CheckpointImpl.NO_REENTRANT
        keys.settings |= {"checkpointing": "full", "use_reentrant": False}


def _moved(keys: KeyReading, bare: Mapping[str, Any], whose: Mapping[str, str], words: str) -> None:
    """Read whether parameters are offloaded to host memory."""
    offloads = next((n for n in ("offload_params", "cpu_offload") if bare.get(n) is True), "")
    if offloads or "offload" in words:
        keys.settings["offload"] = "params"
    if offloads in whose and keys.value(whose[offloads]) is True:
        keys.knows(whose[offloads], "offload")


def _strategy(bare: Mapping[str, Any], words: str) -> str:
    """Return FSDP1's strategy in lower case: a name or number, in later files at
    `reshard_after_forward`, or one of the words of `fsdp`."""
    strategy = bare.get("sharding_strategy") or bare.get("reshard_after_forward")
    if str(strategy).lower() in ("true", "false", "none"):
        strategy = words
    return STRATEGIES.get(str(strategy), str(strategy)).lower()


def _gathered(
    keys: KeyReading, bare: Mapping[str, Any], whose: Mapping[str, str], strategy: str, key: str
) -> None:
    """Read when layers are gathered and resharded."""
    reshards, name = bare.get("reshard_after_forward"), "reshard_after_forward"
    asked = next((n for n in ("sharding_strategy", name) if n in bare), "")
    if asked and not strategy.startswith(KNOWN) and strategy not in ("", "true", "false"):
        keys.leave(whose[asked], f"+- {shown(bare[asked])} is no strategy; FULL_SHARD is counted")
    if reshards is False or str(reshards).lower() == "false":
        keys.set(name, False, whose[name])
    elif "shard_grad_op" in strategy or "zero2" in strategy:
        keys.set(name, False, key)
    _prefetched(keys, bare, whose)


def _prefetched(keys: KeyReading, bare: Mapping[str, Any], whose: Mapping[str, str]) -> None:
    """Read when FSDP1 gathers the next layer; FSDP2 ignores it."""
    ahead = next((n for n in PREFETCHES if n in bare), "")
    first = keys.settings["shard"] == "fsdp1"
    if ahead and first and keys.take(whose[ahead], "backward_prefetch", _prefetch) is None:
        keys.leave(whose[ahead], f"+- {shown(bare[ahead])} is no moment that FSDP knows")
    if first and keys.on(whose.get("forward_prefetch", "")):
        keys.leave(whose["forward_prefetch"], "+ the next layer is gathered in forward, too")


def _prefetch(value: object) -> str | None:
    """Return our name of FSDP1's backward prefetch, from accelerate's name or number."""
    return AHEAD.get(str(value).upper())


def fsdp_words(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the keys of a new file for FSDP, in accelerate's names. HSDP's replicas are set
    separately (`groups`)."""
    shard = str(settings["shard"])
    saved = "SHARDED" if settings.get("gather_on_save") is False else "FULL"
    words: dict[str, Value] = {
        "fsdp_version": 1 if shard == "fsdp1" else 2,
        "fsdp_config.auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_config.state_dict_type": f"{saved}_STATE_DICT",
        "fsdp_config.offload_params": settings["offload"] == "params",
    }
    reshards = settings.get("reshard_after_forward") is not False
    if shard != "fsdp1":
        words["fsdp_config.reshard_after_forward"] = reshards
        return words
    if not reshards:
        words["fsdp_config.sharding_strategy"] = "SHARD_GRAD_OP"
    return words | _told_ahead(settings, "fsdp_config.backward_prefetch")


def _told_ahead(settings: Mapping[str, Value], key: str) -> dict[str, Value]:
    ahead = settings.get("backward_prefetch")
    return {key: next(word for word, ours in AHEAD.items() if ours == ahead)} if ahead else {}


def groups(settings: Mapping[str, Value]) -> dict[str, int]:
    """Return the ranks per replica of a model, and the number of replicas, for FSDP2."""
    ranks = replace(Sharding.of(settings), kind=settings["shard"])
    shards = max(1, ranks.shares // ranks.context)
    return {"dp_replicate_size": ranks.data // shards, "dp_shard_size": shards}


def fsdp_arguments(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the arguments of a new file for FSDP; {} without FSDP. FSDP2 with replicas (HSDP) is
    accelerate's own setting. transformers 5.6 wraps layers and offloads only by the words of
    `fsdp`; 5.23 accepts these words too."""
    shard = str(settings["shard"])
    if shard not in ("fsdp1", "fsdp2"):
        return {}
    offloads = " offload" if settings["offload"] == "params" else ""
    reshards = settings.get("reshard_after_forward") is not False
    strategy = "full_shard" if reshards or shard == "fsdp2" else "shard_grad_op"
    words: dict[str, Value] = {"fsdp": f"{strategy} auto_wrap{offloads}"}
    words["fsdp_config.version"] = int(shard[-1])
    if shard == "fsdp2":  # transformers 5.0 to 5.4 keep layers gathered by default
        words["fsdp_config.reshard_after_forward"] = reshards
    return words | _told_ahead(settings, "fsdp_config.backward_prefetch")


def named_optimizer(kind: str, optimizer: str, more: Collection[str] = ()) -> None:
    """Raise UsageError for an optimizer that the Trainer rejects, or that needs further settings;
    `more`: optimizers for which a program has its own keys."""
    if optimizer not in OPTIMIZERS and optimizer not in more:
        raise UsageError(
            sentence("emit.no_word", flag=f"--optimizer {optimizer}"), where=f"--emit {kind}"
        )


def shared_and_evaluated(
    settings: Mapping[str, Value], offloads: Mapping[tuple[str, str], str]
) -> dict[str, Value]:
    """Return the arguments of a new file for sharding, and for evaluation if the user requests it.
    `offloads`: (shard, offload) -> DeepSpeed's file."""
    words: dict[str, Value] = {}
    if settings["eval_batch_size"] is not None:
        words["eval_strategy"] = "epoch"
        words["per_device_eval_batch_size"] = settings["eval_batch_size"]
    shared = (settings["shard"], settings["offload"])
    if shared in offloads:
        words["deepspeed"] = offloads[shared]
    return words | fsdp_arguments(settings)


def zero_beside(keys: KeyReading, key: str) -> bool:
    """Read the sharding in a DeepSpeed config next to the file; return whether it exists. The
    Trainer's own arguments fill in the rest."""
    name = keys.text(key)
    config = beside(keys.document, name, zero.KIND.syntaxes)
    if config is None or not isinstance(config.data, dict):
        return False
    run = of_another(next(zero.read(config)), name)
    keys.zero = (name, config.data)
    sharing = {n: v for n, v in run.settings.items() if n in ("shard", "offload") or "zero_" in n}
    keys.settings.update(sharing)
    keys.knows(key, "shard")
    keys.understood += [one for one in run.understood if one.setting in sharing]
    keys.unread += run.unread
    keys.defaults += [one for one in run.defaults if one[0] in sharing]
    return True


def zero_named(
    keys: KeyReading,
    key: str = "deepspeed",
    named: re.Pattern[str] = STAGE,
    note: str = "base.by_name",
) -> None:
    """Read DeepSpeed's sharding from the file that a key names, if it exists; else from the stage
    in its name."""
    if not keys.value(key):
        return
    if not keys.text(key):
        keys.leave(key, "its value is not one that can be read here")
        return
    if zero_beside(keys, key):
        return
    base = keys.text(key).rpartition("/")[2]
    stage = named.search(base)
    if stage is None:
        keys.lacks(key, keys.text(key))
        return
    number = int(stage[1])
    keys.set("shard", f"zero{number}" if number else "ddp", key)
    if "offload" in base.lower():
        keys.settings["offload"] = "params" if number == 3 else "optimizer"
    keys.notes.append(sentence(note, base=base))

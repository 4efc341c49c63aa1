"""Runs of programs that learn from rewards and preferences: verl, EasyR1, OpenRLHF, NeMo-RL,
AgileRL, slime, and ms-swift with Megatron.

    python3 -m verl.trainer.main_ppo data.max_prompt_length=1024 ...      overrides of Hydra
    openrlhf.cli.train_dpo --data.max_len 8192 --zero_stage 3             flags, dotted or not
    policy: {max_total_sequence_length: 4096}                             YAML, and what it names

All three are keys with values, nested by their dots (rewards_text.py). A line of rewards.jsonl is a
program, and its table (verl.txt, ...) says what its keys are here; what several decide together is
below.

Sources: verl 0.9 trainer/config/ (rollout, actor, engine, model); EasyR1 @ b44b311b
verl/workers/actor/config.py; OpenRLHF 0.11 @ 3c3be623 openrlhf/cli/train_ppo_ray.py, train_dpo.py;
NeMo-RL @ 7ea279ab examples/configs/grpo_math_1B.yaml, dpo.yaml; AgileRL @ 549d85e4
configs/training/llm_finetuning/; ms-swift @ 3602360a swift/megatron/arguments/.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.pieces import begins_with_a_command
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.files.runfiles.training import arguments, learned
from weighbridge.files.runfiles.training.learned import number
from weighbridge.files.runfiles.training.rewards_text import (
    RewardProgram,
    RewardRun,
    of_config,
    started,
    with_config,
)
from weighbridge.files.runfiles.training.unanswered import is_script
from weighbridge.settings.ranks import SIZES, Ranks
from weighbridge.training.learning.words import section
from weighbridge.training.megatron.arguments import ARGUMENTS
from weighbridge.training.megatron.arguments import read as read_arguments
from weighbridge.workload.train import REWARDS

ACTOR, MODEL, ROLLOUT = (f"actor_rollout_ref.{part}" for part in ("actor", "model", "rollout"))
ESTIMATORS = {  # verl trainer/ppo/{core_algos,utils}.py, OpenRLHF's; most have no critic
    "gae": "ppo",
    "rloo_vectorized": "rloo",
    **dict.fromkeys(("reinforce_baseline", "reinforce_plus_plus_baseline"), "reinforce"),
    **dict.fromkeys(("group_norm", "grpo_passk", "grpo_vectorized"), "grpo"),
    **dict.fromkeys(("gpg", "gdpo", "opo", "optimal_token_baseline"), "grpo"),
}
KL, PACKED = 0.001, 16192  # verl's kl_loss_coef; OpenRLHF's tokens per forward
ALWAYS = "no_create_attention_mask_in_dataloader"  # these programs' loaders make no mask
AGAIN = {  # values of --checkpointing; others are Megatron's own arguments
    "recompute_granularity": ("full", "selective"),
    "recompute_method": ("uniform",),
    "recompute_num_layers": (1,),
}
UNPADDED = "- sequences stand in one row without padding"
MOST_TOKENS = "train.max_tokens_per_gpu"
LONGER = "+ log-probabilities are filled up to more tokens than the update"


def tells(document: Document) -> bool:
    """Return whether a document starts one of these programs, or is its config."""
    if document.syntax == "shell":
        script = is_script(document) or begins_with_a_command(document.text)
        return script and started(document) is not None
    return of_config(document) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a script or a config starts."""
    run = started(document) if document.syntax == "shell" else with_config(document)
    if run is not None:
        yield _planned(run)


def _planned(run: RewardRun) -> PlannedRun:
    program = run.program
    of_program = text_beside(__file__, f"{program.table}.txt")
    words = section(program.words or program.framework)
    keys = reading(run.document, arguments.merged(of_program, words))
    keys.settings["framework"] = program.framework
    keys.unread += run.absent
    keys.notes += run.notes
    named = next((name for name in program.models if keys.value(name) is not None), "")
    model = arguments.name_of(keys, named) if named else ""
    method = _method(keys, program, run.verb)
    if not method and not program.tunes:
        keys.used.update(keys.data)
        return keys.run(model, refused=sentence("rewards.method"))
    keys.settings["method"] = learned.NAMES.get(method, method)
    learned.switches(keys, keys.keys.phrases)
    rules.decide(keys, program.name)
    if program.framework in TAKES:
        TAKES[program.framework](keys)
    _adapted(keys, program)
    if keys.settings["method"] != "ppo":
        keys.used.update(_keys_of(keys, "critic"))
    ones = (key for key in keys.keys.memory if key.endswith("parallel_size"))
    keys.used.update(key for key in ones if keys.peek(key) == 1)
    keys.plain()
    for each, machines in program.cards:
        _cards(keys, each, machines, program.usual_cards)
    for setting, (value, name) in program.usual.items():
        if setting != "seq_len" or not _writes(keys):  # rows with answers have two lengths
            keys.default(setting, value, sentence("own_name", framework=program.name, name=name))
    _settled(keys, program, method)
    return keys.run(model, refused=learned.refusal(method and keys.settings["method"]))


def _settled(keys: KeyReading, program: RewardProgram, method: str) -> None:
    """Set what follows from other settings. In fine-tuning, packed sequences make one row."""
    if Ranks.of(keys.settings).context > 1 and program.sequence:
        keys.settings["context_parallel_by"] = program.sequence
    if keys.cards == 1:
        keys.settings.pop("shard", None)
    if method:
        return
    keys.settings["method"] = keys.settings.pop("tuner")
    if keys.settings.pop("packing", False):
        rows = keys.settings.get("batch_size", 1)
        keys.settings |= {"batch_size": 1, "seq_len": rows * keys.settings.get("seq_len", 1)}


def _method(keys: KeyReading, program: RewardProgram, verb: str) -> str:
    """Return a run's method; "" for plain fine-tuning."""
    for name in program.method:
        if isinstance(keys.value(name), str):
            keys.knows(name, "method")
            word = str(keys.value(name)).lower()
            return ESTIMATORS.get(word, word)
    words = re.split(r"[^a-z]+", verb.lower())
    if not {"sft", "pt"}.isdisjoint((*words, *keys.data)):
        return ""
    named = (word for word in (*words, *keys.data) if word in learned.NAMES)
    return next(named, program.usual_method)


def _cards(keys: KeyReading, each: str, machines: str, usual: int) -> None:
    """Read the number of cards that train: cards per machine times machines."""
    count = number(keys.value(each, usual))
    several = max(1, number(keys.value(machines)) if machines else 1)
    if not count:
        return
    keys.used.add(machines)
    _count(keys, count * several)
    if keys.value(each) is not None:
        keys.knows(each, SIZES["data"])
    if machines and keys.value(machines) is not None:
        keys.knows(machines, SIZES["data"])


def _count(keys: KeyReading, cards: int) -> None:
    keys.cards = cards
    keys.settings |= Ranks.of(keys.settings).over(cards).settings("data")


def _keys_of(keys: KeyReading, setting: str) -> list[str]:
    return [key for key, to in keys.keys.settings.items() if to == setting]


def _adapted(keys: KeyReading, program: RewardProgram) -> None:
    """Read the LoRA rank; without one above 0, all weights train."""
    ranks = _keys_of(keys, "lora_r")
    rank = next((name for name in ranks if number(keys.value(name))), "")
    keys.used.update((program.targets, *ranks))
    if not rank or keys.settings.get("tuner") == "full":
        keys.settings["tuner"] = "full"
        keys.used.update(_keys_of(keys, "lora_alpha"))
        return
    four = next((n for n in ("ds.load_in_4bit", "load_in_4bit") if keys.on(n)), "")
    keys.settings["tuner"] = "qlora" if four else "lora"
    keys.set("lora_r", keys.value(rank), rank)
    modules = keys.value(program.targets)
    if isinstance(modules, list) and modules and modules != ["all-linear"]:
        keys.set("lora_targets", modules, program.targets)
    else:
        keys.settings["lora_targets"] = "all-linear"


def _writes(keys: KeyReading) -> bool:
    student = keys.settings["method"] == "gkd" and "rollout_engine" in keys.settings
    return student or keys.settings["method"] in REWARDS


# ---- verl and EasyR1


def _verl(keys: KeyReading) -> None:
    layout, fsdp = f"{ACTOR}.megatron", f"{ACTOR}.fsdp_config"
    engine = (keys.value(n) for n in ("model_engine", "config_name", f"{ACTOR}.strategy"))
    if any("megatron" in str(name) for name in engine):
        # of its model's switch nothing
        keys.settings |= {"shard": "zero1", "checkpointing": "none"}
        _megatron(keys, f"{layout}.", f"{layout}.override_transformer_config.")
    else:
        for above in (ACTOR, fsdp):
            _ulysses(keys, f"{above}.ulysses_sequence_parallel_size")
    keys.cards = number(keys.value("trainer.n_gpus_per_node", 8))
    _rows(keys)
    in_loss, in_reward = f"{ACTOR}.use_kl_loss", "algorithm.use_kl_in_reward"
    kl = next((name for name in (in_loss, in_reward) if keys.on(name)), "")
    weight = f"{ACTOR}.kl_loss_coef" if kl == in_loss else "algorithm.kl_ctrl.kl_coef"
    keys.settings["kl_beta"] = 0.0
    if kl:
        keys.set("kl_beta", keys.value(weight) or KL, kl)


def _rows(keys: KeyReading) -> None:
    """Read the rows per forward, or the tokens that fill one. Counts without "per gpu" are over all
    cards."""
    passes = f"{ROLLOUT}.log_prob_max_token_len_per_gpu"
    rows = {f"{ACTOR}.ppo_micro_batch_size": "batch_size"}
    rows |= {f"{ROLLOUT}.log_prob_micro_batch_size": "logprob_batch_size"}
    keys.used.update((passes, *rows, *(f"{name}_per_gpu" for name in rows)))
    if keys.on(f"{ACTOR}.use_dynamic_bsz"):
        if number(keys.value(passes)) > keys.settings["max_tokens_per_gpu"]:
            keys.leave(passes, LONGER)
        return
    ranks = max(1, keys.cards * max(1, number(keys.value("trainer.nnodes"))))
    for name, setting in rows.items():
        if keys.take(f"{name}_per_gpu", setting) is None and number(keys.value(name)):
            keys.set(setting, max(1, keys.value(name) // ranks), name)


def _ulysses(keys: KeyReading, name: str) -> None:
    if number(keys.value(name)) > 1:
        keys.take(name, SIZES["context"])
    keys.used.add(name)


# ---- OpenRLHF


def _openrlhf(keys: KeyReading) -> None:
    """Read an OpenRLHF run. Its roles have separate cards unless they are colocated; the estimate
    is for the actor's."""
    if keys.settings["method"] == "dpo" and (keys.on("model.ipo_enable") or keys.on("ipo")):
        keys.settings["method"] = "ipo"
    if not _writes(keys):
        _unpacked(keys)
        return
    keys.used.add(MOST_TOKENS)
    on = keys.on("train.dynamic_batch_enable") or keys.on("use_dynamic_batch")
    if on and keys.take(MOST_TOKENS, "max_tokens_per_gpu") is None:
        why = sentence("own_name", framework="OpenRLHF", name=MOST_TOKENS)
        keys.default("max_tokens_per_gpu", PACKED, why)
    _together(keys)


def _unpacked(keys: KeyReading) -> None:
    """Note that pairs without padding are estimated at their longest."""
    packs = [one for one in keys.understood if one.setting == "packing"]
    keys.understood = [one for one in keys.understood if one not in packs]
    if keys.settings.pop("packing", None):
        keys.leave(packs[0].key, UNPADDED)


def _together(keys: KeyReading) -> None:
    """Read the engine: on the same cards if all roles are colocated, else on its own."""
    keys.settings["rollout_engine"] = "vllm"
    together = keys.on("train.colocate_all") or keys.on("colocate_all_models")
    if together and not (keys.on("train.async_enable") or keys.on("async_train")):
        return
    sizes = ("num_engines", "tensor_parallel_size")
    count, each = (number(keys.peek(f"vllm.{n}")) or number(keys.peek(f"vllm_{n}")) for n in sizes)
    _apart(keys, max(1, count) * max(1, each))
    if not together:  # the other roles have separate cards, too
        names = ("reward.model_name_or_path", "reward_pretrain")
        keys.used.update((*names, "critic.model_name_or_path", "critic_pretrain"))


def _apart(keys: KeyReading, cards: int) -> None:
    keys.engine_cards = cards
    keys.notes.append(sentence("rewards.apart", cards=cards))


# ---- NeMo-RL, AgileRL, slime, ms-swift


def _nemo_rl(keys: KeyReading) -> None:
    layout = "policy.megatron_cfg"
    megatron = keys.on(f"{layout}.enabled")
    if megatron:
        _megatron(keys, f"{layout}.", f"{layout}.")
        keys.used.add("policy.dtensor_cfg.context_parallel_size")
    else:
        experts = number(keys.peek("policy.dtensor_cfg.expert_parallel_size")) > 1
        for kind in ("tensor", "context", *(("expert",) if experts else ())):
            keys.take(f"policy.dtensor_cfg.{kind}_parallel_size", SIZES[kind])
    _cluster(keys)
    answer, row = "policy.generation.max_new_tokens", "policy.max_total_sequence_length"
    if keys.peek(answer) == keys.peek(row) or not _writes(keys):
        keys.used.add(answer)  # rows are cut to the total length
    if not _writes(keys):
        keys.used.add("policy.logprob_batch_size")


def _cluster(keys: KeyReading) -> None:
    """Read the cards that train: the cluster's minus the engine's own."""
    each, nodes = (
        max(1, number(keys.value(f"cluster.{n}"))) for n in ("gpus_per_node", "num_nodes")
    )
    alone = "policy.generation.colocated"
    total = each * nodes
    if _writes(keys) and keys.value(f"{alone}.enabled") is False:
        of_engine = (keys.value(f"{alone}.resources.{n}") for n in ("gpus_per_node", "num_nodes"))
        inside, machines = (number(value) for value in of_engine)
        _apart(keys, (inside or each) * max(1, machines))
        total = max(1, total - keys.engine_cards)
    _count(keys, total)
    for name in ("cluster.gpus_per_node", "cluster.num_nodes"):
        if keys.value(name) is not None:
            keys.knows(name, SIZES["data"])


def _slime(keys: KeyReading) -> None:
    """Read a Megatron run with an SGLang engine, on the same cards if colocated."""
    _megatron(keys, "", "")
    if not keys.on("colocate"):
        _apart(keys, max(1, number(keys.value("rollout_num_gpus"))))


def _swift(keys: KeyReading) -> None:
    above = "train." if isinstance(keys.data.get("train"), dict) else ""
    _megatron(keys, above, above)
    tuner = str(keys.value(f"{above}tuner_type") or keys.value(f"{above}train_type") or "full")
    keys.settings |= {} if tuner == "lora" else {"tuner": "full"}
    if not _writes(keys):
        keys.take("max_length", "seq_len")


def _megatron(keys: KeyReading, above: str, below: str) -> None:
    """Read Megatron's parallel sizes, whose keys begin with `above`, and its own arguments."""
    for kind in ("tensor", "pipeline", "context", "expert"):
        keys.take(
            f"{above}{kind}_{'' if kind == 'context' else 'model_'}parallel_size", SIZES[kind]
        )
    last, first = (f"{below}num_layers_in_{end}_pipeline_stage" for end in ("last", "first"))
    words = {"decoder_last_pipeline_num_layers": keys.value(last)}
    words |= {"decoder_first_pipeline_num_layers": keys.value(first)}
    words |= {name: keys.value(f"{below}{name}") for name in ARGUMENTS if name not in words}
    words |= _float8(keys, f"{below}fp8_cfg")
    expert = "expert_tensor_parallel_size"
    words[expert] = keys.value(f"{above}{expert}")
    granularity = f"{below}recompute_granularity"
    if words["recompute_granularity"] in ("full", "selective"):
        keys.take(granularity, "checkpointing")
        words |= {name: None for name, usual in AGAIN.items() if words[name] in usual}
    taken = [ALWAYS]
    for name, value in words.items():
        word = name if value is True else f"{name}={value}"
        if value in (None, False, "", "none") or not _argument(word):
            continue
        taken.append(word)
        if keys.value(f"{below}{name}") is not None:
            keys.knows(f"{below}{name}", "megatron_args")
    keys.settings["megatron_args"] = tuple(taken)


def _float8(keys: KeyReading, section: str) -> Mapping[str, Value]:
    """Return Megatron's FP8 arguments from NeMo-RL's names for them."""
    if not keys.on(f"{section}.enabled"):
        return {}
    usual = {"fp8": "e4m3", "fp8_recipe": "blockwise", "fp8_param": None}
    values = (keys.value(f"{section}.{name}", own) for name, own in usual.items())
    return dict(zip(("fp8_format", "fp8_recipe", "fp8_param_gather"), values, strict=True))


def _argument(word: str) -> bool:
    """Return whether `word` is a Megatron argument that weighbridge supports."""
    try:
        read_arguments((word,))
    except UsageError:
        return False
    return True


TAKES: Mapping[str, Callable[[KeyReading], None]] = {
    "verl": _verl,
    "openrlhf": _openrlhf,
    "nemo-rl": _nemo_rl,
    "ms-swift": _swift,
    "slime": _slime,
}


KIND = Kind(
    name="rewards",
    title=sentence("title.rewards"),
    syntaxes=("yaml", "shell"),
    source="https://github.com/volcengine/verl 0.9",
    tells=tells,
    read=read,
)

"""Megatron-LM's command line: `torchrun pretrain_gpt.py ...`, and the arguments of its own tests.

The model is described by the arguments themselves, so that no config is asked of the Hub.

    MODEL_ARGS            of YAML: arguments with their values, as Megatron's tests have them
    megatron sft|pt       ms-swift's, which names a model of the Hub and has defaults of its own

Sources: Megatron-LM d98e8a6 megatron/training/arguments.py, core/transformer/transformer_config.py,
training/tokenizer/tokenizer.py, tests/functional_tests/test_cases; ms-swift 00840e6
swift/megatron/argument/megatron_args.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Unread, Value
from weighbridge.files.runfiles.tables import phrased, table
from weighbridge.files.runfiles.training import arrays, flags, launch
from weighbridge.files.runfiles.training import megatron_mixed as mixed
from weighbridge.models import catalogue
from weighbridge.models.arch.families.megatron import TYPES
from weighbridge.settings.ranks import SIZES, Ranks
from weighbridge.training.megatron import arguments
from weighbridge.training.megatron.adapters import TARGETS
from weighbridge.training.megatron.layout import LAYOUT

KEYS = text_beside(__file__, "megatron.txt")
(GPT,) = TYPES  # the model type of Megatron's arguments
PROGRAMS = ("pretrain_gpt.py", "pretrain_mamba.py", "pretrain_hybrid.py")
SWIFT = "megatron"  # ms-swift's program, before sft and pt
TRAINS = ("sft", "pt")
ARGS = "MODEL_ARGS"
WORDS: Mapping[str, int] = {  # tokenizers with a size in Megatron's code or files
    "GPT2BPETokenizer": 50257,
    "Llama2Tokenizer": 32000,
}
NAMED_WORDS: Mapping[str, int] = {"nemotron_2_256k": 256_000}  # arXiv 2402.16819, section 2
UNKNOWN_WORDS = 128_256  # Llama 3's, for a tokenizer we do not have (assumed)
BY = "cp_comm_type"  # how ranks share a sequence
DROPOUT = 0.1  # Megatron's default for both dropouts
OF_SWIFT: Mapping[str, Value] = {  # ms-swift's defaults, if Megatron's differ
    "micro_batch_size": 1,
    "global_batch_size": 16,
    "use_distributed_optimizer": True,
    "recompute_granularity": "selective",
    "attention_backend": "flash",
    "moe_router_dtype": "fp32",
    "moe_grouped_gemm": True,
    "moe_token_dispatcher_type": "alltoall",
    "moe_aux_loss_coeff": 0.0,
    "expert_tensor_parallel_size": 1,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "no_create_attention_mask_in_dataloader": True,  # rows are packed (padding_free)
    "bf16": True,
}
NAMES_OF_SWIFT: Mapping[str, str] = {"max_length": "seq_length"}
OF_LATENTS: Mapping[str, tuple[str, int | None]] = {  # and its default
    "q_lora_rank": ("q_lora_rank", None),
    "kv_lora_rank": ("kv_lora_rank", 32),
    "qk_head_dim": ("qk_nope_head_dim", 128),
    "qk_pos_emb_head_dim": ("qk_rope_head_dim", 64),
    "v_head_dim": ("v_head_dim", 128),
}
OF_EXPERTS: Mapping[str, tuple[str, int | None]] = {
    "num_experts": ("num_experts", None),
    "moe_router_topk": ("num_experts_per_tok", 2),
    "moe_ffn_hidden_size": ("moe_intermediate_size", None),
    "moe_shared_expert_intermediate_size": ("shared_expert_intermediate_size", None),
    "moe_router_num_groups": ("n_group", None),
}
OF_MODEL = (  # arguments for further keys of the model's config
    *("ffn_hidden_size", "group_query_attention", "num_query_groups", "multi_latent_attention"),
    *("disable_bias_linear", "untie_embeddings_and_output_weights", "moe_layer_freq"),
)
OTHER = re.compile(r"\$(?:\w+|[@*]|\{\w+(?:\[[@*]\])?\})")  # a variable alone
SWITCHES = frozenset(
    (
        *(name for name, each in arguments.ARGUMENTS.items() if each.reads is None),
        *(
            "add_qkv_bias",
            "bf16",
            "fp16",
            "disable_bias_linear",
            "group_query_attention",
            "mock_data",
        ),
        *("multi_latent_attention", "qk_layernorm", "quick_geglu", "swiglu"),
        *("untie_embeddings_and_output_weights", "use_distributed_optimizer", "use_mcore_models"),
        *("overlap_grad_reduce", "overlap_param_gather", "experimental_attention_variant"),
    )
)
MOST_NAMES = 5  # names in one note
DENSE_FIRST = re.compile(r"\(?\[0\]\s*\*\s*(\d+)\s*\+\s*\[1\]\s*\*\s*\d+\)?")  # moe_layer_freq


def tells(document: Document) -> bool:
    """Return whether a document starts Megatron's GPT training, or has arguments of one."""
    if document.syntax == "yaml":
        data = document.data
        return isinstance(data, dict) and isinstance(data.get(ARGS), dict)
    if not any(name in document.text for name in PROGRAMS) and not re.search(
        r"\bmegatron[ \t]+(?:sft|pt)\b", document.text
    ):
        return False
    return next(_started(document), None) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each launch."""
    if document.syntax == "yaml":
        words = _words(document.data[ARGS])
        yield _run(flags.document(document.text, words, document.name), None)
        return
    for each in _started(document):
        each = each._replace(start=each.start._replace(elsewhere=True))
        words = _without_others(each.words)
        arguments = flags.document(document.text, words, document.name)
        if each.program == SWIFT:
            data = {NAMES_OF_SWIFT.get(name, name): value for name, value in arguments.data.items()}
            arguments = replace(arguments, data={**OF_SWIFT, **data})
        run = _run(arguments, each.ranks)
        if each.program == SWIFT and arguments.data.get("packing") is not True:
            unpacked = Unread(key="max_length", line=0, why=sentence("swift.rows"), lowers=True)
            run = replace(run, unread=(*run.unread, unpacked))
        yield replace(
            run,
            notes=(*run.notes, *_partly(document.text, each)),
            unread=(*run.unread, *each.start.not_read),
            refused=run.refused or each.start.refused,
        )


def _partly(text: str, each: launch.Launched) -> Iterator[str]:
    """Yield notes on variables that the script's text does not decide."""
    if arrays.conditional(text):
        yield sentence("script.under_condition")
    unsure = arrays.unsure(text)
    if unsure:
        names = ", ".join(unsure[:MOST_NAMES])
        yield sentence("script.condition", names=names)
    if each.ranks is None and each.program != SWIFT:
        yield sentence("script.devices")
    before = ("", *each.words)
    others = [
        word
        for last, word in zip(before, each.words, strict=False)
        if OTHER.fullmatch(word) and (not last.startswith("-") or _is_switch(last))
    ]
    if others:
        yield sentence("script.not_held", name=others[0])


def _without_others(words: Sequence[str]) -> list[str]:
    """Return the words without unset variables after a switch, which could hold further flags."""
    of_megatron: list[str] = []
    for word in words:
        if not (OTHER.fullmatch(word) and of_megatron and _is_switch(of_megatron[-1])):
            of_megatron.append(word)
    return of_megatron


def _is_switch(word: str) -> bool:
    return word.lstrip("-").replace("-", "_") in SWITCHES


def _started(document: Document) -> Iterator[launch.Launched]:
    for each in launch.started(document, arrays.filled_in(document.text), (SWIFT,)):
        swift = each.program == SWIFT and each.words[0] in TRAINS
        if swift or each.program.rpartition("/")[2] in PROGRAMS:
            yield each


def _words(named: Mapping[str, Any]) -> list[str]:
    """Return the arguments of a YAML file as a command line."""
    words: list[str] = []
    for name, value in named.items():
        if value is False:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [str(name), *map(str, values)]
    return words


def _run(arguments: Document, ranks: int | None) -> PlannedRun:
    keys = reading(arguments, KEYS)
    keys.settings |= {"framework": "megatron", "method": "full"}
    named = keys.text("model")
    described = isinstance(keys.value("hidden_size"), int)  # else only --model can name the model
    config = _config(keys) if described and not named else {}
    _arguments(keys)
    keys.plain()
    refused = rules.decide(keys, "Megatron")
    refused = mixed.refused(keys) or refused or _width(keys)
    if keys.settings["method"] == "lora":
        _targets(keys)
    _batches(keys, ranks)
    run = keys.run(named, refused=refused)
    return replace(run, config=config)


def _width(keys: KeyReading) -> str:
    """Return why the width is invalid, so that the arguments describe no model; "" if it is
    valid."""
    width = keys.value("hidden_size")
    if not keys.text("model") and width is not None and not isinstance(width, int):
        return f"--hidden-size is {shown(width)}, which is no number: --model names the model"
    return ""


def _targets(keys: KeyReading) -> None:
    named = keys.value("target_modules")
    modules = [named] if isinstance(named, str) else named or []
    if all(name == "all-linear" or name in TARGETS for name in modules):
        keys.used.add("target_modules")
        keys.settings["lora_targets"] = modules or ["all-linear"]
    else:
        keys.leave("target_modules", "+ adapters of other modules are not counted")


# ---- the model


def _config(keys: KeyReading) -> dict[str, Value]:
    """Return the transformers config of the model that the arguments describe."""
    if mixed.pattern(keys):
        return mixed.config(keys, _vocabulary(keys))
    config: dict[str, Value] = {"model_type": GPT, "architectures": ["GPTModel"]}
    for name, ours in table(KEYS).names["config"].items():
        value = keys.value(name)
        if value is not None:
            config[ours] = value
            keys.knows(name, "model")
    latent = keys.on("multi_latent_attention")
    config |= _widths(keys)
    if not latent:
        grouped = keys.on("group_query_attention")
        heads = keys.value("num_attention_heads")
        config["num_key_value_heads"] = keys.value("num_query_groups", 1) if grouped else heads
    width = keys.value("hidden_size")
    experts = f", {keys.value('num_experts')} experts" if keys.value("num_experts") else ""
    name = f"GPT of {keys.value('num_layers')} layers, {width} wide{experts}"
    config["_name_or_path"] = name
    if latent:
        config |= _named(keys, OF_LATENTS)
    if keys.value("num_experts"):
        config |= _named(keys, OF_EXPERTS)
        config.setdefault("moe_intermediate_size", config["intermediate_size"])
        config |= _dense_first(keys)
    config["vocab_size"] = _vocabulary(keys)
    _used(keys, *OF_MODEL)
    return config


def _widths(keys: KeyReading) -> dict[str, Value]:
    """Return the config's keys for the MLP, the embedding and the output layer."""
    width = keys.value("hidden_size")
    gated = keys.on("swiglu")
    usual = 4 * width if isinstance(width, int) else None
    if gated and isinstance(width, int):  # rounded down to 64 (arguments.py)
        usual = int(4 * width * 2 / 3 / 64) * 64
    return {
        **({"swiglu": True} if keys.on("quick_geglu") else {}),
        "intermediate_size": keys.value("ffn_hidden_size", usual),
        "add_bias_linear": not keys.on("disable_bias_linear"),
        "tie_word_embeddings": not keys.on("untie_embeddings_and_output_weights"),
    }


def _named(keys: KeyReading, names: Mapping[str, tuple[str, int | None]]) -> dict[str, Value]:
    values = {ours: keys.value(name, usual) for name, (ours, usual) in names.items()}
    _used(keys, *names)
    return {ours: value for ours, value in values.items() if value is not None}


def _used(keys: KeyReading, *names: str) -> None:
    """Mark arguments as understood that describe the model."""
    for name in names:
        if keys.value(name) is not None:
            keys.knows(name, "model")


def _dense_first(keys: KeyReading) -> dict[str, Value]:
    """Return the config's number of first layers without experts, from [0]*3+[1]*58."""
    layout = keys.value("moe_layer_freq", 1)
    match = DENSE_FIRST.fullmatch(str(layout).strip())
    if match is not None:
        return {"first_k_dense_replace": int(match[1])}
    if layout != 1:
        keys.leave("moe_layer_freq", "every layer is counted with experts")
    return {}


def _vocabulary(keys: KeyReading) -> int:
    """Return the vocabulary size: as stated, as Megatron knows it for the tokenizer, or that of the
    tokenizer's model."""
    vocabulary = keys.value("vocab_size")
    if isinstance(vocabulary, int) and vocabulary > 0:
        keys.knows("vocab_size", "model")
        return vocabulary
    kind = keys.text("tokenizer_type") or "GPT2BPETokenizer"
    entry = catalogue.of_repository(keys.text("tokenizer_model"))
    named = PurePosixPath(keys.text("tokenizer_model") or "").stem
    known = NAMED_WORDS.get(named, WORDS.get(kind))
    size = entry.config.get("vocab_size") if entry is not None else known
    if isinstance(size, int):
        return size
    keys.leave(
        "tokenizer_type",
        f"how many words it has is not said: {UNKNOWN_WORDS:,} are counted; --vocab-size says it",
    )
    return UNKNOWN_WORDS


# ---- the run


def _arguments(keys: KeyReading) -> None:
    """Read Megatron's own arguments that affect memory, if no setting of ours stands for them."""
    words: list[str] = []
    keys.take(SIZES["context"], SIZES["context"])
    several = Ranks.of(keys.settings).context > 1
    by = several and keys.take(BY, "context_parallel_by", arguments.CONTEXT_BY.get)
    for name in (name for name in arguments.ARGUMENTS if not by or name != BY):
        value = keys.value(name)
        if value is None or value is False:
            continue
        word = name if value is True else f"{name}={_joined(value)}"
        try:
            arguments.read((word,))
        except UsageError as error:
            keys.leave(name, f"+ it is not weighed: {error}")
            continue
        words.append(word)
        keys.knows(name, "megatron_args")
    if parts := mixed.layout(keys):
        words.append(f"{LAYOUT}={parts}")
    drops = (name for name in ("hidden_dropout", "attention_dropout") if keys.value(name) is None)
    words += [f"{name}={DROPOUT}" for name in drops]
    keys.settings["megatron_args"] = tuple(words)


def _joined(value: Value) -> str:
    """Return a value as one word, without commas, which have no meaning in a layout."""
    return "+".join(map(str, value)) if isinstance(value, list) else str(value).replace(",", "")


def _batches(keys: KeyReading, ranks: int | None) -> None:
    """Read the micro-batches per step, which depend on the ranks. A launcher that starts too few
    ranks is one of several machines."""
    whole, each = keys.value("global_batch_size"), keys.settings.get("batch_size", 1)
    if ranks is None:
        return
    by = Ranks.of(keys.settings).over(ranks)
    within = int(keys.value("expert_tensor_parallel_size", by.tensor))
    if ranks < max(by.copy, by.pipeline * by.expert * within):
        keys.notes.append(sentence("script.processes", count=ranks))
        return
    data = keys.settings[SIZES["data"]] = by.data
    if isinstance(whole, int) and whole > 0:
        keys.set("gradient_accumulation", max(1, whole // (each * data)), "global_batch_size")


# A change in its place

WRITTEN: Mapping[str, str] = {"seq_len": "seq_length", "batch_size": "micro_batch_size"}


def written(change: Mapping[str, Value]) -> Mapping[str, Value] | None:
    """Return changed settings of ours as Megatron's arguments, None if it lacks one for them. The
    micro-batches of a step follow from the global batch."""
    changes = {name: value for name, value in change.items() if name != "gradient_accumulation"}
    return phrased(changes, WRITTEN, {})


KIND = Kind(
    name="megatron",
    title=sentence("title.megatron"),
    syntaxes=("shell", "yaml"),
    source="https://github.com/NVIDIA/Megatron-LM @ d98e8a6",
    tells=tells,
    read=read,
    written=written,
)

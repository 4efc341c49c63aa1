"""axolotl's YAML, read into the settings of the run that it starts.

Sources: axolotl @ 067b021c: utils/schemas/config.py (names and defaults: sequence_len 512,
gradient_checkpointing false, bf16 "auto"), utils/schemas/training.py (micro_batch_size 1, optimizer
adamw_torch_fused), utils/schemas/peft.py, utils/schemas/fsdp.py, loaders/adapter.py
(lora_target_linear), deepspeed_configs/ (what its own files of that name hold).
"""

import os
from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import (
    NEITHER,
    VARIABLE,
    KeyReading,
    phrased,
    reading,
    table,
    worded,
)
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.files.runfiles.training import arguments, learned
from weighbridge.files.runfiles.training.arguments import fsdp, fsdp_words, groups, zero_beside
from weighbridge.files.runfiles.training.zero import contradicted
from weighbridge.training.learning.words import section

KEYS = arguments.merged(text_beside(__file__, "axolotl.txt"), section("axolotl-keys"))
LEARNED = learned.keys_of("axolotl", KEYS)
OWN = (
    "axolotl",
    "sample_packing",
    "micro_batch_size",
    "sequence_len",
    "load_in_4bit",
    "val_set_size",
)
# ring_attn_func, of ring-flash-attention, and `context_parallel.backend` of later releases
SEQUENCES = table(KEYS).names["ring_attn_func"]
LOSSES = {"liger_fused_linear_cross_entropy": "liger", "chunked_cross_entropy": "chunked"}
# Its own files of deepspeed_configs/, by what their names begin with: a value of `shard`
ZERO = ("zero1", "zero2", "zero3")

# utils/schemas/validation.py (check_lora_8bit and its like)
NO_FOUR_BITS = "axolotl does not start with qlora but with load_in_4bit: true; without, it is LoRA"


def tells(document: Document) -> bool:
    """Tell whether a document is axolotl's: `base_model` beside a key that few others have."""
    data = document.data
    return isinstance(data, dict) and "base_model" in data and any(key in data for key in OWN)


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a config starts."""
    method = _learns(document.data)
    keys = reading(document, LEARNED if method else KEYS)
    keys.settings["framework"] = "axolotl"
    keys.take("base_model", "model")
    named = keys.text("base_model")
    model = named if os.path.isdir(named) else model_of(named)
    if keys.take("sequence_len", "seq_len") is None:
        keys.default("seq_len", 512, sentence("own_name", framework="axolotl", name="sequence_len"))
    sizes = (keys.take(name, "batch_size") for name in ("micro_batch_size", "batch_size"))
    if next((size for size in sizes if size is not None), None) is None:
        keys.default(
            "batch_size", 1, sentence("own_name", framework="axolotl", name="micro_batch_size")
        )
    _method(keys)
    _precision(keys)
    _kernels(keys)
    _sharding(keys)
    refused = _refused(keys, method)
    if method and not refused:
        _learning(keys, method)
    keys.plain()
    _sequence(keys)
    yield keys.run(model, refused=refused or contradicted(keys))


def _learns(data: Mapping[str, Value]) -> str:
    """Return what a config learns from rewards or preferences; "" of fine-tuning."""
    rl = str(data.get("rl") or "").lower()
    if data.get("reward_model") is True:
        return "reward"
    return "" if not rl or "$" in rl else learned.NAMES.get(rl, rl)


def _refused(keys: KeyReading, method: str) -> str:
    """Return why a run is not answered."""
    keys.used.add("rl")
    refused = learned.refusal(method)
    for group in ("ebft", "hatchery", *(("trl", "vllm") if refused else ())):
        keys.used.update((group, f"{group}.*"))
        keys.used.update(f"{group}.{name}" for name in keys.value(group) or {})
    if any("hatchery" in str(plugin) for plugin in keys.value("plugins") or ()):
        return "the hatchery plugin trains on another service's machines"
    return refused


def _learning(keys: KeyReading, method: str) -> None:
    """Take what stands in `trl` and `vllm` by the names of TRL's own arguments."""
    inner = {**(keys.value("trl") or {})}
    inner |= {f"vllm_{name}": value for name, value in (keys.value("vllm") or {}).items()}
    keys.document = replace(keys.document, data={**keys.data, **inner})
    learned.take(keys, method)
    known = [key for key in keys.keys.settings if key.startswith(("trl.", "vllm."))]
    keys.used.update(key.removeprefix("trl.").replace(".", "_") for key in known)
    named = {f"{group}.{name}" for group in ("trl", "vllm") for name in keys.value(group) or {}}
    keys.used.update(("reward_model", *named.difference(known)))


def _method(keys: KeyReading) -> None:
    adapter = str(keys.value("adapter") or "").lower()
    bits = next((n for n in ("load_in_4bit", "load_in_8bit") if keys.on(n)), "")
    keys.used.update(("load_in_4bit", "load_in_8bit"))
    if adapter in ("lora", "qlora"):
        _adapters(keys, adapter, bits)
    elif adapter in ("", "none"):
        keys.settings["method"] = "full"
        keys.used.update(name for name in keys.data if name.startswith(("lora_", "peft_")))
        if bits:
            keys.leave(bits, "it packs a base, and no adapter is trained beside it")
    elif "$" in adapter:
        keys.leave("adapter", "it is a variable, whose value is not in the file")
    else:
        keys.leave("adapter", f"{adapter:.40} is not counted")


def _adapters(keys: KeyReading, adapter: str, bits: str) -> None:
    dora, packed = keys.on("peft_use_dora"), bits == "load_in_4bit"
    keys.set("method", "dora" if dora else "qlora" if packed else "lora", "adapter")
    if adapter == "qlora" and not packed:
        keys.leave("adapter", NO_FOUR_BITS)
    if dora:
        keys.knows("peft_use_dora", "method")
    _packed(keys, bits, dora=dora)
    _experts(keys, packed=packed)
    _targets(keys)
    if keys.take("lora_r", "lora_r") is None:
        keys.notes.append(sentence("axolotl.lora_r"))


def _packed(keys: KeyReading, bits: str, *, dora: bool) -> None:
    """Take the format of a base: four bits are QLoRA's, but for DoRA."""
    four = bits == "load_in_4bit"
    if four and not dora:
        keys.knows(bits, "method")
    elif bits:
        keys.set("quantization", "nf4-dq" if four else "bnb-int8", bits)


def _experts(keys: KeyReading, *, packed: bool) -> None:
    """Take whether experts are packed as the other layers are: in four bits alone."""
    if not keys.on("quantize_moe_experts"):
        return
    if packed:
        keys.set("quantize_moe_experts", True, "quantize_moe_experts")
    else:
        keys.leave("quantize_moe_experts", "experts in 8 bits are not counted")


def _targets(keys: KeyReading) -> None:
    modules = keys.value("lora_target_modules")
    if modules:
        keys.set("lora_targets", modules, "lora_target_modules")
    if keys.on("lora_target_linear"):
        keys.set("lora_targets", "all-linear", "lora_target_linear")


def _precision(keys: KeyReading) -> None:
    bf16 = keys.value("bf16", "auto")
    for name, precision in (("bfloat16", "bf16"), ("float16", "fp16"), ("fp8", "fp8-mixed")):
        if keys.on(name):
            keys.set("precision", precision, name)
            return
    if keys.on("fp16"):
        keys.set("precision", "fp16-mixed", "fp16")
    elif bf16 in (True, "auto", "full", "true"):
        keys.settings["precision"] = "bf16-mixed"
        if "bf16" in keys.data:
            keys.knows("bf16", "precision")
    elif bf16 in (False, "false"):
        keys.set("precision", "fp32", "bf16")
    elif bf16 is not None and not VARIABLE.search(str(bf16)):
        keys.leave("bf16", NEITHER.format(shown(bf16)))
        keys.settings["precision"] = "bf16-mixed"


def _loss(keys: KeyReading) -> None:
    """Take the loss that a plugin puts in place of torch's."""
    plugins = " ".join(map(str, keys.value("plugins") or ()))
    if "cut_cross_entropy" in plugins and keys.value("cut_cross_entropy", True) is not False:
        keys.set("loss", "cce", "plugins")
        keys.used.add("cut_cross_entropy")
    for name, loss in LOSSES.items():
        if keys.on(name) and (loss != "liger" or "liger" in plugins):
            keys.set("loss", loss, name)
        elif keys.on(name):
            keys.leave(name, "the plugin that does it is not among `plugins`")


def _kernels(keys: KeyReading) -> None:
    keys.take("optimizer", "optimizer")
    _checkpoints(keys)
    keys.means("attn_implementation", "attention")
    keys.used.add("sdp_attention")  # torch chooses, as we do
    for name in ("flash_attention", "flex_attention", "eager_attention"):
        if keys.on(name):
            keys.set("attention", "eager" if name.startswith("eager") else "flash", name)
    _loss(keys)
    if keys.on("sample_packing"):
        keys.knows("sample_packing", "seq_len")
    keys.take("eval_batch_size", "eval_batch_size")


def _checkpoints(keys: KeyReading) -> None:
    asked = keys.value("gradient_checkpointing")
    meant = keys.keys.values["gradient_checkpointing"].get(str(asked).lower())
    if asked is None:
        keys.default(
            "checkpointing",
            "none",
            sentence("own_name", framework="axolotl", name="gradient_checkpointing: false"),
        )
    elif meant is None:
        keys.leave("gradient_checkpointing", "its value is not known")
    else:
        keys.set("checkpointing", meant, "gradient_checkpointing")
    if isinstance(keys.value("gradient_checkpointing_kwargs.use_reentrant"), bool):
        keys.take("gradient_checkpointing_kwargs.use_reentrant", "use_reentrant")


def _sharding(keys: KeyReading) -> None:
    fsdp(keys)
    named = keys.value("deepspeed")
    if not named:
        return
    if not keys.text("deepspeed"):
        keys.leave("deepspeed", "it is a variable, whose value is not in the file")
        return
    if zero_beside(keys, "deepspeed"):
        return
    base = str(named).rpartition("/")[2].lower()
    stage = next((shard for shard in ZERO if base.startswith(shard)), None)
    if stage is None:
        keys.lacks("deepspeed", str(named))
        return
    keys.set("shard", stage, "deepspeed")
    if "cpuoffload_params" in base or "cpuoffload_all" in base:
        keys.settings["offload"] = "params"
    keys.notes.append(sentence("base.of_axolotl", base=base))


def _sequence(keys: KeyReading) -> None:
    """Take how ranks of a sequence see all of it: packed samples gather one head after the other,
    others go round (utils/schemas/validation.py, validate_ring_attn_func)."""
    size, asked = "context_parallel.size", ("ring_attn_func", "context_parallel.backend")
    keys.used.update((*asked, "context_parallel"))
    if keys.value(size) is not None:
        keys.take(size, "context_parallel_size")
    if keys.value("heads_k_stride") in (None, 1):
        keys.used.add("heads_k_stride")
    if (keys.settings.get("context_parallel_size") or 1) == 1:
        return
    for name in asked:
        if keys.take(name, "context_parallel_by", lambda way: SEQUENCES.get(str(way))):
            return
        if keys.value(name) is not None:
            keys.leave(name, "it chooses by heads and machines, which is not counted")
    if keys.on("sample_packing"):
        keys.set("context_parallel_by", "heads", "sample_packing")


# A change of settings, in the words of the file

WRITTEN = table(KEYS).names["written"]
SAID = {each: words for each, words in table(KEYS).phrases.items() if each[0] != "offload"}
EIGHT_BITS = ("adamw_8bit", "adamw_bnb_8bit")  # as an enum of 0.19 has them
OFFLOADS = "deepspeed_configs/zero3_bf16_cpuoffload_all.json"
NEW: Mapping[str, Value] = {  # what it asks for, and decides no memory
    "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}],
    "num_epochs": 1,
    "learning_rate": 0.0002,
    "output_dir": "./out",
}


def _refuses(settings: Mapping[str, Value]) -> str:
    """Say what axolotl refuses of a run; "" where it is nothing."""
    way = settings.get("context_parallel_by")
    if way in ("ulysses", "allgather"):
        return sentence("emit.ring_alone", way=way)
    if settings["context_parallel_size"] > 1 and settings["attention"] != "flash":
        return sentence("emit.flash_alone")
    if settings["shard"] == "fsdp2" and settings["optimizer"] in EIGHT_BITS:
        return sentence("emit.refuses_optimizer", name=settings["optimizer"])
    return ""


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file that starts a run. Raises UsageError for what axolotl 0.19
    refuses (utils/schemas/validation.py)."""
    refused = _refuses(run.settings)
    if refused:
        raise UsageError(refused, where="--emit axolotl")
    names = {
        **WRITTEN,
        "use_reentrant": "gradient_checkpointing_kwargs.use_reentrant",
        "lora_targets": "lora_target_modules",
    }
    words = {"base_model": run.model, **worded(run.settings, KEYS, names, SAID), **NEW}
    shard = str(run.settings["shard"])
    if shard.startswith(("fsdp", "hsdp")):
        words |= fsdp_words(run.settings)
        if shard == "hsdp":
            words |= groups(run.settings)
    elif shard == "zero3" and run.settings["offload"] == "params":
        words["deepspeed"] = OFFLOADS
    return words


KIND = Kind(
    name="axolotl",
    title=sentence("title.config", program="axolotl"),
    syntaxes=("yaml",),
    source="https://github.com/axolotl-ai-cloud/axolotl @ 067b021c",
    tells=tells,
    read=read,
    written=partial(phrased, names=WRITTEN, phrases=SAID),
    fresh=fresh,
)

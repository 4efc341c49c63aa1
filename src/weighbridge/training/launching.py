"""The lines of Python that train a model as it was sized, or why there are none.

    import torch; from transformers import LlamaForCausalLM, TrainingArguments; model =
        LlamaForCausalLM.from_pretrained("org/name", dtype=torch.float32); args =
        TrainingArguments("out", per_device_train_batch_size=1, bf16=True); tokens = {...}

The Trainer is handed its model, adapters and arguments; TRL's SFTTrainer is told what to make.
Source: transformers 5.23 training_args.py (fsdp, fsdp_config, deepspeed, optim); trl 1.16
trainer/sft_config.py, base_config.py; PEFT 0.21 tuners/lora/config.py, utils/other.py.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.engines.transformers.derived import IMPLEMENTATIONS, OFF
from weighbridge.quantization.on_load import ConfigCall, dequantizing, written
from weighbridge.records import dataclass
from weighbridge.workload import Train

WRITES = ("trainer", "trl")
CONFIGS = {"trainer": "TrainingArguments", "trl": "SFTConfig"}
# Switches of the loss: what each framework does without one, and with use_liger_kernel
LOSSES: Mapping[str, Mapping[str, bool]] = {
    "trainer": {"standard": False, "liger": True},
    "trl": {"trl": False, "liger": True},
}
UPCASTS = {"trainer": ("none", "peft"), "trl": ("none", "trl")}
CHECKPOINTS = {"none": False, "full": True}
# transformers 5.23 training_args.py (OptimizerNames), of those whose memory we know
_OPTIMIZERS = """
adamw_torch adamw_torch_fused adafactor adamw_torch_4bit adamw_torch_8bit ademamix sgd adagrad
adamw_bnb_8bit adamw_8bit ademamix_8bit lion_8bit lion_32bit paged_adamw_32bit paged_adamw_8bit
paged_ademamix_32bit paged_ademamix_8bit paged_lion_32bit paged_lion_8bit rmsprop rmsprop_bnb
rmsprop_bnb_8bit rmsprop_bnb_32bit lomo adalomo grokadamw schedule_free_radam schedule_free_adamw
schedule_free_sgd stable_adamw
"""
OPTIMIZERS = frozenset(_OPTIMIZERS.split())
MIXED = {"bf16-mixed": "bf16", "fp16-mixed": "fp16"}
PRECISIONS = (*MIXED, "bf16", "fp16", "fp32")
SHARDS = ("none", "ddp", "zero1", "zero2", "zero3", "fsdp2")
RANKS = ("tensor", "pipeline", "context", "expert")
# What a line has no words for, where the user asked for it
ELSEWHERE = (
    *("optim_args", "compile", "optimizer_in_backward", "padded", "gptq_kernel", "images"),
    *("image_size", "audio_seconds", "base_model", "engine_version", "framework_version"),
    *("torch_version", "bitsandbytes_version", "accelerate_version", "deepspeed_version"),
    *("zero_reduce_bucket_size", "zero_prefetch_bucket_size", "zero_overlap_comm", "no_zero_init"),
    *("zero_param_persistence_threshold", "zero_max_live_parameters", "zero_sub_group_size"),
)


@dataclass(frozen=True, slots=True)
class TrainingLine:
    """A line to paste, or a sentence that says why there is none."""

    text: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class TrainerRun:
    """One run: `settings` has every setting as it was used, `asked` what the user said."""

    settings: Mapping[str, Any]
    asked: Train
    model: str  # what from_pretrained is given
    cls: str
    stored: str = ""  # the format that its files are packed in, and the quant_method of its config
    method: str = ""

    @property
    def framework(self) -> str:
        return str(self.settings["framework"])

    @property
    def zero(self) -> bool:
        return str(self.settings["shard"]).startswith("zero")

    @property
    def packs(self) -> ConfigCall | None:
        """Return the config of bitsandbytes and others where the loader packs, or the one that
        unpacks what is stored packed."""
        form = self.settings["quantization"]
        if form is None:
            return dequantizing(self.method) if self.stored else None
        return None if form == self.stored else written(form, self._computes)

    @property
    def _computes(self) -> str:
        """Return the dtype of products with unpacked weights: autocast's, else the one they were
        loaded in."""
        mixed = {"bf16-mixed": "bfloat16", "fp16-mixed": "float16"}
        return mixed.get(str(self.settings["precision"]), str(self.settings["dtype"]))


def line(run: TrainerRun) -> TrainingLine:
    why = unwritten(run)
    if why:
        return TrainingLine(why=f"no line to paste: {why}")
    script = _trl if run.framework == "trl" else _trainer
    return TrainingLine("; ".join((*_imports(run), *_kernels(run), *script(run))))


def start(count: int) -> str:
    """Return what starts a line's script on several devices; "" of one."""
    return f"start it with torchrun --nproc-per-node {count}" if count > 1 else ""


def unwritten(run: TrainerRun) -> str:
    """Return what the framework cannot be asked for in a line; "" where it can."""
    t = run.settings
    if run.framework not in WRITES:
        return f"{run.framework} is told by files of its own; lines are for {' and '.join(WRITES)}"
    if not run.model:
        return "a config alone has no weights to load; give a repository or a folder"
    if not run.cls.isidentifier():
        return f"{run.cls} is several models"
    checks: tuple[tuple[str, Any, Any], ...] = (
        ("loss", t["loss"], LOSSES[run.framework]),
        ("checkpointing", t["checkpointing"], CHECKPOINTS),
        ("optimizer", t["optimizer"], OPTIMIZERS),
        ("precision", t["precision"], PRECISIONS),
        ("shard", t["shard"], SHARDS),
        ("offload", t["offload"], ("none", "optimizer", "params")),
        ("kbit-upcast", t["kbit_upcast"], UPCASTS[run.framework]),
    )
    for name, value, known in checks:
        if value not in known:
            return f"{run.framework} has no switch for --{name} {value}"
    return _beside(run)


def _beside(run: TrainerRun) -> str:
    for name in ELSEWHERE:
        if getattr(run.asked, name) not in (None, False):
            return f"--{name.replace('_', '-')} is said elsewhere"
    if any(int(run.settings[f"{name}_parallel_size"]) > 1 for name in RANKS):
        return "ranks that share a layer or a sequence are accelerate's own settings"
    if run.settings["offload"] == "optimizer" and not run.zero:
        return "only DeepSpeed keeps states alone on the host"
    return _packed(run)


def _packed(run: TrainerRun) -> str:
    """Say why no loader gives the format of a run; "" where one does. What is packed is not packed
    again: transformers raises ValueError since 4.56 (quantizers/auto.py,
    merge_quantization_configs), and kept the checkpoint's own format before."""
    form = run.settings["quantization"]
    if form == (run.stored or None):
        return ""
    if form is None:
        return "" if run.packs else f"transformers has no switch that unpacks {run.stored}"
    if run.stored:
        return f"the checkpoint is packed in {run.stored} already, and is not packed again"
    return "" if run.packs else f"{form} is read from a checkpoint that is stored so"


def _imports(run: TrainerRun) -> Iterator[str]:
    config, t = run.packs, run.settings
    names = [run.cls] if run.framework == "trainer" else []
    names += ["TrainingArguments"] if run.framework == "trainer" else []
    names += [config.name] if config is not None else []
    yield "import torch"
    if names:
        yield f"from transformers import {', '.join(sorted(names))}"
    if t["lora_r"]:
        peft = ["LoraConfig"]
        peft += ["get_peft_model"] if run.framework == "trainer" else []
        peft += ["prepare_model_for_kbit_training"] if t["kbit_upcast"] == "peft" else []
        yield f"from peft import {', '.join(peft)}"
    if run.framework == "trl":
        yield "from trl import SFTConfig"


def _kernels(run: TrainerRun) -> Iterator[str]:
    for name in OFF.get(run.settings["attention"] or "", ()):
        yield f"torch.backends.cuda.enable_{name}_sdp(False)"


def _trainer(run: TrainerRun) -> Iterator[str]:
    t = run.settings
    loaded = ", ".join([json.dumps(run.model), *_loading(run)])
    yield f"model = {run.cls}.from_pretrained({loaded})"
    if t["kbit_upcast"] == "peft":
        checkpoints = CHECKPOINTS[t["checkpointing"]]
        arguments = f"model, use_gradient_checkpointing={checkpoints}"
        yield f"model = prepare_model_for_kbit_training({arguments})"
    if t["lora_r"]:
        yield f"model = get_peft_model(model, {_adapters(run)})"
    yield f"args = TrainingArguments({', '.join(_arguments(run))})"
    yield f'tokens = {{"truncation": True, "max_length": {t["seq_len"]}}}'


def _trl(run: TrainerRun) -> Iterator[str]:
    yield f"model = {json.dumps(run.model)}"
    if run.settings["lora_r"]:
        yield f"peft_config = {_adapters(run)}"
    loading = ", ".join(_loading(run))
    length = f"max_length={run.settings['seq_len']}"
    arguments = ", ".join((*_arguments(run), length, f"model_init_kwargs=dict({loading})"))
    yield f"args = SFTConfig({arguments})"


def _loading(run: TrainerRun) -> Iterator[str]:
    yield f"dtype=torch.{run.settings['dtype']}"
    config = run.packs
    if config is not None:
        yield f"quantization_config={call(config, run.asked.bnb_4bit_quant_storage)}"
    kernel = run.settings["attention"] or ""
    if kernel in IMPLEMENTATIONS:
        yield f'attn_implementation="{IMPLEMENTATIONS[kernel]}"'


def call(call: ConfigCall, storage: str | None = None) -> str:
    """Return a quantization_config; `storage` is the dtype that packed weights are stored in."""
    arguments = [f"{name}={value!r}" for name, value in call.arguments.items()]
    arguments += [f"{name}=torch.{value}" for name, value in call.dtypes.items()]
    arguments += [f"bnb_4bit_quant_storage=torch.{storage}"] if storage is not None else []
    return f"{call.name}({', '.join(arguments)})"


def _adapters(run: TrainerRun) -> str:
    t = run.settings
    lora = [f"r={t['lora_r']}", f"lora_alpha={t['lora_alpha']}"]
    targets = list(t["lora_targets"])
    lora.append(f"target_modules={json.dumps(targets[0] if len(targets) == 1 else targets)}")
    lora += [f"lora_dropout={t['lora_dropout']}"] if t["lora_dropout"] else []
    lora += ["use_dora=True"] if t["method"] == "dora" else []
    lora += ["use_rslora=True"] if t["use_rslora"] else []
    lora += [f"modules_to_save={json.dumps(t['modules_to_save'])}"] if t["modules_to_save"] else []
    return f"LoraConfig({', '.join(lora)})"


def _arguments(run: TrainerRun) -> Iterator[str]:
    t = run.settings
    yield '"out"'
    yield f"per_device_train_batch_size={t['batch_size']}"
    yield f"gradient_accumulation_steps={t['gradient_accumulation']}"
    if t["eval_batch_size"]:
        yield f'eval_strategy="steps", per_device_eval_batch_size={t["eval_batch_size"]}'
    yield f"gradient_checkpointing={CHECKPOINTS[t['checkpointing']]}"
    if run.asked.use_reentrant is not None:
        yield f"gradient_checkpointing_kwargs={ {'use_reentrant': run.asked.use_reentrant}!r}"
    yield f"optim={json.dumps(t['optimizer'])}"
    yield f"bf16={t['precision'] == 'bf16-mixed'}"
    if t["precision"] == "fp16-mixed":
        yield "fp16=True"
    if LOSSES[run.framework][t["loss"]]:
        yield "use_liger_kernel=True"
    yield from _shards(run)


def _shards(run: TrainerRun) -> Iterator[str]:
    t = run.settings
    if t["shard"] == "fsdp2":
        config: dict[str, Any] = {"version": 2}
        config |= {"cpu_offload": True} if t["offload"] == "params" else {}
        config |= {"cpu_ram_efficient_loading": True} if t["cpu_ram_efficient_loading"] else {}
        yield f"fsdp=True, fsdp_config={config!r}"
    if run.zero:
        yield f"deepspeed={_deepspeed(run)!r}"


def _deepspeed(run: TrainerRun) -> dict[str, Any]:
    """DeepSpeed's configuration; what is "auto" the Trainer fills in."""
    away, stage = run.settings["offload"], int(run.settings["shard"][-1])
    share: dict[str, Any] = {"stage": stage, "reduce_bucket_size": "auto"}
    if stage == 3:
        share["stage3_prefetch_bucket_size"] = "auto"
        share["stage3_param_persistence_threshold"] = "auto"
    if away != "none":
        share["offload_optimizer"] = {"device": "cpu"}
    if away == "params":
        share["offload_param"] = {"device": "cpu"}
    kinds = {name: {"enabled": "auto"} for name in ("bf16", "fp16")}
    batch = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size")
    return {"zero_optimization": share, **kinds, **dict.fromkeys(batch, "auto")}

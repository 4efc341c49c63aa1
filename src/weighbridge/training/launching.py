"""Settings of the Trainer and TRL that train a model as estimated, or why there are none: no
switch, several cards that split a layer, a format that no loader makes.

    TrainerRun      one run; scripts.py writes its file
    unwritten()     the reason if there is no script
    start()         the command that starts it
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.records import dataclass
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import release
from weighbridge.engines.engine import release_of
from weighbridge.engines.table import engine
from weighbridge.engines.transformers.rules import NEWEST
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.models.quantization.on_load import ConfigCall, dequantizing, written
from weighbridge.settings.ranks import SHAPE, SIZES, Ranks
from weighbridge.workload import Train
from weighbridge.workload.train import LEARNS, TUNERS

WRITES = ("trainer", "trl")
# Switches of the loss: each framework's without one, and with use_liger_kernel
LOSSES: Mapping[str, Mapping[str, bool]] = {
    "trainer": {"standard": False, "liger": True},
    "trl": {"trl": False, "liger": True},
}
UPCASTS = {"trainer": ("none", "peft"), "trl": ("none", "trl")}
CHECKPOINTS = {"none": False, "full": True}
# transformers 5.23 training_args.py (OptimizerNames), those whose memory is known
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
# Classes that have a loss, by what their names end in: the rows of each are known
NEXT, MASKED, SEEN = ("ForCausalLM", "LMHeadModel"), ("ForMaskedLM",), ("ForImageClassification",)
BOTH = ("ForConditionalGeneration",)
CLASSES = (*NEXT, *MASKED, *SEEN, *BOTH)
LEARNED = {  # a method -> prefix of TRL's trainer and config classes
    **{name: name.upper() for name in ("dpo", "grpo", "kto", "orpo", "cpo", "rloo")},
    "reward": "Reward",
    "ipo": "DPO",
    "simpo": "CPO",
}
# Settings of reference, critic and engine that TRL's arguments do not have
OF_ROLES = (
    *("critic", "reward_model", "entropy", "logprob_batch_size", "max_tokens_per_gpu", "packing"),
    *("rollout_version", "rollout_gpu", "rollout_offload", "max_num_seqs", "sync_bucket"),
    "sync_parts",
    "standby",
)
# Settings that a script cannot express, if the user set them
ELSEWHERE = (
    *("optim_args", "compile", "optimizer_in_backward", "padded", "gptq_kernel", "images"),
    *("image_size", "audio_seconds", "base_model", "engine_version", "framework_version"),
    *("torch_version", "bitsandbytes_version", "accelerate_version", "deepspeed_version"),
    "reduce_dtype",
    *("zero_reduce_bucket_size", "zero_prefetch_bucket_size", "zero_overlap_comm", "no_zero_init"),
    *("zero_param_persistence_threshold", "zero_max_live_parameters", "zero_sub_group_size"),
)


@dataclass(frozen=True, slots=True)
class TrainingLine:
    """A script or command to paste or save, or in `why` the reason that there is none. `script`: a
    launcher starts it on each of several GPUs."""

    text: str = ""
    why: str = ""
    script: bool = False


@dataclass(frozen=True, slots=True)
class TrainerRun:
    """One run: `settings` are all effective ones, `asked` those that the user set."""

    settings: Mapping[str, Any]
    asked: Train
    model: str  # argument of from_pretrained
    cls: str
    stored: str = ""  # quant_method of its files' config, "" if they are not quantized
    method: str = ""

    @property
    def framework(self) -> str:
        return str(self.settings["framework"])

    @property
    def learns(self) -> str:
        """Return the prefix of TRL's trainer for rewards or preferences, such as "DPO", if scripts
        are written for it; else ""."""
        learned = LEARNED.get(str(self.settings["method"]), "")
        return learned if self.framework == "trl" else ""

    @property
    def starts(self) -> str:
        count = int(self.settings["data_parallel_size"])
        return start(count, inside=self.asked.ranks_per_machine)

    @property
    def zero(self) -> bool:
        return str(self.settings["shard"]).startswith("zero")

    @property
    def packs(self) -> ConfigCall | None:
        """Return the call that makes the quantization config (bitsandbytes and others) if weights
        are quantized on load, or the one that dequantizes stored weights; None without one."""
        form = self.settings["quantization"]
        if form is None:
            return dequantizing(self.method) if self.stored else None
        return None if form == self.stored else written(form, self._compute_dtype)

    @property
    def _compute_dtype(self) -> str:
        """Return the dtype of products with dequantized weights, by name: autocast's, else the
        dtype at load."""
        mixed = {"bf16-mixed": "bfloat16", "fp16-mixed": "float16"}
        return mixed.get(str(self.settings["precision"]), str(self.settings["dtype"]))


def start(count: int, file: str = "train.py", inside: int | None = None) -> str:
    """Return the command that starts a script on `count` devices, at most `inside` per machine, by
    default eight."""
    words = by_machine(Ranks(data=count, per_machine=inside or MACHINE))
    return f"torchrun {words} {file}" if count > 1 else f"python {file}"


def by_machine(ranks: Ranks) -> str:
    """Return torchrun's arguments that start all ranks, with --nnodes if there are several
    machines."""
    several = ranks.machines
    named = f"--nnodes {several} " if several > 1 else ""
    return f"{named}--nproc-per-node {ranks.cards // several}"


def unwritten(run: TrainerRun) -> str:
    """Return why no script or command can express the run; "" if one can."""
    t = run.settings
    if run.framework not in WRITES:
        return sentence("own_files", framework=run.framework, known=" and ".join(WRITES))
    if not run.model:
        return sentence("no_weights")
    if not run.cls.isidentifier():
        return sentence("several_models", cls=run.cls)
    if not run.cls.endswith(CLASSES):
        return sentence("no_own_loss", cls=run.cls)
    if t["method"] in (*LEARNS, *TUNERS) and not run.learns:
        return _why_no_script(t["method"])
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
            return sentence("no_switch", framework=run.framework, name=name, value=value)
    return _beside(run)


def _why_no_script(method: str) -> str:
    """Return why a method has no script: TrainingArguments and LoRA's config cannot express it."""
    if method in LEARNS:
        return sentence("learning_scripts", method=method)
    return sentence("lora_scripts", tuner=TUNERS[method])


def _beside(run: TrainerRun) -> str:
    for name in (*ELSEWHERE, *OF_ROLES) if run.learns else ELSEWHERE:
        typed = getattr(run.asked, name)
        if typed not in (None, False) and not _is_usual(run, name, typed):
            return sentence("said_elsewhere", flag=name.replace("_", "-"))
    if any(int(run.settings[SIZES[kind]]) > 1 for kind in SHAPE):
        return sentence("accelerate_ranks")
    if run.settings["offload"] == "optimizer" and not run.zero:
        return sentence("states_on_host")
    return _why_no_loader(run)


def _is_usual(run: TrainerRun, name: str, typed: Any) -> bool:
    """Return whether `typed` is the value that a script without the setting has: the newest
    release, or the engine's sequences as TRL sets them (trl 1.16 generation/vllm_generation.py)."""
    rows = int(run.settings["batch_size"]) * int(run.settings["gradient_accumulation"])
    if name == "engine_version":
        return release(typed.strip().removeprefix("v")) == release(NEWEST)
    if name == "rollout_version":
        return release_of(typed) == engine(str(run.settings["rollout_engine"])).newest
    return name == "max_num_seqs" and typed == rows


def _why_no_loader(run: TrainerRun) -> str:
    """Return why no loader gives the run's quantization format; "" if one does. A quantized model
    is not quantized again: transformers raises ValueError since 4.56 (quantizers/auto.py,
    merge_quantization_configs), and kept the checkpoint's own format before."""
    form = run.settings["quantization"]
    if form == (run.stored or None):
        return ""
    if form is None:
        return "" if run.packs else sentence("unpacks_none", form=run.stored)
    if run.stored:
        return sentence("packed_in", form=run.stored)
    return "" if run.packs else sentence("name_published", form=form)

"""The effective settings of one run: the user's, and the framework's defaults for the rest."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.base.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from weighbridge.base.errors import ContradictionError, TriedError, UnsupportedError, UsageError
from weighbridge.base.records import field, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import numbers, release, since
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.rules import attends, rules
from weighbridge.machines.accelerators.chips import FLOAT8_SINCE, MXFP8_SINCE, Chip
from weighbridge.machines.accelerators.parts import chip_of
from weighbridge.machines.allocator.options import DEFAULT, AllocatorOptions
from weighbridge.machines.allocator.settings import parse
from weighbridge.machines.kernels.attention import FLASH_SINCE
from weighbridge.memory.components.weights import MERGES
from weighbridge.models.arch.model_types import facts
from weighbridge.training import float8, kbit, packages, prompts, unsloth
from weighbridge.training.adapters import Adapters, usual, usual_names
from weighbridge.training.forward.nets import predicts_next
from weighbridge.training.frameworks import (
    FRAMEWORKS,
    OF_ARGUMENTS,
    Framework,
    Precision,
    date_of,
    resolved,
    stored,
)
from weighbridge.training.objective import Objective
from weighbridge.training.optimizers import Optimizer, argued, optimizer, tuned
from weighbridge.training.parameters import members
from weighbridge.training.segments import GROWS, refuse_segments
from weighbridge.training.sharding.numbers import Held, PackedRun, Sharding, held_codes, sharding
from weighbridge.training.sharding.schedule import schedule
from weighbridge.training.sharding.sequence import way
from weighbridge.training.sharding.stages import layers_of_stages
from weighbridge.training.tuners import TUNERS, refuse
from weighbridge.workload import Train
from weighbridge.workload.train import PROMPTS

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part

USUAL_LENGTH = 2048  # tokens, if the user sets none: contract of the command line
USUAL = "the usual default"  # source of a length that the user did not set
USUAL_OPTIMIZER, USUAL_LOSS = "adamw_torch", "standard"
METHOD, BATCH, NO_EVALUATION, ACCUMULATION = "full", 1, 0, 1  # if the user sets none
FUSES = (2025, 2, 24)  # torchtitan since which AdamW is fused by default
WIDENED = (2026, 2, 23)  # torchtitan 9810191b: gpt-oss's layers are no longer made in bfloat16
# torchtitan: autocast if nothing is sharded (0b44d4c4); replicated ranks mix precision as FSDP2
# does (e1847f43); FSDP2 wraps one rank, too (00b7f569)
CASTS, REPLICATES, WRAPS_ALWAYS = (2025, 6, 16), (2026, 3, 9), (2026, 4, 9)
FUSED_SINCE, FUSED_TORCH = (4, 54), (2, 8)  # transformers, whose TrainingArguments have it; torch
REENTERS_ZERO_3 = (0, 28)  # TRL since which adapters under ZeRO-3 have reentrant checkpoints
TORCH = (2, 13)  # the release whose sources our rules follow


@frozen_record
class Deepspeed:
    """DeepSpeed's configuration besides the stage. `sizes` are by their names in `ZeroSizes`;
    `pins` is pin_memory, None if not set."""

    version: tuple[int, ...] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    overlaps: bool = False
    whole_first: bool = False
    pins: bool | None = None


@frozen_record
class TrainingPlan:
    """All effective settings of a run. `dtype` is that of unquantized weights, `loaded` the dtype
    at load, before casts."""

    subject: Subject
    framework: Framework
    precision: Precision
    dtype: DType
    loaded: DType
    base: kbit.Base
    autocast: DType | None
    stream: DType | None  # dtype between layers, if it is not the embedding's
    method: str
    batch: int
    evaluated: int  # sequences per evaluation batch; 0: no evaluation
    length: int
    items: Mapping[str, int]  # images and audio clips per sequence
    image_size: tuple[int, int] | None
    accumulation: int
    optimizer: Optimizer
    optim_args: tuple[str, ...]
    checkpointing: str
    loss: str
    attention: str | None
    padded: bool
    reentrant: bool  # whether checkpoints are reentrant
    adapters: Adapters | None
    sharding: Sharding
    part: "Part | None"
    chip: Chip
    torch: tuple[int, int]
    compiled: bool = False
    float8_recipe: str = ""  # what one float8 scale covers; "" without float8 products
    float8_all_gather: bool = False
    float8_experts: bool = False
    asked_expandable: bool | None = None  # expandable segments, as the user set them
    asked_reentrant: bool | None = None  # reentrant checkpoints, as the user set them
    asked_dtype: str | None = None  # dtype of loaded weights, as the user set it
    asked_kernels: str | None = None  # whether packages with kernels for state layers are there
    release: tuple[int, ...] | None = None  # of the framework; None is the newest
    version: tuple[int, int] = (5, 23)  # release of transformers
    patch: int = 0  # the third number of its release
    gathers: bool | None = None  # the whole model is gathered to save it; None if not set
    loads_once: bool = False  # one rank per machine reads the weights for all
    workers: int = 0  # processes per rank that read data
    accelerate: tuple[int, ...] | None = None
    zero: Deepspeed = Deepspeed()
    codes: Held = "whole"  # how a rank holds quantized weights
    stored_as_floats: bool = False  # quantized weights
    objective: Objective | None = None  # None: next-token prediction

    @property
    def installed(self) -> bool:
        """Return whether packages with kernels for layers other than attention are installed."""
        return self.asked_kernels == "installed"

    @property
    def allocator(self) -> AllocatorOptions:
        """Return the options of torch's allocator, the user's or else the framework's."""
        if self.asked_expandable is not None:
            return AllocatorOptions(expandable_segments=self.asked_expandable)
        text = self.framework.allocator if self.torch >= GROWS else ""
        return parse(text) if text else DEFAULT

    @property
    def kernels(self) -> str | None:
        """Return "installed" or "missing" for packages with kernels of recurrent layers; None
        without such layers, or if weighbridge does not model the kernels."""
        known = self.framework.loads == "transformers" and packages.modelled(self.subject.body)
        return ("installed" if self.installed else "missing") if known else None

    @property
    def major(self) -> int:
        """Return the major version of transformers, 4 or 5."""
        return self.version[0]

    @property
    def reenters(self) -> bool | None:
        """Return whether transformers' checkpoints are reentrant; None without them."""
        usual = self.checkpointing == "full" and self.framework.loads == "transformers"
        return self.reentrant if usual else None

    @property
    def computing(self) -> DType:
        """Return the dtype in which matrix products run: autocast's, if there is one."""
        return self.autocast or self.dtype

    @property
    def unpacked(self) -> DType:
        """Return the dtype that weights are dequantized to (bnb_4bit_compute_dtype): autocast's,
        else the one they loaded in."""
        return self.autocast or self.loaded

    @property
    def low_layers(self) -> bool:
        """Return whether layers and their states are bfloat16 whatever the other weights' dtype, as
        in older gpt-oss of torchtitan (0.2.2 models/gpt_oss/model/model.py)."""
        own = _is_titan_gpt_oss(self.subject)
        return own and self.framework.name == "torchtitan" and not since(self.release, WIDENED)

    @property
    def text_alone(self) -> bool:
        """Return whether the framework's class of a vision model takes only text."""
        return _takes_only_text(self.subject, self.framework)

    @property
    def activations(self) -> DType:
        """Return the dtype of hidden states between layers; under FSDP that of products."""
        return self.computing if self.sharding.fully else self.dtype


def _is_titan_gpt_oss(subject: Subject) -> bool:
    """Return whether torchtitan trains the model with its gpt-oss class."""
    return facts(subject.model_type).training.titan_experts == "with_sinks"


def _takes_only_text(subject: Subject, framework: Framework) -> bool:
    """Return whether a framework's class of a vision model takes only text: torchtitan's Llama
    4."""
    own = facts(subject.model_type).training.titan_experts == "weighed_first"
    return own and framework.name == "torchtitan"


def _as_trained(subject: Subject, w: Train, framework: Framework) -> Subject:
    """Return the model without encoders if the framework's class takes only text, else `subject`.
    Raises UnsupportedError for images then."""
    if not _takes_only_text(subject, framework):
        return subject
    if _images(w):
        raise UnsupportedError(sentence("images_of_text", framework=framework.name))
    return subject.without_towers()


def plan(
    subject: Subject, w: Train, budget: "Budget | None", number: tuple[int, ...]
) -> TrainingPlan:
    """Return the plan of one run; `number` is the release of transformers. Raises UsageError if
    settings contradict each other or the card."""
    major, minor, patch = (*number, 0, 0)[:3]
    version = (major, minor)
    framework, chosen = resolved(w)
    part, count = (budget.choice.part, budget.choice.count) if budget else (None, None)
    date = _framework_release(w, framework)
    shares = _shares(subject, w, framework, count, date)
    attention = _attention(subject, w, framework, version)
    checkpointing = w.checkpointing or unsloth.checkpointing(subject, framework)
    checkpointing = checkpointing or usual_checkpointing(w, framework, shares)
    by = way(w, framework, shares, subject.body, attention)
    shares = _with_stages(replace(shares, context_by=by), subject, w, framework, checkpointing)
    _refuse(subject, w, framework, shares)
    _refuse_card(w, chosen, part)
    refuse_segments(w, part)
    subject = _as_trained(subject, w, framework)
    scales = float8.recipe(w, framework, chosen, date)
    float8.refuse(w, framework, scales, shares, subject.body)
    base = _base(subject, w, framework, chosen, shares)
    floats = stored(w, framework) is not None
    lowered = chosen.autocast == BFLOAT16 and unsloth.lowers(subject, framework, part)
    if lowered:
        subject = replace(subject, choice=replace(subject.choice, dtype=FLOAT16))
    return TrainingPlan(
        subject=subject,
        framework=framework,
        precision=chosen,
        # PEFT prepares the unquantized rest for training (prepare_model_for_kbit_training)
        dtype=FLOAT32 if base.upcast == "peft" else subject.choice.dtype,
        loaded=subject.choice.dtype,
        base=base,
        autocast=FLOAT16 if lowered else _autocast(chosen, framework, shares, date),
        stream=FLOAT32 if unsloth.widens(subject, framework, part) else None,
        method=w.method or METHOD,
        batch=w.batch_size or BATCH,
        padded=w.padded,
        length=subject.context,
        image_size=w.image_size,
        items={"image": _images(w), "audio": int(bool(w.audio_seconds))},
        accumulation=w.gradient_accumulation or ACCUMULATION,
        optimizer=_effective_optimizer(w, framework),
        checkpointing=checkpointing,
        loss=_loss(w, framework, subject.model_type),
        attention=attention,
        reentrant=_reentrant(w, framework, shares, version),
        version=version,
        patch=patch,
        adapters=_adapters(subject, w, framework, chosen),
        sharding=shares,
        part=part,
        chip=chip_of(part),
        torch=_torch(w),
        release=date,
        zero=_deepspeed(w, framework),
        codes=held_codes(subject.choice.scheme, shares, _packed_run(w, framework, floats=floats)),
        stored_as_floats=floats,
        float8_recipe=scales,
        **_asked(w),
    )


def _shares(
    subject: Subject,
    w: Train,
    framework: Framework,
    count: int | None,
    date: tuple[int, ...] | None,
) -> Sharding:
    """Return the numbers of ranks, and how the framework shards. torchtitan's gpt-oss does not
    shard a sequence (models/gpt_oss/model/args.py; b5bcd76 models/common/decoder.py)."""
    titan = framework.name == "torchtitan"
    always = "fsdp2" if titan and since(date, WRAPS_ALWAYS) else None
    shard = w.shard or framework.shard or always
    shares = sharding(w.but(shard=shard), count, framework.spreads)
    if titan and shares.context > 1 and _is_titan_gpt_oss(subject):
        raise TriedError(
            sentence("gpt_oss_context", ranks=shares.context),
            seen="torchtitan models/gpt_oss/model/args.py raises NotImplementedError for "
            "context parallel",
        )
    return replace(shares, whole_experts=titan and shares.expert > 1)


def _asked(w: Train) -> dict[str, Any]:
    return {
        "float8_all_gather": w.float8_all_gather,
        "float8_experts": w.float8_experts,
        "compiled": w.compile,
        "evaluated": w.eval_batch_size or NO_EVALUATION,
        "loads_once": w.cpu_ram_efficient_loading,
        "optim_args": w.optim_args or (),
        "accelerate": numbers(w.accelerate_version),
        "asked_expandable": w.expandable_segments,
        "asked_dtype": w.dtype,
        "asked_kernels": w.kernels,
        "asked_reentrant": w.use_reentrant,
        "gathers": w.gather_on_save,
        "workers": w.dataloader_num_workers or 0,
    }


def _with_stages(
    shares: Sharding, subject: Subject, w: Train, framework: Framework, checkpointing: str
) -> Sharding:
    """Return `shares` with the layers per stage and the pipeline schedule."""
    layers = len(subject.body.blocks)
    shares = replace(shares, schedule=schedule(w, shares, layers, checkpointing))
    return replace(shares, layers=stages(w, framework, shares, layers))


def stages(w: Train, framework: Framework, shares: Sharding, layers: int) -> tuple[int, ...]:
    """Return the layers of each pipeline stage, of `layers` in all. Raises UsageError if a stage
    has none, or they do not add up."""
    return layers_of_stages(
        layers,
        shares,
        w.pp_layer_partition or (),
        titan=framework.name == "torchtitan",
        release=_framework_release(w, framework),
    )


def _refuse(subject: Subject, w: Train, framework: Framework, shares: Sharding) -> None:
    """Raise UsageError for settings that the framework does not support, and for ranks that do not
    divide the model."""
    if w.compile and not framework.compiles:
        known = ", ".join(f.name for f in FRAMEWORKS.values() if f.compiles)
        raise UnsupportedError(sentence("compiles", known=known, framework=framework.name))
    if w.cpu_ram_efficient_loading and framework.loads != "transformers":
        raise ContradictionError(sentence("own_loader", framework=framework.name))
    _refuse_reentry(w, framework)
    if w.kernels is not None:
        packages.refuse(subject, w.kernels, framework)
    if w.method == "dora" and not framework.decomposes:
        raise UnsupportedError(sentence("dora_trainer", framework=framework.name))
    _refuse_tuner(subject, w, framework, shares)
    if framework.tunes and (w.method or METHOD) == METHOD:
        raise UnsupportedError(sentence(f"full_method.{framework.name}"))
    form = subject.choice.scheme
    if w.bnb_4bit_quant_storage is not None and not kbit.four_bits(form):
        raise ContradictionError(
            sentence("storage_of_4bit", form=form.name if form else subject.choice.dtype.name)
        )
    if subject.context % shares.context:
        raise UsageError(sentence("context_shares", ranks=shares.context, tokens=subject.context))


def _refuse_tuner(subject: Subject, w: Train, framework: Framework, shares: Sharding) -> None:
    if w.method in PROMPTS:
        prompts.refuse(subject, w, framework, shares)
    elif w.method in TUNERS:
        refuse(w, subject.choice.scheme, framework, shares)


def usual_checkpointing(w: Train, framework: Framework, shares: Sharding) -> str:
    """Return the checkpointing used if the user sets none; some frameworks have another one under
    FSDP. litgpt's pretraining has none (pretrain.py: activation_checkpointing_policy=None)."""
    if w.method == prompts.PREFIX:
        return "none"
    if (w.method or METHOD) != METHOD and framework.tuned_checkpointing:
        return framework.tuned_checkpointing
    tuned = _loss(w, framework) != framework.losses.get("standard")
    return (
        framework.sharded_checkpointing
        if shares.fully and tuned and framework.sharded_checkpointing
        else framework.checkpointing
    )


def _refuse_reentry(w: Train, framework: Framework) -> None:
    if w.use_reentrant is None:
        return
    if framework.loads != "transformers":
        raise ContradictionError(sentence("reentrant_own", framework=framework.name))
    if (w.checkpointing or framework.checkpointing) not in ("full", "offload"):
        raise UsageError(sentence("reentrant_alone"))


def _refuse_card(w: Train, chosen: Precision, part: "Part | None") -> None:
    """Raise UsageError if the GPU's compute capability lacks kernels that the settings need."""
    if part is None:
        return
    capability = part.capability  # chip_of would take an AMD card for an A100
    if capability is None:
        return
    number = ".".join(map(str, capability))
    if w.attention == "flash" and capability < FLASH_SINCE:
        raise UsageError(sentence("capability.flash", card=part.name, number=number))
    if w.float8_recipe == float8.MXFP8 and capability < MXFP8_SINCE:
        raise UsageError(sentence("capability.mxfp8", card=part.name, number=number))
    if chosen.float8 and capability < FLOAT8_SINCE:
        raise UsageError(sentence("capability.float8", card=part.name, number=number))


def _autocast(
    chosen: Precision, framework: Framework, shares: Sharding, date: tuple[int, ...] | None
) -> DType | None:
    """Return the dtype that autocast casts products to, None without autocast. torchtitan has none
    without sharding before it had autocast, nor if ranks split only layers (maybe_enable_amp)."""
    if framework.name != "torchtitan" or shares.fully:
        return chosen.autocast
    alone = shares.tensor * shares.pipeline > 1 and not (
        shares.kind == "ddp" and since(date, REPLICATES)
    )
    return chosen.autocast if since(date, CASTS) and not alone else None


def _base(
    subject: Subject, w: Train, framework: Framework, chosen: Precision, shares: Sharding
) -> kbit.Base:
    """Return how a quantized base is treated. Unsloth, whose loss comes with its loader, never
    calls PEFT's preparation."""
    upcast = kbit.chosen(
        w.kbit_upcast,
        subject.choice.scheme,
        "none" if _loss(w, framework) == "unsloth" else framework.upcast,
        lowered=chosen.autocast == BFLOAT16,
        shared=shares.parameters,
    )
    return kbit.Base(
        upcast=upcast,
        asked_upcast=w.kbit_upcast,
        kernel=kbit.kernel(subject.choice.scheme, w.gptq_kernel),
        asked_kernel=w.gptq_kernel,
        bitsandbytes=numbers(w.bitsandbytes_version),
    )


SIZES: Mapping[str, str] = {  # setting -> name in `ZeroSizes`
    "zero_reduce_bucket_size": "reduce",
    "zero_prefetch_bucket_size": "prefetch",
    "zero_param_persistence_threshold": "persistent",
    "zero_max_live_parameters": "live",
    "zero_sub_group_size": "sub_group",
}


def _deepspeed(w: Train, framework: Framework) -> Deepspeed:
    framework_version = w.framework_version if framework.name == "deepspeed" else None
    sizes = {size: getattr(w, name) for name, size in SIZES.items()}
    return Deepspeed(
        version=numbers(w.deepspeed_version or framework_version),
        sizes={size: n for size, n in sizes.items() if n is not None},
        overlaps=w.zero_overlap_comm,
        whole_first=w.no_zero_init,
        pins=w.zero_pin_memory,
    )


def _packed_run(w: Train, framework: Framework, *, floats: bool) -> PackedRun:
    return PackedRun(
        framework=framework.name,
        prepares=framework.accelerate,
        floats=floats,
        torch=_torch(w),
        accelerate=numbers(w.accelerate_version),
    )


def _loss(w: Train, framework: Framework, kind: str = "") -> str:
    """Return the loss, the user's or the framework's default, by the framework's name for it. A
    class that does not predict the next token has its own loss unless the user sets one."""
    if w.loss is None and not predicts_next(kind):
        return USUAL_LOSS
    loss = w.loss or framework.loss
    if w.loss is None and (w.method or METHOD) == METHOD:
        loss = framework.full_loss or loss
    return framework.losses.get(loss, loss)


def _attention(
    subject: Subject, w: Train, framework: Framework, version: tuple[int, int]
) -> str | None:
    """Return the attention, the user's or the framework's; eager if the class had no other in this
    version."""
    class_rules = rules(version, subject.model_type)
    if framework.attention is None:
        attends(w.attention, class_rules, subject.model_type)
    eager = class_rules.attention == "eager"
    usual = unsloth.attention(subject, framework) or ("eager" if eager else None)
    return w.attention or framework.attention or usual


def _reentrant(w: Train, framework: Framework, shares: Sharding, version: tuple[int, int]) -> bool:
    """Return whether checkpoints are reentrant: as the user sets, else by the framework or
    transformers (True up to 4.57: modeling_utils.py, gradient_checkpointing_enable). TRL always has
    them for adapters under ZeRO-3 (sft_trainer.py)."""
    adapted = (w.method or METHOD) != METHOD and shares.kind == "zero3"
    release = numbers(w.framework_version) or REENTERS_ZERO_3
    if adapted and framework.name == "trl" and release >= REENTERS_ZERO_3:
        return True
    if w.use_reentrant is not None:
        return w.use_reentrant
    return version[0] < 5 if framework.reentrant is None else framework.reentrant


def _images(w: Train) -> int:
    if w.images is not None:
        return w.images
    return 0 if w.image_size is None else 1


def _effective_optimizer(w: Train, framework: Framework) -> Optimizer:
    """Return the optimizer, the user's or the framework's, adapted to its arguments and torch
    version; with `in_backward` it updates each parameter separately."""
    chosen, torch = optimizer(w.optimizer or _usual_optimizer(w, framework)), _torch(w)
    chosen = tuned(argued(chosen, w.optim_args or (), torch), torch)
    return replace(chosen, in_backward=True) if w.optimizer_in_backward else chosen


def _torch(w: Train) -> tuple[int, int]:
    return _release(w.torch_version) or TORCH


def _framework_release(w: Train, framework: Framework) -> tuple[int, ...] | None:
    """Return the framework's version, a date if its versions are dates; None is the newest."""
    if framework.dated:
        return date_of(w)
    return numbers(w.framework_version) if _release(w.framework_version) else None


def _release(written: str | None) -> tuple[int, int] | None:
    if written is None:
        return None
    number = release(written)
    if number is None:
        raise UsageError(sentence("no_version", written=written))
    return number


def _usual_optimizer(w: Train, framework: Framework) -> str:
    """Return the framework's default optimizer: fused in torchtitan since 6e498855, in the Trainer
    since transformers 4.54 with torch 2.8 (training_args.py, default_optim); before, foreach."""
    if framework.dated and (date_of(w) or FUSES) < FUSES:
        return USUAL_OPTIMIZER
    if framework.arguments and _torch(w) >= FUSED_TORCH:
        release = numbers(w.engine_version) or FUSED_SINCE  # of transformers; None means the newest
        return OF_ARGUMENTS if release >= FUSED_SINCE else USUAL_OPTIMIZER
    return framework.optimizer or USUAL_OPTIMIZER


def _adapters(
    subject: Subject, w: Train, framework: Framework, chosen: Precision
) -> Adapters | None:
    """Return the adapters with the framework's defaults, or PEFT's: all linears if it has none for
    the model type. None for full training."""
    if (w.method or METHOD) == METHOD:
        return None
    lowered = framework.lowers_packed and subject.choice.scheme is not None
    # DeepSpeed's engine casts the whole module
    casts = (w.shard or framework.shard or "").startswith("zero")
    wide = framework.wide_adapters and not lowered and not casts
    dtype = FLOAT32 if wide else chosen.autocast or chosen.frozen
    if w.method in PROMPTS:
        return Adapters(
            r=0,
            alpha=0,
            targets=(),
            tuner=w.method or "",
            virtual_tokens=w.virtual_tokens or prompts.USUAL_TOKENS,
            assumed_tokens=w.virtual_tokens is None,
            dtype=dtype,
        )
    tuner = TUNERS.get(w.method or "")
    rank = framework.rank if tuner is None else tuner.r
    own = tuner.targets.get(subject.model_type) if tuner else None
    own = own or _targets_in_class(subject, framework) or usual(subject.model_type)
    own = own or _all(subject, w.method or "")
    return Adapters(
        r=w.lora_r or rank,
        alpha=w.lora_alpha or rank,
        targets=w.lora_targets or own,
        tuner=w.method or "" if tuner else "",
        size=tuner.own_size(w) if tuner else 0,
        dropout=w.lora_dropout or 0.0,
        dora=w.method == "dora",
        rslora=w.use_rslora,
        modules_to_save=w.modules_to_save or (),
        dtype=dtype,
    )


def _targets_in_class(subject: Subject, framework: Framework) -> tuple[str, ...]:
    """Return the framework's target modules; empty if transformers' class has none of them: Unsloth
    takes all linears then (models/vision.py, get_peft_model)."""
    if framework.loads != "transformers":
        return framework.targets
    specs = members(subject.part.blueprint, major=MERGES).specs if framework.targets else ()
    names = {x.name.removesuffix(".weight").rpartition(".")[2] for x in specs}
    return framework.targets if names.intersection(framework.targets) else ()


def _all(subject: Subject, method: str) -> tuple[str, ...]:
    specs = members(subject.part.blueprint, major=MERGES).specs
    return usual_names(specs, subject.model_type, method if method in TUNERS else "")

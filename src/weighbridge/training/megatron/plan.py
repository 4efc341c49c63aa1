"""A training question as Megatron-core runs it: the model, the run, and the card.

Defaults: the optimizer is not distributed (--shard zero1 distributes it), tokens between layers are
not sharded, experts get theirs by allgather, losses are not fused, nothing is recomputed, products
add to the main gradients themselves. There is no dropout, as in training of current models; a
pipeline is filled.

Attention is cuDNN's since Hopper and FlashAttention's before, as Transformer Engine prefers; if
results must be deterministic, cuDNN's has no backward on cards other than Hopper. Source:
Megatron-LM d98e8a6 megatron/training/arguments.py; Transformer Engine c188b53
pytorch/attention/dot_product_attention/utils.py (get_attention_backend).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB
from weighbridge.base.versions import numbers
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.workspaces import cublas
from weighbridge.machines.accelerators.chips import BLOCKWISE_SINCE, FLOAT8_SINCE, MXFP8_SINCE, Chip
from weighbridge.machines.accelerators.parts import chip_of
from weighbridge.settings.ranks import RING
from weighbridge.settings.setting import fields
from weighbridge.settings.shared import DeviceSettings
from weighbridge.training.frameworks import date_of
from weighbridge.training.megatron import adapters, arguments
from weighbridge.training.megatron.described import described
from weighbridge.training.megatron.layout import parts
from weighbridge.training.megatron.model import MegatronModel
from weighbridge.training.megatron.run import HOPPER, Kernel, MegatronRun
from weighbridge.training.megatron.states import states
from weighbridge.training.segments import refuse_segments
from weighbridge.training.sharding import sequence
from weighbridge.training.sharding.numbers import Sharding, sharding
from weighbridge.workload import Train

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part

READ = frozenset(  # settings that apply to a Megatron run
    (
        *("method", "framework", "framework_version", "precision", "optimizer", "batch_size"),
        *("seq_len", "gradient_accumulation", "checkpointing", "loss", "attention", "shard"),
        *("data_parallel_size", "tensor_parallel_size", "pipeline_parallel_size"),
        *("context_parallel_size", "expert_parallel_size", "torch_version", "engine_version"),
        "context_parallel_by",
        *("lora_r", "lora_alpha", "lora_targets", "lora_dropout"),
        *("megatron_args", "offload", "expandable_segments", *fields(DeviceSettings)),
    )
)
MEANS: Mapping[str, tuple[str, ...]] = {  # supported values of settings that have further ones
    "method": ("full", "lora"),
    "precision": ("bf16-mixed", "fp16-mixed"),
    "optimizer": ("adamw_torch", "adamw_torch_fused", "muon"),
    "checkpointing": ("none", "full", "selective"),
    "loss": ("standard",),
    "context_parallel_by": tuple(dict.fromkeys(arguments.CONTEXT_BY.values())),
    "offload": ("none",),
}
KERNELS: Mapping[str, Kernel] = {
    "flash": "flash",
    "cudnn": "fused",
    "math": "unfused",
    "eager": "unfused",
}
BLACKWELL = (10, 0)
MOST_DEFERRED = 128  # micro-batches; each of them is traced
REPEATABLE = 32 * MIB  # cuBLAS's workspace by CUBLAS_WORKSPACE_CONFIG=:4096:8, as such runs need
OLDER = (2, 10)  # torch of images up to April 2026, with smaller workspaces on Blackwell
SINCE = {
    "delayed": FLOAT8_SINCE,
    "tensorwise": FLOAT8_SINCE,
    "blockwise": BLOCKWISE_SINCE,
    "mxfp8": MXFP8_SINCE,
    "nvfp4": MXFP8_SINCE,
}
OF_ADAM = {
    "precise": "use_precision_aware_optimizer",
    "offloads": "optimizer_cpu_offload",
    "instances": "num_distributed_optimizer_instances",
}
DROPOUT = ("hidden_dropout", "attention_dropout")
CHUNKS = "num_layers_per_virtual_pipeline_stage"
GROUP = "microbatch_group_size_per_virtual_pipeline_stage"
EVEN = (1.0, 1.0, 1.0)
FORCED = (0.98, 1.0, 1.02)  # random experts: three deviations of 20,000 copies (assumed)
UNEVEN = (0.85, 1.1, 1.5)  # assumed: 34 ranks of Megatron's own tests had 0.84 to 1.37, half of
# them 1.03 to 1.16


@frozen_record
class MegatronPlan:
    """The effective settings of one run by Megatron-core."""

    subject: Subject
    model: MegatronModel
    run: MegatronRun
    sharding: Sharding
    part: "Part | None"
    chip: Chip
    torch: tuple[int, ...]
    checkpointing: str
    precision: str = "bf16-mixed"
    optimizer: str = "adamw_torch"
    uneven: tuple[float, float, float] = EVEN  # low, expected, high
    filled: bool = False  # weighbridge chose the number of micro-batches
    least_workspace: int = 0  # bytes with an older torch, if the user names none


def plan(
    subject: Subject, w: Train, budget: "Budget | None", model: MegatronModel | None = None
) -> MegatronPlan:
    """Return the plan of a run; `model` is the subject as `described` returned it, None to describe
    it here. Raises UsageError for settings that Megatron does not have, or that are not supported,
    and UnsupportedError for models with other parts."""
    _refuse(w)
    part, count = (budget.choice.part, budget.choice.count) if budget else (None, None)
    refuse_segments(w, part)
    shares = sharding(w, count, "ddp")
    model, asked = model or described(subject), arguments.read(w.megatron_args or ())
    arguments.refuse(asked, growing=bool(w.expandable_segments))
    chip, torch = chip_of(part), numbers(w.torch_version) or (2, 13)
    capability = chip.capability or HOPPER
    batches = w.gradient_accumulation or max(shares.pipeline, asked.get("group", 1))
    repeats = asked.get("deterministic", False)
    uneven = _uneven(shares, asked)
    run = MegatronRun(
        **shares.numbers,
        **_pipeline(model, shares, asked),
        context_by=_context_by(w, shares, asked),
        expert_tensor=asked.get("expert_tensor", shares.tensor if model.experts else 1),
        sequence_parallel=asked.get("sequence_parallel", False) and shares.tensor > 1,
        length=subject.context,
        batch=w.batch_size or 1,
        accumulation=batches,
        **_optimizer(w, shares, asked),
        **adapters.settings(w),
        fused_gradients=asked.get("fused_gradients", True),
        deferred=_deferred(shares, asked, batches),
        engine=asked.get("implementation") != "local",
        attention=_kernel(w, asked, capability),
        **_softmax(asked),
        loss=asked.get("loss_by", "native") if "loss" in asked else "unfused",
        **{name: asked.get(name, 0.0) for name in DROPOUT},
        **_recompute(w, asked),
        **_experts(asked),
        uneven=uneven[1],
        **_others(asked),
        **_float8(shares, chip if part else None, asked),
        deterministic=repeats,
        expandable=bool(w.expandable_segments),
        capability=capability,
        workspace=_workspace(chip, torch, repeats=repeats),
        release=date_of(w),
    )
    _divides(model, run)
    _check_hybrid(model, run)
    _check_microbatch_group(run)
    return MegatronPlan(
        subject=subject,
        model=model,
        run=run,
        sharding=shares,
        part=part,
        chip=chip,
        torch=torch,
        checkpointing=w.checkpointing or asked.get("granularity", "none"),
        precision=w.precision or "bf16-mixed",
        optimizer="muon" if run.muon else "adamw_torch",
        uneven=uneven,
        filled=w.gradient_accumulation is None and shares.pipeline > 1,
        least_workspace=_workspace(chip, torch if w.torch_version else OLDER, repeats=repeats),
    )


def _workspace(chip: Chip, torch: tuple[int, ...], *, repeats: bool) -> int:
    return REPEATABLE if repeats else cublas(chip.capability, torch).bytes.expected


def _refuse(w: Train) -> None:
    for name in fields(Train):
        value = getattr(w, name)
        flag = f"--{name.replace('_', '-')}"
        if name not in READ and value not in (None, False):
            raise UnsupportedError(sentence("megatron.no_flag", flag=flag))
        if value is not None and value not in MEANS.get(name, (value,)):
            raise UnsupportedError(
                sentence(
                    "megatron.no_value", flag=flag, value=value, known=" or ".join(MEANS[name])
                )
            )


def _context_by(w: Train, shares: Sharding, asked: Mapping[str, Any]) -> str:
    """Return the method of context-parallel attention, from the setting or Megatron's argument.
    Raises UsageError if they differ, or without such ranks."""
    word = str(asked.get("context_by", RING))
    if w.context_parallel_by is None:
        return word
    sequence.refuse_alone(w.context_parallel_by, shares)
    if "context_by" in asked and word != w.context_parallel_by:
        raise UsageError(sentence("megatron.context_by", by=w.context_parallel_by, word=word))
    return w.context_parallel_by


def _pipeline(model: MegatronModel, shares: Sharding, asked: Mapping[str, Any]) -> dict[str, Any]:
    layout = parts(model.layers, shares.pipeline, _chunks(model, shares, asked), asked)
    return {
        "chunks": len(layout) // shares.pipeline,
        "layout": layout,
        "group": asked.get("group", 0),
        "receives_ahead": asked.get("receives_ahead", True),
        "receives_early": asked.get("receives_early", False),
    }


def _chunks(model: MegatronModel, shares: Sharding, asked: Mapping[str, Any]) -> int:
    """Return the number of model chunks per stage (virtual pipeline)."""
    if "chunk" in asked:
        if model.layers % (shares.pipeline * asked["chunk"]):
            raise UsageError(
                sentence(
                    "megatron.chunk_layers",
                    name=CHUNKS,
                    asked=asked["chunk"],
                    layers=model.layers,
                    stages=shares.pipeline,
                )
            )
        return model.layers // shares.pipeline // int(asked["chunk"])
    return int(asked.get("chunks", 1))


def _kernel(w: Train, asked: Mapping[str, Any], capability: tuple[int, int]) -> Kernel:
    named = asked.get("attention", "auto")
    if named != "auto":
        return named  # type: ignore[no-any-return]
    if w.attention is not None and w.attention in KERNELS:
        return KERNELS[w.attention]
    if asked.get("implementation") == "local":
        return "local"
    repeats = asked.get("deterministic", False) and capability >= BLACKWELL
    return "flash" if capability < HOPPER or repeats else "fused"


def _weight_sharding(w: Train, shares: Sharding, asked: Mapping[str, Any]) -> str:
    """Return how data-parallel ranks shard weights; "" if they do not. Raises UsageError for what
    Megatron refuses (validate_args), or what is not supported."""
    if w.method == "lora" and (asked.get("fsdp2") or asked.get("fsdp")):
        raise UnsupportedError(sentence("megatron.fsdp_lora"))
    if asked.get("fsdp2"):
        _check_fsdp2(w, shares, asked)
        return "fsdp2"
    kind = str(asked.get("strategy", "no_shard"))
    if not asked.get("fsdp") or kind == "no_shard":
        return ""
    for wrong, what in (
        (w.optimizer == "muon", "--optimizer muon"),
        (asked.get("offloads"), "--megatron-args optimizer_cpu_offload"),
        (asked.get("instances", 1) > 1, "--megatron-args num_distributed_optimizer_instances"),
    ):
        if wrong:
            raise UnsupportedError(sentence("megatron.fsdp_without", what=what))
    return kind


def _check_fsdp2(w: Train, shares: Sharding, asked: Mapping[str, Any]) -> None:
    """Raise UsageError for settings that Megatron does not support with torch's FSDP2."""
    for wrong, what in (
        (shares.pipeline > 1, "--pipeline-parallel-size"),
        (shares.expert > 1, "--expert-parallel-size"),
        (shares.kind == "zero1", "--shard zero1"),
        (w.precision == "fp16-mixed", "--precision fp16-mixed"),
        (w.optimizer == "muon", "--optimizer muon"),
        (asked.get("fused_gradients", True), sentence("megatron.fuses_gradients")),
    ):
        if wrong:
            raise TriedError(
                sentence("megatron.fsdp2_without", what=what),
                seen="megatron/training/arguments.py, validate_args: assertions about "
                "use_torch_fsdp2",
            )


def _optimizer(w: Train, shares: Sharding, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of gradients and optimizer states, by field of MegatronRun."""
    sharded = _weight_sharding(w, shares, asked)
    return {
        "distributed_optimizer": shares.kind == "zero1" or bool(sharded),
        "sharded": sharded,
        "double_buffers": bool(asked.get("double_buffers") or asked.get("registers")),
        "instances": asked.get("instances", 1),
        "main_gradient": _main_gradient(w, asked),
        **states(asked, date_of(w)),
        **_muon(w, asked),
        "offloaded": _offloaded(shares, asked),
    }


def _main_gradient(w: Train, asked: Mapping[str, Any]) -> int:
    """Return the bytes per element of main gradients. Default: those of fp16 in fp16, those of bf16
    in float32 (validate_args)."""
    usual = 2 if w.precision == "fp16-mixed" and not asked.get("accumulates") else 4
    if asked.get("fsdp2"):
        return 2  # weight gradients, without main gradients
    if asked.get("fsdp"):
        return 2 if asked.get("fsdp_gradient") == "bf16" else 4
    return int(asked.get("main_gradient", usual))


def _muon(w: Train, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return how Muon's tensors are sharded, by field of MegatronRun. Raises UsageError for what
    Megatron refuses, or supports only with Adam."""
    if w.optimizer != "muon":
        return {}
    if w.precision == "fp16-mixed":
        raise TriedError(
            sentence("megatron.muon_fp16"),
            seen="megatron-core 0.16 optimizer/muon.py: muon with fp16 is not supported",
        )
    for name, argument in OF_ADAM.items():
        if asked.get(name):
            raise TriedError(
                sentence("megatron.of_adam", name=argument),
                seen="megatron/training/arguments.py, validate_args: an assertion",
            )
    return {"muon": True, "in_turn": asked.get("in_turn", False)}


def _deferred(shares: Sharding, asked: Mapping[str, Any], batches: int) -> int | None:
    """Return the number of micro-batches per step whose head gradient is deferred, 0 for all; None
    if none is deferred."""
    if not asked.get("defers"):
        return None
    if shares.pipeline == 1:
        raise UsageError(sentence("megatron.defers_stages"))
    limit = int(asked.get("deferred", 0))
    waiting = min(batches, limit or batches)
    if waiting > MOST_DEFERRED:
        raise UsageError(sentence("megatron.defers_many", waiting=waiting, most=MOST_DEFERRED))
    return limit


def _softmax(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return how Megatron's own attention computes its softmax, by field of MegatronRun. Scores
    that are scaled by layer are in float32 (TransformerConfig.__post_init__)."""
    scaled = asked.get("scaled_by_layer", False)
    return {
        "fused_softmax": asked.get("fused_softmax", True),
        "wide_softmax": asked.get("wide_softmax", False) or scaled,
        "scaled_by_layer": scaled,
    }


def _others(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that depend on one argument each, by field of MegatronRun."""
    return {
        "fused_activation": asked.get("fused_activation", True),
        "predicts": asked.get("predicts", 0),
        "overlaps": asked.get("overlaps", False),
        "moves": asked.get("moves", False),
        "graphs": asked.get("graphs", "none").removeprefix("none"),
        "masks": asked.get("masks", True),
        "multiple": asked.get("multiple", 128),
        "yarn": asked.get("angles", "yarn") == "yarn",
    }


def _experts(asked: Mapping[str, Any]) -> dict[str, Any]:
    named = asked.get("dispatcher", "allgather")
    return {
        "dispatcher": asked.get("backend", "deepep") if named == "flex" else named,
        "grouped": asked.get("grouped", False),
        "capacity": asked.get("capacity"),
        "shared_beside": asked.get("shared_beside", False),
        "fused_permutation": asked.get("fused_permutation", False),
        "router_wide": "router" in asked,
        "balances": asked.get("balancing", 1.0) > 0,
    }


def _uneven(shares: Sharding, asked: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return (low, expected, high) tokens of a rank's experts, relative to an equal part. A rank
    with all experts processes its own tokens, and a capacity is itself a bound."""
    if shares.expert == 1 or "capacity" in asked:
        return EVEN
    return FORCED if asked.get("forced") else UNEVEN


def _recompute(w: Train, asked: Mapping[str, Any]) -> dict[str, Any]:
    kind = w.checkpointing or asked.get("granularity", "none")
    if kind == "full":
        return {
            "recompute": asked.get("recompute", "uniform"),
            "recomputed": asked.get("recomputed", 1),
            "spreads": asked.get("spreads", False),
        }
    if kind == "selective":
        return {"modules": asked.get("modules", ("core_attn",))}
    return {}


def _offloaded(shares: Sharding, asked: Mapping[str, Any]) -> float:
    """Return the share of optimizer states that are on the host; 1 if offloading sets no
    fraction."""
    if not asked.get("offloads"):
        return 0.0
    if shares.kind != "zero1":
        raise UsageError(sentence("megatron.needs_zero1", name="optimizer_cpu_offload"))
    return float(asked.get("offloaded", 1.0))


def _float8(shares: Sharding, chip: Chip | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of fp8 products, which fp8_format enables, by field of MegatronRun.
    Raises UsageError for what Megatron refuses."""
    scaling = arguments.recipe(asked)
    if scaling is None:
        return {}
    ends = bool(asked.get("plain_ends"))
    if ends and scaling == "delayed":
        raise TriedError(
            sentence("megatron.plain_ends"),
            seen="megatron/training/arguments.py, validate_args: an assertion",
        )
    if asked.get("implementation") == "local":
        raise TriedError(
            sentence("megatron.local_fp8"),
            seen="megatron/training/arguments.py, validate_args: an assertion",
        )
    if asked.get("float8_parameters") and not (shares.kind == "zero1" or asked.get("fsdp")):
        raise UsageError(sentence("megatron.needs_zero1", name="fp8_param_gather"))
    since, name = SINCE[scaling], "fp4" if scaling == "nvfp4" else "fp8"
    if chip is not None and chip.capability < since:
        raise UsageError(
            sentence(
                "megatron.capability",
                name=name,
                scaling=scaling,
                since=since[0],
                minor=since[1],
                major=chip.capability[0],
                has=chip.capability[1],
            )
        )
    return {
        "float8": scaling,
        "float8_parameters": asked.get("float8_parameters", False),
        "keeps_transposes": asked.get("keeps_transposes", True),
        "reuses_gradients": asked.get("reuses_gradients", False),
        "plain_ends": (asked.get("plain_first", 1), asked.get("plain_last", 1)) if ends else (0, 0),
    }


def _check_microbatch_group(run: MegatronRun) -> None:
    """Raise UsageError for a micro-batch group size that the interleaved schedule refuses."""
    rest = run.accumulation % run.turns
    if run.chunks == 1 or not run.group:
        return
    if not run.pipeline <= run.group <= run.accumulation:
        raise TriedError(
            sentence(
                "megatron.group",
                name=GROUP,
                group=run.group,
                pipeline=run.pipeline,
                batches=run.accumulation,
            ),
            seen="megatron-core 0.16 pipeline_parallel/schedules.py, get_schedule_table: an "
            "assertion",
        )
    if 0 < rest < run.pipeline:
        raise TriedError(
            sentence(
                "megatron.group_left",
                name=GROUP,
                group=run.group,
                batches=run.accumulation,
                left=rest,
                pipeline=run.pipeline,
            ),
            seen="megatron-core 0.16 pipeline_parallel/schedules.py: an assertion",
        )


def _check_hybrid(model: MegatronModel, run: MegatronRun) -> None:
    """Raise UsageError for settings that a hybrid model's layers do not support."""
    mamba = model.mamba
    if mamba is not None and (mamba.heads % run.tensor or mamba.groups % run.tensor):
        raise UsageError(
            sentence(
                "megatron.mamba_heads", ranks=run.tensor, heads=mamba.heads, groups=mamba.groups
            )
        )
    if model.pattern and run.predicts:
        raise UnsupportedError(sentence("megatron.mtp_hybrid"))


def _check_tokens_divide(run: MegatronRun) -> None:
    """Raise UsageError if a sequence does not divide as Megatron splits it: for context ranks into
    two pieces each (core/utils.py, get_batch_on_this_cp_rank), for tensor ranks into one each
    (core/tensor_parallel/mappings.py)."""
    pieces = 2 * run.context if run.context > 1 else 1
    if run.length % pieces:
        raise UsageError(
            sentence("megatron.pieces", ranks=run.context, pieces=pieces, length=run.length)
        )
    if run.length // run.context % run.parts:
        raise UsageError(
            sentence("megatron.rank_tokens", ranks=run.tensor, tokens=run.length // run.context)
        )


def _divides(model: MegatronModel, run: MegatronRun) -> None:
    """Raise UsageError if the sizes of the model do not divide by the ranks that shard them."""
    keys = model.delta.key_heads if model.delta else 0
    for what, count in (("heads", model.heads), ("heads", keys), ("columns", model.width)):
        if count % run.tensor:
            raise UsageError(sentence(f"tensor_shares.{what}", ranks=run.tensor, count=count))
    _check_tokens_divide(run)
    feed = model.experts
    if feed is None and run.expert > 1:
        raise UsageError(sentence("no_experts_to_share", ranks=run.expert))
    if feed is not None and feed.count % run.expert:
        raise UsageError(sentence("megatron.experts_shared", ranks=run.expert, count=feed.count))
    if feed is not None and run.expert_data < 1:
        whole = run.expert * run.pipeline <= run.cards
        key, needed = "whole" if whole else "fewer", run.expert * run.expert_tensor * run.pipeline
        values = {"ranks": run.expert, "tensor": run.expert_tensor, "cards": run.cards}
        raise UsageError(sentence(f"megatron.expert_cards.{key}", needed=needed, **values))

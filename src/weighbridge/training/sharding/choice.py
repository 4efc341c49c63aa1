"""Sharding of a plan's parameters, gradients and states, as each framework sets it up.

    fsdp    the Trainer, TRL and axolotl reduce in 16 bits under mixed precision (accelerate:
            utils/dataclasses.py, set_mixed_precision; what else it does is below);
            others reduce in float32, each micro-batch. FSDP1 gathers ahead in backward
            (torch's BACKWARD_PRE), unless accelerate turns it off (backward_prefetch, and so does
            the Trainer: training_args.py, NO_PREFETCH). torchtitan left the last layer gathered,
            since July 2025 norm and head (83e69410); all layers in a pipeline
            (parallelize_llama.py, apply_fsdp), whose stages reduce after the last micro-batch
            (torch 2.13 distributed/pipelining/stage.py, backward_maybe_with_nosync). torchtune:
            training/_distributed.py (shard_model)
    zero    sizes of DeepSpeed's configuration, or of the Trainer's "auto"

What accelerate does around FSDP, by its version.

    1.6 to 1.12    all parts are cast to float32 when they are on the device, frozen ones too
    1.13           none: the loop that was to cast them binds a local name
    1.14 on        trained weights, before they are sharded; none if weights are packed in 4 bits.
                   Embedding, and last norm with head, are units
    to 1.10        each micro-batch reduces: FSDP2's modules have no `no_sync`
    1.11 on        all but the last keep whole gradients (set_requires_gradient_sync)

A root with reshard_after_forward frees its parameters only since torch 2.8. axolotl has its own
fsdp2_prepare_model, which casts nothing and makes only layers units. Source: accelerate 1.6.0 to
1.15.0 utils/fsdp_utils.py (fsdp2_prepare_model), accelerator.py (no_sync, prepare_model); axolotl
067b021 monkeypatch/accelerate/fsdp2.py; torch 2.7.1 _fsdp_state.py, 2.8.0 _fully_shard.py.
"""

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.records import frozen_record, replace
from weighbridge.models.arch.model_types import differs
from weighbridge.training import float8, kbit
from weighbridge.training.forward.step import Around, Unshared
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.sharding import fsdp1, fsdp2, zero
from weighbridge.training.sharding.ddp import Replicated

WIDENS_ALL = (1, 13)  # accelerate: releases before it cast all parts
UNITS_SINCE = (1, 14)
WAITS = (1, 11)
ROOTS_GO = (2, 8)  # torch since which a root frees its parameters


@frozen_record
class AccelerateRules:
    """What accelerate does around FSDP2. `widens`: which parts mixed precision casts to float32
    (all, trained or none)."""

    widens: str
    carves: bool
    waits: bool


def accelerate_rules(
    framework: str, version: tuple[int, ...] | None, *, packed: bool
) -> AccelerateRules:
    """Return accelerate's rules for `version`, None for the newest. `packed`: weights are in 4
    bits."""
    later = version is None or version >= UNITS_SINCE
    if framework == "axolotl":
        widens = "none"
    elif version is not None and version < WIDENS_ALL:
        widens = "all"
    else:
        widens = "trained" if later and not packed else "none"
    return AccelerateRules(
        widens=widens,
        carves=later and framework != "axolotl",
        waits=version is None or version >= WAITS,
    )


# ---- choice


CARVES = (2025, 7, 28)  # torchtitan since which norm and head are a unit
LLAMA_3 = 128_256  # outputs of Llama 3's head
# transformers modeling_layers.py (GradientCheckpointingLayer); llama and some more since 4.52
CHECKPOINTS_WITHIN = (4, 53)
HOOKS_ON_INPUTS = (2, 1)  # torch distributed/fsdp/_runtime_utils.py


def surrounding(plan: TrainingPlan) -> Around:
    s = plan.sharding
    if s.kind == "ddp" and s.shares > 1:
        return Replicated()
    if s.kind in ("fsdp2", "hsdp"):
        return fsdp2.Fsdp2Rank(_fsdp2(plan))
    if s.kind == "fsdp1":
        return fsdp1.FlatShard(_fsdp1(plan))
    if s.kind.startswith("zero"):
        return zero.Zero(_zero(plan))
    return Unshared()


def _zero(plan: TrainingPlan) -> zero.ZeroOptions:
    s = plan.sharding
    deepspeed = plan.framework.name == "deepspeed"
    sizes = zero.ZeroSizes() if deepspeed else zero.ZeroSizes.auto(plan.subject.body.hidden)
    return zero.ZeroOptions(
        stage=int(s.kind[-1]),
        ranks=s.shares,
        expert_ranks=s.expert_shares,
        sizes=replace(sizes, **plan.zero.sizes),
        offload=s.offload,
        eager=zero.eager(plan.zero.version),
        overlaps=plan.zero.overlaps,
        whole_first=plan.zero.whole_first or plan.subject.choice.scheme is not None,
        flattens=zero.flattens(plan.zero.version),
        recomputes=plan.checkpointing != "none",
        allocator=plan.allocator,
    )


def _fsdp2(plan: TrainingPlan) -> fsdp2.Fsdp2Options:
    s, titan = plan.sharding, plan.framework.name == "torchtitan"
    carves = titan and (plan.release is None or plan.release >= CARVES)
    theirs, apart = _accelerate(plan), _carves_for_torchtune(plan)
    return fsdp2.Fsdp2Options(
        ranks=s.shares,
        expert_ranks=s.expert_shares,
        cuts_experts=titan,
        compute=plan.computing,
        reduce=_reduced(plan),
        reshard=s.reshard if s.reshard is not None else not (titan and s.pipeline > 1),
        head_stays=not apart and not (titan and s.reshard),
        last_stays=titan and not carves,
        carved=apart or carves or (theirs is not None and theirs.carves),
        apart=apart,
        outside=plan.framework.name in ("torchtune", "torchtitan"),
        root_stays=s.reshard is False
        or not _root_gets_reshard(plan, theirs)
        or plan.torch < ROOTS_GO,
        widens=theirs.widens if theirs is not None and plan.autocast is not None else "none",
        waits=(theirs is not None and theirs.waits) or (titan and s.pipeline > 1),
        staged=titan and s.pipeline > 1,
        offload=s.offload == "params",
        across=s.kind == "hsdp" and s.data * s.context > s.shares,
        small=float8.small if float8.gathered(plan) else None,
    )


def _root_gets_reshard(plan: TrainingPlan, theirs: AccelerateRules | None) -> bool:
    """Return whether the root module gets reshard_after_forward: by torchtune
    (training/_distributed.py, shard_model, 0.3 to 0.6), by accelerate before embedding and head
    were units, or by a loop that calls fully_shard(model) with the argument (torch 2.13
    _fully_shard.py: only without it does the root stay)."""
    if theirs is not None:
        return not theirs.carves
    asked = plan.framework.name == "plain" and plan.sharding.reshard is True
    return asked or plan.framework.name == "torchtune"


def _carves_for_torchtune(plan: TrainingPlan) -> bool:
    """Return whether torchtune wraps embedding and head in units of their own: in recipes that
    train all of Llama 3 (custom_sharded_layers of llama3, llama3_1 and llama3_3; llama3_2, whose
    head is the embedding, has none: recipes/configs of 0.4.0 to 0.6.1)."""
    if plan.framework.name != "torchtune" or plan.method != "full":
        return False
    subject = plan.subject
    llama_3 = differs(subject.model_type, "torchtune_units") and subject.body.vocab == LLAMA_3
    return llama_3 and not any(x.tied for x in subject.part.blueprint.counted)


def _fsdp1(plan: TrainingPlan) -> fsdp1.Fsdp1Options:
    s = plan.sharding
    return fsdp1.Fsdp1Options(
        ranks=s.shares,
        compute=plan.computing,
        reduce=_reduced(plan),
        reshard=s.reshard is not False,
        prefetch=s.prefetch or ("none" if _with_accelerate(plan) else "pre"),
        waits=_with_accelerate(plan) or plan.framework.waits,
        one_flat=plan.framework.one_flat,
        widens=_with_accelerate(plan) and plan.autocast is not None,
        holds=around_units(plan) and not order_open(plan),
        offload=s.offload == "params",
        spreads=_with_accelerate(plan),
    )


def order_open(plan: TrainingPlan) -> bool:
    """Return whether the order of checkpoints and FSDP units is unknown: a plain loop may use
    torch's (apply_activation_checkpointing, not reentrant, on either side) or those of transformers
    4."""
    return plan.framework.name == "plain" and plan.asked_reentrant is None


def around_units(plan: TrainingPlan) -> bool:
    """Return whether checkpoints are reentrant and around FSDP's units. Later layers of
    transformers checkpoint themselves, within their units."""
    return (
        plan.reenters is True
        and plan.version < CHECKPOINTS_WITHIN
        and plan.torch >= HOOKS_ON_INPUTS
    )


def _with_accelerate(plan: TrainingPlan) -> bool:
    return plan.framework.accelerate


def _accelerate(plan: TrainingPlan) -> AccelerateRules | None:
    if not _with_accelerate(plan):
        return None
    packed = kbit.four_bits(plan.subject.choice.scheme)
    return accelerate_rules(plan.framework.name, plan.accelerate, packed=packed)


def _reduced(plan: TrainingPlan) -> DType:
    """Return the dtype that gradients are reduced in."""
    if plan.sharding.reduced is not None:
        return plan.sharding.reduced
    mixed = plan.autocast is not None
    return FLOAT32 if mixed and not _with_accelerate(plan) else plan.computing

"""The surroundings that a plan has.

fsdp        the Trainer, TRL and axolotl reduce what is mixed in 16 bits (accelerate:
            utils/dataclasses.py, set_mixed_precision; what else it does is below);
            others reduce in float32, each micro-batch. torchtitan left the last layer gathered,
            since July 2025 norm and head (83e69410); all layers in a pipeline
            (parallelize_llama.py, apply_fsdp). torchtune: training/_distributed.py (shard_model)
zero        sizes of DeepSpeed's configuration, or of the Trainer's "auto"

What accelerate does around FSDP, by its version.

    1.6 to 1.12    all parts are cast to float32 when they are on the device, frozen ones too
    1.13           none: the loop that was to cast them binds a local name
    1.14 on        what is trained, before it is cut; nothing where weights are packed in 4 bits.
                   Embedding, and last norm with head, are units
    to 1.10        each micro-batch reduces: FSDP2's modules have no `no_sync`
    1.11 on        all but the last keep whole gradients (set_requires_gradient_sync)

A root that was told to give its parameters back after forward does so since torch 2.8 only. axolotl
brings a fsdp2_prepare_model of its own, which casts nothing and makes no units but layers.
Source: accelerate 1.6.0 to 1.15.0 utils/fsdp_utils.py (fsdp2_prepare_model), accelerator.py
(no_sync, prepare_model); axolotl 067b021 monkeypatch/accelerate/fsdp2.py; torch 2.7.1
_fsdp_state.py, 2.8.0 _fully_shard.py.
"""

from dataclasses import dataclass, replace

from weighbridge.arch.model_types import differs
from weighbridge.dtypes import FLOAT32, DType
from weighbridge.forward.around import Around, Unshared
from weighbridge.training import kbit
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.sharding import fsdp1, fsdp2, zero
from weighbridge.training.sharding.ddp import Replicated

WIDENS_ALL = (1, 13)  # before
UNITS_SINCE = (1, 14)
WAITS = (1, 11)
ROOTS_GO = (2, 8)  # torch


@dataclass(frozen=True, slots=True, kw_only=True)
class AccelerateRules:
    """`widens`: which parts become float32 under mixed precision: all, trained or none."""

    widens: str
    carves: bool
    waits: bool


def accelerate_rules(
    framework: str, version: tuple[int, ...] | None, *, packed: bool
) -> AccelerateRules:
    """`packed`: weights are in 4 bits. A version of None is the newest."""
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


CARVES = (2025, 7, 28)  # torchtitan
LLAMA_3 = 128_256  # outputs
# transformers modeling_layers.py (GradientCheckpointingLayer); llama and some more since 4.52
CHECKPOINTS_WITHIN = (4, 53)
HOOKS_ON_INPUTS = (2, 1)  # torch distributed/fsdp/_runtime_utils.py


def surrounding(p: TrainingPlan) -> Around:
    s = p.sharding
    if s.kind == "ddp" and s.shares > 1:
        return Replicated()
    if s.kind in ("fsdp2", "hsdp"):
        return fsdp2.Fsdp2Rank(_fsdp2(p))
    if s.kind == "fsdp1":
        return fsdp1.FlatShard(_fsdp1(p))
    if s.kind.startswith("zero"):
        return zero.Zero(_zero(p))
    return Unshared()


def _zero(p: TrainingPlan) -> zero.ZeroOptions:
    s = p.sharding
    own = p.framework.name == "deepspeed"
    sizes = zero.ZeroSizes() if own else zero.ZeroSizes.auto(p.subject.body.hidden)
    return zero.ZeroOptions(
        stage=int(s.kind[-1]),
        ranks=s.shares,
        sizes=replace(sizes, **p.zero.sizes),
        offload=s.offload,
        eager=zero.eager(p.zero.version),
        overlaps=p.zero.overlaps,
        whole_first=p.zero.whole_first or p.subject.choice.scheme is not None,
        flattens=zero.flattens(p.zero.version),
    )


def _fsdp2(p: TrainingPlan) -> fsdp2.Fsdp2Options:
    s, titan = p.sharding, p.framework.name == "torchtitan"
    carves = titan and (p.release is None or p.release >= CARVES)
    theirs, apart = _accelerate(p), _of_torchtune(p)
    return fsdp2.Fsdp2Options(
        ranks=s.shares,
        compute=p.computing,
        reduce=_reduced(p),
        reshard=not (titan and s.pipeline > 1),
        last_stays=titan and not carves,
        carved=apart or carves or (theirs is not None and theirs.carves),
        apart=apart,
        outside=p.framework.name in ("torchtune", "torchtitan"),
        root_stays=not _tells_roots(p, theirs) or p.torch < ROOTS_GO,
        widens=theirs.widens if theirs is not None and p.autocast is not None else "none",
        waits=theirs is not None and theirs.waits,
        offload=s.offload == "params",
        across=s.kind == "hsdp" and s.data * s.context > s.shares,
    )


def _tells_roots(p: TrainingPlan, theirs: AccelerateRules | None) -> bool:
    """Whether the root is told reshard_after_forward: by torchtune (training/_distributed.py,
    shard_model, 0.3 to 0.6), and by accelerate before it made units of embedding and head."""
    return p.framework.name == "torchtune" or (theirs is not None and not theirs.carves)


def _of_torchtune(p: TrainingPlan) -> bool:
    """Whether recipes give embedding and head units of their own: those that train Llama 3 whole
    (custom_sharded_layers of llama3, llama3_1 and llama3_3)."""
    whole = p.framework.name == "torchtune" and p.method == "full"
    own = differs(p.subject.model_type, "torchtune_units") and p.subject.body.vocab == LLAMA_3
    return whole and own


def _fsdp1(p: TrainingPlan) -> fsdp1.Fsdp1Options:
    return fsdp1.Fsdp1Options(
        ranks=p.sharding.shares,
        compute=p.computing,
        reduce=_reduced(p),
        waits=_with_accelerate(p) or p.framework.waits,
        one_flat=p.framework.one_flat,
        widens=_with_accelerate(p) and p.autocast is not None,
        holds=_checkpoints_around_units(p),
        offload=p.sharding.offload == "params",
    )


def _checkpoints_around_units(p: TrainingPlan) -> bool:
    """Whether checkpoints are reentrant and stand around FSDP's units. Later layers of transformers
    checkpoint themselves, within their units."""
    return p.reenters is True and p.version < CHECKPOINTS_WITHIN and p.torch >= HOOKS_ON_INPUTS


def _with_accelerate(p: TrainingPlan) -> bool:
    return p.framework.accelerate


def _accelerate(p: TrainingPlan) -> AccelerateRules | None:
    if not _with_accelerate(p):
        return None
    packed = kbit.four_bits(p.subject.choice.scheme)
    return accelerate_rules(p.framework.name, p.accelerate, packed=packed)


def _reduced(p: TrainingPlan) -> DType:
    """What gradients are reduced in."""
    mixed = p.autocast is not None
    return FLOAT32 if mixed and not _with_accelerate(p) else p.computing

"""Phases of the report: the components alive at the peak of each phase.

Rounding and fragmentation are the replayed allocator's. Empty cached blocks are returned to the
driver before torch fails: they are between the low and the high bound.

Buffers of NCCL for each group of ranks: `kernels/nccl.py`.
"""

from collections.abc import Callable, Iterator, Mapping

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.memory import Bytes, Component, Instant, exactly
from weighbridge.machines.kernels.nccl import LAZY_SINCE, SOURCE, communicator
from weighbridge.memory.components import spelled
from weighbridge.memory.components.activations import LivePeak
from weighbridge.memory.components.device import cached, context, fragmentation, kernels, rounding
from weighbridge.memory.components.weights import MERGES, weight_bytes
from weighbridge.models.arch.body import Experts
from weighbridge.models.arch.model_types import facts
from weighbridge.training import kbit, unsloth
from weighbridge.training.forward.ops.packed import DEQUANTIZED
from weighbridge.training.objective import LOG_PROBS, REFERENCE
from weighbridge.training.optimizers.bits import TUNING
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.run import TrainingRun
from weighbridge.training.sharding.choice import around_units, order_open
from weighbridge.training.sharding.schedule import FOR_WEIGHTS
from weighbridge.training.sharding.zero import ZeroSizes

NAMES = ("load", LOG_PROBS, REFERENCE, "forward", "loss", "backward", "step", "evaluation", "save")
MOVING = ("activations", "logits", "temporaries")
TOWERS = "towers"  # vision and audio encoders
COMPILED = 12  # percent: torch.compile's partitioner decides what is saved and recomputed


def phases(plan: TrainingPlan, result: TrainingRun) -> tuple[Instant, ...]:
    return tuple(
        Instant(name, tuple(_components(plan, result, name, result.moments[name])))
        for name in NAMES
        if name in result.moments
    )


def _components(
    plan: TrainingPlan, result: TrainingRun, name: str, peak: LivePeak
) -> Iterator[Component]:
    for what, nbytes in peak.live.items():
        if what in APART:
            yield APART[what](plan, nbytes)
            continue
        assumed = bool(what in ("activations", "temporaries") and result.program.said)
        low, high = (result.program.low, result.program.high) if assumed else (1, 1)
        yield Component(
            name=what,
            bytes=Bytes(int(nbytes * low), nbytes, int(nbytes * high)),
            basis="assumed" if assumed else "computed",
            formula=_formula(plan, result, what, nbytes),
            source=_source(plan, what),
        )
    yield rounding(peak.rounding)
    free = max(0, result.reserved[name] - peak.allocated)
    returned = ", given back where the card is full" if result.bounded else ""
    yield fragmentation(cached(free), returned)
    if plan.sharding.kind == "zero3" and name != "load":
        yield _pieces(result)
    yield from _waiting_fsdp1_units(plan, name)
    yield from _uneven_expert_blocks(plan, name)
    yield from _uneven_expert_tokens(plan, name)
    loaded, kept = result.moments["load"].allocated, peak.live.get("activations", 0)
    yield from unsloth.components(plan, name, loaded, kept)
    yield from _other_buckets(plan, name)
    yield from _second_tied_embedding(plan, name)
    yield from _held_inputs(plan, name)
    yield from _held_logits(plan, name)
    unsure = plan.framework.unsure + (COMPILED if plan.compiled else 0)
    if unsure and name != "load":
        moving = sum(peak.live.get(what, 0) for what in MOVING)
        yield Component(
            name="temporaries",
            detail="kernels that were not followed",
            bytes=Bytes(0, 0, moving * unsure // 100),
            basis="assumed",
            formula=f"up to {unsure} % of activations, logits and temporaries",
            source=plan.framework.source,
        )
    if result.unsure and name == ("backward" if plan.optimizer.in_backward else "step"):
        yield _tuned(plan, Bytes(0, 0, result.unsure))
    yield from _unread(plan, result, name)
    yield from _wide_stream(plan, peak, name)
    yield from _pending_weight_gradients(result, name)
    if plan.sharding.cards > 1:
        yield communication(plan)
    yield context(plan.part)
    if name != "load":
        yield from kernels(plan.torch, plan.part)


def _at_most(name: str, detail: str, nbytes: int, formula: str, source: str) -> Component:
    """Return a component of 0 to `nbytes` bytes, 0 expected."""
    size = Bytes(0, 0, nbytes)
    return Component(
        name=name, detail=detail, bytes=size, basis="assumed", formula=formula, source=source
    )


# percent: ZeRO-3 frees parameters while the device still reads them, and the host's lead over the
# device decides which blocks wait. Six published runs of a 72B on four cards took 3 to 11 % more
# than the estimate followed, one of a 70B 14 %
PIECES = 20


def _pieces(result: TrainingRun) -> Component:
    """Return what blocks that wait for the device may add, in the peak's phase and all later
    ones."""
    most = max(peak.allocated for peak in result.moments.values())
    return Component(
        name="fragmentation",
        detail="gathered parameters",
        bytes=Bytes(0, 0, most * PIECES // 100),
        basis="assumed",
        formula=f"up to {PIECES} % of the most that is allocated: blocks that wait for the device",
        source="DeepSpeed runtime/zero/partitioned_param_coordinator.py",
    )


# torch distributed/fsdp/_limiter_utils.py (_FreeEventQueue): freed units whose blocks wait for the
# device (record_stream), while the host goes on to the next. Runs of an 8B on eight H100 had one
# more than was followed (our own)
WAITING = 2


def _waiting_fsdp1_units(plan: TrainingPlan, name: str) -> Iterator[Component]:
    """Yield FSDP1's gathered units that wait for reuse; a replay in order does not have them."""
    body, choice = plan.subject.body, plan.subject.choice
    if name not in RUNNING or plan.sharding.kind != "fsdp1" or not body.blocks:
        return
    whole = weight_bytes(plan.subject.part, choice, major=plan.major)
    ends = choice.dtype.size((body.vocab or 0) * body.hidden)
    unit = max(0, whole - ends) // len(body.blocks)
    if choice.scheme is None:
        unit = unit * plan.computing.size(1) // choice.dtype.size(1)
    yield _at_most(
        "fragmentation",
        "units that wait",
        WAITING * unit,
        f"up to {WAITING} gathered units, given back while the device still reads them",
        "torch distributed/fsdp/_limiter_utils.py",
    )


def _uneven_expert_blocks(plan: TrainingPlan, name: str) -> Iterator[Component]:
    """Yield what blocks of other sizes may add if experts run one by one. The replay gives each
    expert as many tokens, but routers do not, so few blocks fit another expert's tensors. Per
    layer: the experts' input, gate, up, their product, and the gradients of these."""
    feeds = (f for b in plan.subject.body.blocks for f in b.feeds)
    one = next((f for f in feeds if isinstance(f, Experts)), None)
    looped = plan.major < MERGES and plan.framework.loads == "transformers"
    if name not in RUNNING or one is None or not looped or plan.allocator.expandable_segments:
        return
    rows = plan.batch * plan.length * one.top_k
    yield _at_most(
        "fragmentation",
        "uneven experts",
        2 * plan.computing.size(rows * (plan.subject.body.hidden + 4 * one.width)),
        "up to as many bytes again as experts of a layer keep, and their gradients",
        "transformers 4 models/mixtral/modeling_mixtral.py, a router's counts",
    )


MORE_GIVEN = (
    2  # divides an equal part, added to it: Megatron's own tests gave ranks 0.84 to 1.37 (assumed)
)


def _uneven_expert_tokens(plan: TrainingPlan, name: str) -> Iterator[Component]:
    """Yield what a rank may save for tokens beyond its equal part, if experts are sharded: the
    experts' input, gate, up, their product and their output."""
    s, body = plan.sharding, plan.subject.body
    feeds = [f for b in body.blocks for f in b.feeds if isinstance(f, Experts)]
    if name not in RUNNING or s.expert == 1 or not feeds:
        return
    layers = 1 if plan.checkpointing in ("full", "offload") else -(-len(feeds) // s.pipeline)
    rows = plan.batch * plan.length * feeds[0].top_k // s.context
    rows //= s.tensor if plan.framework.shares_tokens else 1
    yield _at_most(
        "activations",
        "uneven experts",
        plan.computing.size(layers * rows * 3 * (body.hidden + feeds[0].width)) // MORE_GIVEN,
        f"half as many rows again as {rows:,} of equal parts, in {layers} layers",
        "torchtitan models/moe: no capacity; Megatron-LM's own tests",
    )


def _other_buckets(plan: TrainingPlan, name: str) -> Iterator[Component]:
    """Yield what ZeRO 1 and 2 take if buckets are larger than assumed and the user set no size: the
    Trainer fills in only "auto", DeepSpeed's own default is 5e8 elements, and examples have two of
    2e8."""
    untold = "reduce" not in plan.zero.sizes and not plan.zero.overlaps
    if name != "backward" or plan.sharding.kind not in ("zero1", "zero2") or not untold:
        return
    more = plan.computing.size(ZeroSizes().reduce - ZeroSizes.auto(plan.subject.body.hidden).reduce)
    if plan.framework.name == "deepspeed" or more <= 0:
        return
    yield _at_most(
        "temporaries",
        "larger buckets",
        more,
        "reduce_bucket_size of 5e8, where the configuration does not say auto: "
        "--zero-reduce-bucket-size",
        "DeepSpeed runtime/zero/config.py",
    )


def _second_tied_embedding(plan: TrainingPlan, name: str) -> Iterator[Component]:
    """Yield a second copy of a tied embedding, which its head may have: published runs of adapters
    under FSDP2 and of ZeRO 3 took 10 to 20 % more than was followed, about its size. The cause is
    unknown: in the sources of accelerate, DeepSpeed, PEFT 0.21 (whose wrap policy the Trainer gives
    only to FSDP1) and transformers both are one parameter."""
    s = plan.sharding
    shared = s.kind == "zero3" or (s.kind in ("fsdp2", "hsdp") and plan.adapters is not None)
    tied = any(x.tied and x.kind == "linear" for x in plan.subject.part.blueprint.counted)
    if name not in RUNNING or not shared or not tied:
        return
    body = plan.subject.body
    yield _at_most(
        "temporaries",
        "tied embedding",
        plan.computing.size(body.vocab * body.hidden),
        f"{body.vocab:,} x {body.hidden:,} numbers, gathered once more for the head",
        "published runs; accelerate 1.15 utils/fsdp_utils.py has them as one",
    )


def _held_inputs(plan: TrainingPlan, name: str) -> Iterator[Component]:
    """Yield the inputs of frozen units and their gradients, which FSDP1 may hold until backward
    ends. It does so with reentrant checkpoints around units: `holds` of fsdp1.py, for a loop of
    unknown order."""
    asked = plan.sharding.kind == "fsdp1" and plan.adapters is not None
    if name != "backward" or not (asked and around_units(plan) and order_open(plan)):
        return
    body, tokens = plan.subject.body, plan.batch * plan.length
    yield _at_most(
        "activations",
        "inputs of layers",
        2 * plan.activations.size(len(body.blocks) * tokens * body.hidden),
        "inputs of all layers and their gradients, of checkpoints that are reentrant and "
        "around FSDP's units: --use-reentrant says",
        "torch distributed/fsdp/_runtime_utils.py",
    )


def _held_logits(plan: TrainingPlan, name: str) -> Iterator[Component]:
    """Yield logits that may live through the loss, in classes that compute it in their own dtype:
    published runs of GPTBigCode took 2 bytes per element more than was followed, and 4 under
    autocast. Who holds them was not found."""
    plain = facts(plan.subject.model_type.removesuffix("_text")).transformers.plain_loss
    if name not in ("loss", "backward") or (*plan.version, plan.patch) >= plain:
        return
    wide = FLOAT32 if plan.autocast else plan.dtype
    nbytes = wide.size(plan.batch * plan.length * plan.subject.body.vocab)
    yield Component(
        name="logits",
        detail="that may be held",
        bytes=Bytes(0, nbytes, nbytes),
        basis="assumed",
        formula="logits once more, as the class hands them out",
        source="transformers 4.48.0 models/gpt_bigcode/modeling_gpt_bigcode.py; published runs",
    )


def _towers(plan: TrainingPlan, nbytes: int) -> Component:
    items = ", ".join(f"{count:,} {kind}" for kind, count in plan.items.items() if count)
    return Component(
        name="activations",
        detail=TOWERS,
        bytes=Bytes(nbytes // 2, nbytes, 2 * nbytes),
        basis="assumed",
        formula=f"{items} of a sequence, through layers that were read by their parameters alone",
        source="the class's tensors, and the positions of an item",
    )


def _tuned(plan: TrainingPlan, nbytes: Bytes) -> Component:
    """Return the memory of Inductor's autotuner in the first step; a third average in float32 would
    take as much."""
    return Component(
        name="temporaries",
        detail=TUNING,
        bytes=nbytes,
        basis="assumed",
        formula="of the largest parameter: itself, and the codes of its averages",
        source=plan.optimizer.source,
    )


def _dequantized(plan: TrainingPlan, nbytes: int) -> Component:
    """Return the weights that torch's GPTQ kernel dequantizes and saves; other kernels save
    none."""
    known = plan.base.asked_kernel is not None
    return Component(
        name="activations",
        detail=DEQUANTIZED,
        bytes=Bytes(nbytes if known else 0, nbytes, nbytes),
        basis="computed" if known else "assumed",
        formula="16 bits a number of packed linears, from forward to backward",
        source="GPTQModel nn_modules/qlinear/torch.py",
    )


def _unread(plan: TrainingPlan, result: TrainingRun, name: str) -> Iterator[Component]:
    """Yield what an unknown kernel may save: each dequantized matrix in 16 bits, of one layer if
    layers are recomputed."""
    if name not in RUNNING or kbit.read(plan.subject.choice.scheme):
        return
    most = result.packed if plan.checkpointing == "none" else result.packed_in_layer
    yield _at_most(
        "activations",
        DEQUANTIZED,
        2 * most,
        "up to 16 bits a number of packed linears, from forward to backward",
        "kernels of the format were not followed",
    )


def _pending_weight_gradients(result: TrainingRun, name: str) -> Iterator[Component]:
    """Yield what zero-bubble micro-batches keep that still lack their weight gradients."""
    if not result.waiting or name not in RUNNING:
        return
    most = result.waiting * (result.saved // result.flight)
    part, whole = FOR_WEIGHTS
    yield Component(
        name="activations",
        detail="for gradients of weights",
        bytes=Bytes(0, most * part // whole, most),
        basis="assumed",
        formula=f"{result.waiting} micro-batches wait, {part} / {whole} of what each keeps",
        source="Qi et al., Zero Bubble Pipeline Parallelism, table 1 (arXiv 2401.10241)",
    )


def _wide_stream(plan: TrainingPlan, peak: LivePeak, name: str) -> Iterator[Component]:
    """Yield hidden states in float32 if a quantized base is sharded: a script may cast what is not
    quantized, as on one device. Two published runs of a 70B took 7 GiB more than without."""
    packed = plan.subject.choice.scheme is not None and plan.framework.upcast != "none"
    if (
        name not in RUNNING
        or not (plan.sharding.parameters and packed)
        or plan.base.asked_upcast is not None
    ):
        return
    yield _at_most(
        "activations",
        "hidden states in float32",
        peak.live.get("activations", 0),
        "as many bytes again, where the script casts what is not packed",
        "PEFT docs/source/accelerate/fsdp.md; whether it casts there is not told",
    )


def _reference(plan: TrainingPlan, nbytes: int) -> Component:
    many, dtype = "as many bytes as", plan.dtype
    if plan.objective is not None and plan.objective.halved:
        many, dtype = "half of the bytes of", plan.computing
    return Component(
        name="weights",
        detail=REFERENCE,
        role=REFERENCE,
        bytes=exactly(nbytes),
        basis="computed",
        formula=f"{many} the policy's weights, in {dtype.name}: a frozen copy",
        source="the class's tensors",
    )


RUNNING = ("forward", "loss", "backward")
APART: Mapping[str, Callable[[TrainingPlan, int], Component]] = {
    TOWERS: _towers,
    DEQUANTIZED: _dequantized,
    REFERENCE: _reference,
    TUNING: lambda p, nbytes: _tuned(p, Bytes(0, nbytes, nbytes)),
}


def _formula(plan: TrainingPlan, result: TrainingRun, what: str, nbytes: int) -> str:
    tokens, vocab = plan.batch * plan.length, plan.subject.body.vocab
    trained = spelled.each(nbytes, result.trainable, "trained parameters")
    outputs = spelled.each(nbytes, tokens * vocab, "numbers")
    rows = f"{plan.batch:,} x {plan.length:,} tokens"
    formulas = {
        "weights": spelled.parameters(plan.subject.model.parameters, _base_format(plan), nbytes),
        "gradients": trained,
        "adapters": trained,
        "optimizer_states": f"{trained}: {plan.optimizer.name}, {plan.optimizer.formula}",
        "activations": f"{spelled.each(nbytes, tokens, 'tokens')}, kept for backward: "
        f"checkpointing {plan.checkpointing}",
        "logits": f"{rows} x {vocab:,} outputs = {outputs} with their loss, {plan.loss}",
        "temporaries": "gradients of activations and what kernels take for a moment",
        "workspaces": f"{_library(plan)}, one for each thread that multiplies",
        "buffers": "tensors that modules hold and do not train",
    }
    return formulas.get(what, "")


def _base_format(plan: TrainingPlan) -> str:
    """Return the name of the base's format or dtype, for a formula."""
    form = plan.subject.choice.scheme
    return plan.dtype.name if form is None else f"{form.name} and {plan.dtype.name}"


def _library(plan: TrainingPlan) -> str:
    return "hipBLAS" if plan.part is not None and plan.part.stack == "hip" else "cuBLAS"


def _source(plan: TrainingPlan, what: str) -> str:
    return {
        "weights": "the class's tensors",
        "optimizer_states": plan.optimizer.source,
        "workspaces": "torch aten/src/ATen/cuda/CublasHandlePool.cpp",
    }.get(what, "transformers models/*/modeling_*.py, run over shapes")


# ---- nccl


def communication(plan: TrainingPlan) -> Component:
    """Return a rank's NCCL buffers, one set per kind of rank group, independent of the model."""
    s = plan.sharding
    groups = sum(n > 1 for n in (s.data, s.tensor, s.pipeline, s.context, s.expert))
    each = communicator(
        None if plan.part is None else plan.chip.links, lazy=plan.torch >= LAZY_SINCE
    )
    return Component(
        name="communication",
        detail="NCCL",
        bytes=Bytes(*(groups * n for n in each)),
        basis="assumed",
        formula=f"{groups} kinds of groups; buffers by links and channels, whatever the model is",
        source=SOURCE,
    )

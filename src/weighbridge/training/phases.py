"""Moments in the words of the report: what was alive at the fullest moment of each phase.

Rounding and fragmentation are the replayed allocator's. Blocks that nothing lives in are given
back to the driver before torch gives up: they are between the low and the high end.
"""

from collections.abc import Iterator

from weighbridge.components.activations import Peak
from weighbridge.components.device import REPLAY, cached, context, libraries
from weighbridge.memory import Bytes, Component, Phase, exactly
from weighbridge.training.plan import Plan
from weighbridge.training.run import Run
from weighbridge.units import MIB

NAMES = ("load", "forward", "loss", "backward", "step", "evaluation", "save")
MOVING = ("activations", "logits", "temporaries")
TOWERS = "towers"  # of images and sounds
COMPILED = 12  # percent: what torch.compile keeps and takes is its partitioner's choice


def phases(p: Plan, found: Run) -> tuple[Phase, ...]:
    return tuple(
        Phase(name, tuple(_components(p, found, name, found.moments[name])))
        for name in NAMES
        if name in found.moments
    )


def _components(p: Plan, found: Run, name: str, peak: Peak) -> Iterator[Component]:
    for what, nbytes in peak.live.items():
        if what == TOWERS:
            yield _towers(p, nbytes)
            continue
        assumed = bool(what in ("activations", "temporaries") and found.program.said)
        low, high = (found.program.low, found.program.high) if assumed else (1, 1)
        yield Component(
            name=what,
            bytes=Bytes(int(nbytes * low), nbytes, int(nbytes * high)),
            basis="assumed" if assumed else "computed",
            formula=_formula(p, found, what),
            source=_source(p, what),
        )
    yield Component(
        name="rounding",
        bytes=exactly(peak.rounding),
        basis="computed",
        formula="blocks of 512 bytes, and remainders too small to split off",
        source=REPLAY,
    )
    free = max(0, found.reserved[name] - peak.allocated)
    yield Component(
        name="fragmentation",
        bytes=cached(free),
        basis="computed",
        formula="free room in segments of 2 MiB, 20 MiB or a tensor's own"
        + (", given back where the card is full" if found.bounded else ""),
        source=REPLAY,
    )
    if p.sharding.kind == "zero3" and name != "load":
        yield _pieces(peak)
    unsure = p.framework.unsure + (COMPILED if p.compiled else 0)
    if unsure and name != "load":
        moving = sum(peak.live.get(what, 0) for what in MOVING)
        yield Component(
            name="temporaries",
            detail="kernels that were not followed",
            bytes=Bytes(0, 0, moving * unsure // 100),
            basis="assumed",
            formula=f"up to {unsure} % of activations, logits and temporaries",
            source=p.framework.source,
        )
    if p.sharding.ranks > 1:
        yield _communication(p)
    yield context(p.part)
    if name != "load":
        yield libraries(p.torch)


# percent: what ZeRO-3 has gathered goes parameter by parameter, in an order that the host's lead
# over the device decides, and its stream's blocks serve nothing else. Six published runs of a 72B
# on four cards took 7 to 16 % more than what was followed
PIECES = 20


def _pieces(peak: Peak) -> Component:
    return Component(
        name="fragmentation",
        detail="gathered parameters",
        bytes=Bytes(0, 0, peak.allocated * PIECES // 100),
        basis="assumed",
        formula=f"up to {PIECES} % of what is allocated: blocks of a stream of their own",
        source="DeepSpeed runtime/zero/partitioned_param_coordinator.py",
    )


def _towers(p: Plan, nbytes: int) -> Component:
    items = ", ".join(f"{count:,} {kind}" for kind, count in p.items.items() if count)
    return Component(
        name="activations",
        detail=TOWERS,
        bytes=Bytes(nbytes // 2, nbytes, 2 * nbytes),
        basis="assumed",
        formula=f"{items} of a sequence, through layers that were read by their parameters alone",
        source="the class's tensors, and the positions of an item",
    )


# MiB of one group of ranks: a ring of 2 to 32 channels with a receive buffer of 9.19 MiB each (NCCL
# transport/p2p.cc), trees and NVLink SHARP beside it (2 MiB a channel and rank)
A_GROUP = (40, 300, 1000)


def _communication(p: Plan) -> Component:
    s = p.sharding
    groups = sum(n > 1 for n in (s.data, s.tensor, s.pipeline, s.context, s.expert))
    low, expected, high = (groups * n * MIB for n in A_GROUP)
    return Component(
        name="communication",
        detail="NCCL",
        bytes=Bytes(low, expected, high),
        basis="assumed",
        formula=f"{groups} kinds of groups; buffers by links and channels",
        source="NVIDIA/nccl src/init.cc, src/transport/p2p.cc, src/transport/nvls.cc",
    )


def _formula(p: Plan, found: Run, what: str) -> str:
    tokens = f"{p.batch:,} x {p.length:,} tokens"
    told = {
        "weights": f"{p.subject.model.parameters:,} parameters in {p.dtype.name}",
        "gradients": f"of {found.trainable:,} trainable parameters",
        "optimizer_states": f"{p.optimizer.name}: {p.optimizer.formula} of what is trained",
        "activations": f"saved for backward of {tokens}, checkpointing {p.checkpointing}",
        "logits": f"{tokens} x {p.subject.body.vocab:,} outputs and their loss, {p.loss}",
        "temporaries": "gradients of activations and what kernels take for a moment",
        "workspaces": "cuBLAS, one for each thread that multiplies",
        "buffers": "tensors that modules hold and do not train",
    }
    return told.get(what, "")


def _source(p: Plan, what: str) -> str:
    return {
        "weights": "the class's tensors",
        "optimizer_states": p.optimizer.source,
        "workspaces": "torch aten/src/ATen/cuda/CublasHandlePool.cpp",
    }.get(what, "transformers models/*/modeling_*.py, run over shapes")

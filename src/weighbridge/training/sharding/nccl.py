"""Buffers of NCCL for each group of ranks: `kernels/nccl.py`."""

from weighbridge.kernels.nccl import LAZY_SINCE, SOURCE, communicator
from weighbridge.memory import Bytes, Component
from weighbridge.training.plan import TrainingPlan


def communication(p: TrainingPlan) -> Component:
    """What a rank has for its groups; a size of its own for each, and none for the model's."""
    s = p.sharding
    groups = sum(n > 1 for n in (s.data, s.tensor, s.pipeline, s.context, s.expert))
    each = communicator(None if p.part is None else p.chip.links, lazy=p.torch >= LAZY_SINCE)
    return Component(
        name="communication",
        detail="NCCL",
        bytes=Bytes(*(groups * n for n in each)),
        basis="assumed",
        formula=f"{groups} kinds of groups; buffers by links and channels, whatever the model is",
        source=SOURCE,
    )

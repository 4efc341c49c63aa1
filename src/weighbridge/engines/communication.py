"""What ranks need to talk to each other: buffers of NCCL and of the engines' own collectives."""

from collections.abc import Sequence

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.body import Body
from weighbridge.engines.table import Version
from weighbridge.memory import Component


def communication(
    engine: str,
    version: Version,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    data: int = 1,
    expert_parallel: bool = False,
    body: Body | None = None,
    budget: Budget | None = None,
) -> tuple[Component, ...]:
    """Of one device."""
    parts: Sequence[Component] = ()
    return tuple(parts)

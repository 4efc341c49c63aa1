"""States in managed memory, which the driver moves: on the device as far as there is room.

    a device was named    what is surely left of it, and the rest is on the host
    none was named        nothing to all of them: how much room there is nobody has said

They are outside torch's allocator, which does not give them its cached blocks. Source: bitsandbytes
optim/optimizer.py (get_state_buffer, prefetch_state), csrc/pythonInterface.cpp (cget_managed_ptr).
"""

from weighbridge.memory import Bytes, Component, Phase, exactly
from weighbridge.training.optimizers import Optimizer


def beside(phase: Phase, managed: int, optimizer: Optimizer, usable: Bytes | None) -> Phase:
    """The phase with them. Before the first step there are none."""
    if not managed or phase.name == "load":
        return phase
    states = Component(
        name="other",
        detail="paged optimizer states",
        bytes=_here(phase.at("driver"), managed, usable),
        basis="computed",
        formula=f"{optimizer.name}: managed memory, on the device as far as there is room",
        source=optimizer.source,
    )
    return Phase(phase.name, (*phase.components, states))


def _here(rest: Bytes, managed: int, usable: Bytes | None) -> Bytes:
    if usable is None:
        return Bytes(0, managed // 2, managed)
    return exactly(min(managed, max(0, usable.low - rest.high)))


def paged_out(rests: list[Bytes], managed: int, usable: Bytes | None) -> Bytes:
    """What the host has of them. `rests` are the phases of a device without them."""
    if not managed or usable is None:
        return Bytes(0, managed // 2, managed)
    low, expected, high = (
        max(0, max(bounds) + managed - room)
        for bounds, room in zip(zip(*rests, strict=True), reversed(usable), strict=True)
    )
    return Bytes(min(low, managed), min(expected, managed), min(high, managed))

"""States in managed memory, which the driver moves: on the device as far as there is room.

    a device was named    what is surely left of it beside all else, and the rest is on the host
    none was named        nothing to all of them: how much room there is nobody has said

They are outside torch's allocator, which does not give them its cached blocks. Source: bitsandbytes
optim/optimizer.py (get_state_buffer, prefetch_state), csrc/pythonInterface.cpp (cget_managed_ptr).
"""

from collections.abc import Sequence
from dataclasses import replace

from weighbridge.memory import Bytes, Component, Device, Phase, exactly
from weighbridge.training.optimizers import Optimizer
from weighbridge.training.sharding.numbers import NODE

BEFORE = "load"  # the phase in which there are no states yet


def placed(
    devices: Sequence[Device], managed: int, optimizer: Optimizer, usable: Bytes | None
) -> tuple[Device, ...]:
    """Devices and the host with so many bytes of managed states of each device."""
    gpus = [d for d in devices if d.kind == "gpu"]
    if not managed or not gpus:
        return tuple(devices)
    rests = [p.at("driver") for d in gpus for p in d.phases if p.name != BEFORE]
    out = paged_out(rests, managed, usable)
    ranks = min(NODE, len(gpus))
    away = _states(Bytes(*(ranks * b for b in out)), optimizer, "paged out of the device")
    return tuple(_beside(d, managed, optimizer, usable, away) for d in devices)


def paged_out(rests: Sequence[Bytes], managed: int, usable: Bytes | None) -> Bytes:
    """What the host has of one device's. `rests` are the phases of devices without them."""
    if not managed or usable is None:
        return Bytes(0, managed // 2, managed)
    low, expected, high = (
        max(0, max(bounds) + managed - room)
        for bounds, room in zip(zip(*rests, strict=True), reversed(usable), strict=True)
    )
    return Bytes(min(low, managed), min(expected, managed), min(high, managed))


def _beside(
    d: Device, managed: int, optimizer: Optimizer, usable: Bytes | None, away: Component
) -> Device:
    phases = []
    for phase in d.phases:
        own = away
        if d.kind == "gpu":
            here = _here(phase.at("driver"), managed, usable)
            own = _states(here, optimizer, "paged optimizer states", name="other")
        later = phase.name != BEFORE and own.bytes.high > 0
        phases.append(Phase(phase.name, (*phase.components, own)) if later else phase)
    return replace(d, phases=tuple(phases))


def _here(rest: Bytes, managed: int, usable: Bytes | None) -> Bytes:
    if usable is None:
        return Bytes(0, managed // 2, managed)
    return exactly(min(managed, max(0, usable.low - rest.high)))


def _states(
    nbytes: Bytes, optimizer: Optimizer, detail: str, *, name: str = "optimizer_states"
) -> Component:
    return Component(
        name=name,
        detail=detail,
        bytes=nbytes,
        basis="assumed",
        formula=f"{optimizer.name}: managed memory, on the device as far as there is room",
        source=optimizer.source,
    )

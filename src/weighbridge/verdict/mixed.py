"""What each of several cards holds that differ: a load, dealt out as its loader does it.

    device_map="auto"    a card takes an even share and 5/4 of the largest layer, or all that it
                         has free beside its context where that is less; the last one what is left
    llama.cpp            each takes layers by the part of all free memory that it has

Layers are not split: each share is uncertain by one. Source: accelerate 1.15 utils/modeling.py
(get_max_memory, get_balanced_memory); llama.cpp src/llama-model.cpp (load_tensors, splits).
"""

from typing import TYPE_CHECKING

from weighbridge.engines.table import record
from weighbridge.memory import Bytes, Component, Device, Phase, exactly, total
from weighbridge.units import ceil_div

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

SHARED = ("weights", "buffers")  # what is dealt out; all else each device has of its own


def dealt(
    device: Device, budget: "Budget", engine: str, largest_layer: int | None
) -> tuple[Device, ...]:
    """One device for each card. A layer whose size is not known may be all of it."""
    fullest = max(device.phases, key=lambda phase: phase.at("driver").high)
    parts = fullest.components
    shared = total(c.bytes for c in parts if c.name in SHARED)
    own = total(c.bytes for c in parts if c.name not in SHARED)
    context = total(c.bytes for c in parts if c.level == "driver")
    layer = shared.high if largest_layer is None else largest_layer
    rooms = [max(0, each.low - context.high) for each in budget.each]
    deal = _by_room if record(engine).by_room else _in_turn
    return tuple(_holding(i, share, own) for i, share in enumerate(deal(shared, layer, rooms)))


def _holding(index: int, share: Bytes, own: Bytes) -> Device:
    named = (("weights", share), ("other", own))
    parts = tuple(Component(name=n, bytes=b, basis="computed") for n, b in named)
    return Device(index=index, kind="gpu", phases=(Phase("load", parts),))


def _in_turn(shared: Bytes, layer: int, rooms: list[int]) -> list[Bytes]:
    """The last card is not held to an even share, and has all that the others left."""
    most = ceil_div(shared.high, len(rooms)) + 5 * layer // 4
    found: list[Bytes] = []
    for room in rooms[:-1]:
        high = min(most, room, shared.high)
        found.append(Bytes(max(0, high - layer), max(0, high - layer // 2), high))
    given = total(found)
    low, high = max(0, shared.low - given.high), max(0, shared.high - given.low)
    return [*found, Bytes(low, (low + high) // 2, high)]


def _by_room(shared: Bytes, layer: int, rooms: list[int]) -> list[Bytes]:
    whole = max(1, sum(rooms))
    if not any(rooms):
        return [exactly(0)] * (len(rooms) - 1) + [shared]
    return [
        Bytes(
            max(0, shared.low * room // whole - layer),
            shared.expected * room // whole,
            min(shared.high, ceil_div(shared.high * room, whole) + layer),
        )
        for room in rooms
    ]

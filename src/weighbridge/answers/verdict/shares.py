"""Bytes that each of several devices holds of a load, where something splits the model.

Layers are not split. Over n devices that are alike

    each holds at least   max(shared.low / n, the largest layer) + context.low
    each holds at most    shared.high / n + 5/4 largest layer + all that a device has of its own

where shared are weights and buffers. Devices that differ are dealt to as their loader does it:

    device_map="auto"    a card takes an even share and 5/4 of the largest layer, or all that it
                         has free beside its context where that is less; the last one what is left
    llama.cpp            each takes layers by the part of all free memory that it has

Each of those shares is uncertain by one layer. Source: accelerate 1.15 utils/modeling.py
(get_max_memory, get_balanced_memory); llama.cpp src/llama-model.cpp (load_tensors, splits).
"""

from typing import TYPE_CHECKING

from weighbridge.base.memory import HIGH, Bytes, Component, Device, Instant, exactly, most, total
from weighbridge.base.units import ceil_div
from weighbridge.engines.table import record

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

SHARED = ("weights", "buffers")  # what is dealt out; all else each device has of its own


def even(device: Device, count: int, largest_layer: int | None) -> Bytes:
    """Bytes that each of `count` devices holds when layers are dealt out evenly."""
    bounds = []
    for phase in device.phases:
        shared = phase.of(*SHARED)
        unshared = total(c.bytes for c in phase.components if c.name not in SHARED)
        context = total(c.bytes for c in phase.components if c.level == "driver")
        layer = shared.high if largest_layer is None else largest_layer
        at_least = 0 if largest_layer is None else largest_layer
        whole = phase.at("driver")
        low = min(whole.low, max(ceil_div(shared.low, count), at_least) + context.low)
        most_of_one = ceil_div(shared.high, count) + ceil_div(5 * layer, 4) + unshared.high
        high = min(whole.high, most_of_one)
        bounds.append(Bytes(low, (low + high) // 2, high))
    return most(bounds)


def dealt(
    device: Device, budget: "Budget", engine: str, largest_layer: int | None
) -> tuple[Device, ...]:
    """Devices as the cards hold it, one each. A layer of unknown size may be all of the load."""
    fullest = device.binding(HIGH)
    parts, shared = fullest.components, fullest.of(*SHARED)
    unshared = total(c.bytes for c in parts if c.name not in SHARED)
    context = total(c.bytes for c in parts if c.level == "driver")
    layer = shared.high if largest_layer is None else largest_layer
    rooms = [max(0, each.low - context.high) for each in budget.each]
    deal = _by_room if record(engine).by_room else _in_turn
    return tuple(_holding(i, share, unshared) for i, share in enumerate(deal(shared, layer, rooms)))


def _holding(index: int, share: Bytes, unshared: Bytes) -> Device:
    named = (("weights", share), ("other", unshared))
    parts = tuple(Component(name=n, bytes=b, basis="computed") for n, b in named)
    return Device(index=index, kind="gpu", phases=(Instant("load", parts),))


def _in_turn(shared: Bytes, layer: int, rooms: list[int]) -> list[Bytes]:
    """Fill one card after the other. The last one is held to no share: it has all that is left."""
    most = ceil_div(shared.high, len(rooms)) + 5 * layer // 4
    filled: list[Bytes] = []
    for room in rooms[:-1]:
        high = min(most, room, shared.high)
        filled.append(Bytes(max(0, high - layer), max(0, high - layer // 2), high))
    held = total(filled)
    low, high = max(0, shared.low - held.high), max(0, shared.high - held.low)
    return [*filled, Bytes(low, (low + high) // 2, high)]


def _by_room(shared: Bytes, layer: int, rooms: list[int]) -> list[Bytes]:
    """Deal by the bytes that each card has free."""
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

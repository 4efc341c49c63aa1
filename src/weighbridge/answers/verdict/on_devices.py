"""Verdict on devices: a device's driver-level peak against the bytes that a process can use.

Both sides are what the driver counts for a process: context, reserved memory and everything else
that the process holds, and the device's total less what the driver keeps for itself.

Several devices add up only if something splits the model: `dealt` says what each holds.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.answers.verdict import closeness, reasons
from weighbridge.base.memory import (
    HIGH,
    LOW,
    Bytes,
    Component,
    Device,
    Instant,
    exactly,
    most,
    total,
)
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import ceil_div
from weighbridge.engines.table import record
from weighbridge.memory.report.verdict import RANK, Answer, Condition, Verdict, fits

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget


TENTH = 0.1  # percent: median errors are printed to a tenth


def verdict(device: Device, budget: "Budget", *, engine: str, largest_layer: int | None) -> Verdict:
    """Return whether loading `device` fits `budget`. `largest_layer` is in bytes, None if layers
    are unknown."""
    if budget.mixed:
        return of_each(dealt(device, budget, engine, largest_layer), budget)
    whole, count = device.peak("driver"), budget.choice.count
    each = whole
    splits = record(engine).splits
    split = count > 1 and bool(splits) and fits(whole, budget.usable) != "yes"
    if split:
        each = even(device, count, largest_layer)
    answer = fits(each, budget.usable)
    reason = reasons.loaded(answer, each, budget, splits if split else None)
    judged = _verdict(reason, each, budget, used=count if split else 1)
    if split and answer != "yes":
        return replace(judged, tipped_by="weights")
    return replace(judged, tipped_by=tipped_by([device], answer, budget))


def serving(devices: Sequence[Device], budget: "Budget") -> Verdict:
    """Return the verdict on devices of a sharded model: each must fit, the fullest decides."""
    gpus, count = [d for d in devices if d.kind == "gpu"], budget.choice.count
    if gpus and budget.mixed:
        return of_each(gpus, budget)
    if not gpus:
        return _verdict("nothing is on the device", exactly(0), budget, used=0)
    each = most(d.peak("driver") for d in gpus)
    answer = fits(each, budget.usable)
    judged = _verdict("", each, budget, used=len(gpus))
    if len(gpus) > count:
        key = "devices_short.one" if count == 1 else "devices_short"
        short = Condition("devices", exactly(len(gpus)), exactly(count), "devices")
        return judged.under(short, reason=sentence(key, needs=len(gpus), count=count))
    reason = reasons.dealt(answer, each, budget, len(gpus))
    return replace(judged, reason=reason, tipped_by=tipped_by(gpus, answer, budget))


def of_each(gpus: Sequence[Device], budget: "Budget") -> Verdict:
    """Return the verdict on unequal cards, each by itself; the worst decides."""
    if len(gpus) > budget.choice.count:
        return serving(gpus, budget.alike)
    verdicts = [serving((d,), budget.alone(i)) for i, d in enumerate(gpus)]
    worst = min(verdicts, key=_worse)
    named = sentence("of_device", number=verdicts.index(worst), card=worst.accelerator)
    return replace(
        worst,
        accelerator=budget.name,
        accelerator_id="+".join(dict.fromkeys(c.part.id for c in budget.choice.cards)),
        count=budget.choice.count,
        devices_used=len(gpus),
        marketed_gb=None,
        reason=clauses(worst.reason, named),
        usable_each=tuple(each.low for each in budget.each),
    )


def _worse(verdict: Verdict) -> tuple[int, float]:
    """Return a card's sort key: the verdict, then the lacking bytes or the share left."""
    left = (
        verdict.margin_bytes / max(1, verdict.usable_bytes)
        if verdict.fits == "yes"
        else verdict.margin_bytes
    )
    return RANK.index(verdict.fits), left


def tipped_by(gpus: Sequence[Device], answer: Answer, budget: "Budget") -> str | None:
    """Return the component that tips the fullest device; None if it fits."""
    if answer == "yes":
        return None
    bound = LOW if answer == "no" else HIGH
    fullest = max(gpus, key=lambda d: d.peak("driver")[bound])
    return closeness.tipped_by(fullest.phases, budget.usable, surely=answer == "no")


def cited(verdict: Verdict | None, published: Mapping[str, Any] | None) -> Verdict | None:
    """Return the verdict with what published runs of the kind took against the expected bytes."""
    if verdict is None or published is None:
        return verdict
    share = 100 * published["median"]
    side = "more" if share >= 0 else "less"
    much = f"{abs(share):.1f} % {side} than" if abs(share) >= TENTH / 2 else "what was"
    said = sentence("published_runs", much=much, runs=published["runs"])
    return replace(verdict, reason=clauses(verdict.reason, said), published=published)


def _verdict(reason: str, each: Bytes, budget: "Budget", *, used: int) -> Verdict:
    from weighbridge.machines.accelerators.machines import nodes

    part, margin = budget.choice.part, budget.usable.low - each.expected
    memory = Condition("device_memory", each, budget.usable)
    answer = memory.holds
    return Verdict(
        accelerator=part.name,
        accelerator_id=part.id,
        count=budget.choice.count,
        usable_bytes=budget.usable.low,
        fits=answer,
        margin_bytes=margin,
        reason=reason,
        marketed_gb=part.marketed_gb if part.vendor else None,
        total=part.total.bytes,
        visible=part.visible.bytes,
        usable=budget.usable,
        headroom_bytes=budget.headroom,
        per_device=each,
        devices_used=used,
        basis=part.visible.basis,
        source=part.visible.source,
        share_that_fits=closeness.share(each, budget.usable),
        tight=answer == "yes" and closeness.tight(margin, budget.usable.low),
        tipped_by=None,
        nodes=nodes(part, budget.choice.count),
        ground=memory.ground if answer == "no" else "",
        conditions=(memory,),
    )


# Shares of devices
#
# Layers are not split. Over n equal devices
#
#     each holds at least   max(shared.low / n, the largest layer) + context.low
#     each holds at most    shared.high / n + 5/4 largest layer + what each device has besides
#
# where shared are weights and buffers. Unequal devices get layers as their loader assigns them:
#
#     device_map="auto"    a card takes an even share and 5/4 of the largest layer, or all that it
#                          has free beside its context if that is less; the last one the rest
#     llama.cpp            each takes layers in proportion to its share of all free memory
#
# Each of those shares is uncertain by one layer. Source: accelerate 1.15 utils/modeling.py
# (get_max_memory, get_balanced_memory); llama.cpp src/llama-model.cpp (load_tensors, splits).

SHARED = ("weights", "buffers")  # these are split; each device has the rest by itself


def even(device: Device, count: int, largest_layer: int | None) -> Bytes:
    """Return the bytes per device when `count` devices get equal numbers of layers."""
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
    """Return a device per card. A layer of unknown size may be all of the load."""
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
    """Return each card's bytes, filled in order. The last has no limit: it gets the rest."""
    most = ceil_div(shared.high, len(rooms)) + 5 * layer // 4
    filled: list[Bytes] = []
    for room in rooms[:-1]:
        high = min(most, room, shared.high)
        filled.append(Bytes(max(0, high - layer), max(0, high - layer // 2), high))
    so_far = total(filled)
    low, high = max(0, shared.low - so_far.high), max(0, shared.high - so_far.low)
    return [*filled, Bytes(low, (low + high) // 2, high)]


def _by_room(shared: Bytes, layer: int, rooms: list[int]) -> list[Bytes]:
    """Return each card's bytes, in proportion to the bytes it has free."""
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

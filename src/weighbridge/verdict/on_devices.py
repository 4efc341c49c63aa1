"""Does it fit? A device's driver-level peak beside the bytes that a process can have of it.

    yes       peak.high <= usable.low        the high estimate fits what is surely there
    no        peak.low > usable.high         not even the low one fits
    unknown   otherwise

Both sides are what the driver counts for a process: context, reserved memory and everything else
that the process holds, and the device's total less what the driver keeps for itself.

Devices add up only where something splits the model, and layers are not split. Over n devices

    each holds at least   max(shared.low / n, the largest layer) + context.low
    each holds at most    shared.high / n + 5/4 largest layer + all that a device has of its own

where shared are weights and buffers. accelerate's `get_balanced_memory` allows each device the
n-th part and 5/4 of its largest layer (1.15, utils/modeling.py); llama.cpp splits by layers too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from weighbridge.engines.table import record
from weighbridge.memory import Bytes, Device, exactly, total
from weighbridge.report.verdict import Answer, Verdict
from weighbridge.units import ceil_div
from weighbridge.verdict import closeness, reasons

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

TENTH = 0.1  # of a percent: median errors are told to it
SHARED = ("weights", "buffers")


def fits(peak: Bytes, usable: Bytes) -> Answer:
    if peak.high <= usable.low:
        return "yes"
    return "no" if peak.low > usable.high else "unknown"


def verdict(device: Device, budget: "Budget", *, engine: str, largest_layer: int | None) -> Verdict:
    """Judge whether loading what `device` holds fits `budget`. `largest_layer` is in bytes, None
    where layers are unknown."""
    if budget.mixed:
        from weighbridge.verdict.mixed import dealt  # few machines have cards that differ

        return of_each(dealt(device, budget, engine, largest_layer), budget)
    whole, count = device.peak("driver"), budget.choice.count
    each = whole
    splits = record(engine).splits
    split = count > 1 and bool(splits) and fits(whole, budget.usable) != "yes"
    if split:
        each = over(device, count, largest_layer)
    answer = fits(each, budget.usable)
    reason = reasons.loaded(answer, each, budget, splits if split else None)
    found = _verdict(answer, reason, each, budget, used=count if split else 1)
    if split and answer != "yes":
        return replace(found, tipped_by="weights")
    return replace(found, tipped_by=tipped_by([device], answer, budget))


def serving(devices: Sequence[Device], budget: "Budget") -> Verdict:
    """Judge what an engine has already dealt out: every device must fit, the fullest decides."""
    gpus, count = [d for d in devices if d.kind == "gpu"], budget.choice.count
    if gpus and budget.mixed:
        return of_each(gpus, budget)
    if not gpus:
        return _verdict("yes", "nothing is on the device", exactly(0), budget, used=0)
    peaks = [d.peak("driver") for d in gpus]
    each = Bytes(*(max(bounds) for bounds in zip(*peaks, strict=True)))
    answer = fits(each, budget.usable)
    found = _verdict(answer, "", each, budget, used=len(gpus))
    if len(gpus) > count:
        named = "1 is named" if count == 1 else f"{count} are named"
        return found.turned("no", f"it needs {len(gpus)} devices, and {named}")
    reason = reasons.dealt(answer, each, budget, len(gpus))
    return replace(found, reason=reason, tipped_by=tipped_by(gpus, answer, budget))


def of_each(gpus: Sequence[Device], budget: "Budget") -> Verdict:
    """Judge cards that differ, device by device; the one that is worst off decides."""
    if len(gpus) > budget.choice.count:
        return serving(gpus, budget.alike)
    found = [serving((d,), budget.alone(i)) for i, d in enumerate(gpus)]
    worst = min(found, key=_worse)
    named = f"; that is device {found.index(worst)}, the {worst.accelerator}"
    return replace(
        worst,
        accelerator=budget.name,
        accelerator_id="+".join(dict.fromkeys(c.part.id for c in budget.choice.cards)),
        count=budget.choice.count,
        devices_used=len(gpus),
        marketed_gb=None,
        reason=worst.reason + named,
        usable_each=tuple(each.low for each in budget.each),
    )


def _worse(v: Verdict) -> tuple[int, float]:
    """What orders cards: the verdict, what is lacking, or the share that is left."""
    left = v.margin_bytes / max(1, v.usable_bytes) if v.fits == "yes" else v.margin_bytes
    return RANK.index(v.fits), left


RANK: tuple[Answer, ...] = ("no", "unknown", "yes")  # the worst first


def tipped_by(gpus: Sequence[Device], answer: Answer, budget: "Budget") -> str | None:
    """The component that tips the fullest of them over."""
    if answer == "yes":
        return None
    bound = closeness.LOW if answer == "no" else closeness.HIGH
    fullest = max(gpus, key=lambda d: d.peak("driver")[bound])
    return closeness.tipped_by(fullest.phases, budget.usable, surely=answer == "no")


def surely(high: int, gpus: int, budget: "Budget") -> bool:
    """Whether `serving` would say yes of so many devices, the fullest of which takes up to that."""
    return gpus == 0 or (gpus <= budget.choice.count and high <= budget.usable.low)


def cited(found: Verdict | None, told: Mapping[str, Any] | None) -> Verdict | None:
    """Add what published runs of the kind took beside what was expected of them."""
    if found is None or told is None:
        return found
    share = 100 * told["median"]
    side = "more" if share >= 0 else "less"
    much = f"{abs(share):.1f} % {side} than" if abs(share) >= TENTH / 2 else "what was"
    said = f"runs like this took {much} expected at the median ({told['runs']} published)"
    return replace(found, reason=f"{found.reason}; {said}", published=told)


def _verdict(answer: Answer, reason: str, each: Bytes, budget: "Budget", *, used: int) -> Verdict:
    from weighbridge.accelerators.machines import nodes

    part, margin = budget.choice.part, budget.usable.low - each.expected
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
    )


def over(device: Device, count: int, largest_layer: int | None) -> Bytes:
    """What each of `count` devices holds when layers are dealt out evenly."""
    bounds = []
    for phase in device.phases:
        shared = total(c.bytes for c in phase.components if c.name in SHARED)
        own = total(c.bytes for c in phase.components if c.name not in SHARED)
        context = total(c.bytes for c in phase.components if c.level == "driver")
        layer = shared.high if largest_layer is None else largest_layer
        at_least = 0 if largest_layer is None else largest_layer
        whole = phase.at("driver")
        low = min(whole.low, max(ceil_div(shared.low, count), at_least) + context.low)
        high = min(whole.high, ceil_div(shared.high, count) + ceil_div(5 * layer, 4) + own.high)
        bounds.append(Bytes(low, (low + high) // 2, high))
    return Bytes(*(max(values) for values in zip(*bounds, strict=True)))

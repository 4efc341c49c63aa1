"""The chart of a timeline (`weighbridge.timeline/1`) as layers over events: at most COLUMNS moments
per device, the fullest of each stretch, so that the peak is among them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.units import ceil_div
from weighbridge.base.words import Words, words_in
from weighbridge.faces.charts import scale
from weighbridge.faces.charts.figure import (
    MOST,
    OTHER,
    Areas,
    AxisBand,
    Figure,
    FigureTable,
    Limit,
    Mark,
    Series,
)

COLUMNS = 500
DEVICES = 4  # most devices that are drawn
BANDS = 60  # most phases that are marked
NEAR = 1.6  # the card's memory is drawn if it is at most NEAR times the peak

Lines = Mapping[str, Any]


def tapes(timeline: Mapping[str, Any], *, unit: str | None = None, lang: str = "en") -> Figure:
    say = words_in(lang, "charts")
    devices = _distinct_courses([d for d in timeline["devices"] if d["length"]])
    most = max((max(d["reserved"]) for _, d in devices), default=0)
    size = scale.unit(most, unit)
    plots = tuple(_areas(timeline, label, d, (say, size)) for label, d in devices[:DEVICES])
    marks = ". ".join(m.label for p in plots for m in (p.peak, p.refused) if m is not None)
    events = sum(d["length"] for _, d in devices)
    return Figure(
        title=say("title.trace", program=timeline["program"]),
        answer=marks,
        notes=(say("fake", gpu=timeline["gpu"]),),
        description=say("described.areas", events=f"{events:,}", peak=marks),
        plots=plots,
        table=_table(devices, say, size),
        lang=lang,
    )


def _distinct_courses(devices: Sequence[Lines]) -> list[tuple[str, Lines]]:
    """Return (name, device) for each different course of memory; the name lists the devices that
    had it, "" for a single one."""
    groups: list[tuple[list[int], Lines]] = []
    for d in devices:
        like = next((g for g in groups if _is_equal(g[1], d)), None)
        if like is None:
            groups.append(([d["index"]], d))
        else:
            like[0].append(d["index"])
    from weighbridge.faces.view.shown import ranges

    return [(f"cuda:{ranges(which)}" if len(devices) > 1 else "", d) for which, d in groups]


def _is_equal(a: Lines, b: Lines) -> bool:
    return bool(a["allocated"] == b["allocated"] and a["reserved"] == b["reserved"])


def _areas(
    timeline: Mapping[str, Any], label: str, device: Lines, words: tuple[Words, scale.ByteUnit]
) -> Areas:
    say, unit = words
    fullest = list(_fullest_moments(device["allocated"]))
    names = _largest_roles(device["roles"])
    remaining = [n for n in device["roles"] if n not in names]
    layers = [tuple(max(0, device["roles"][n][i]) for i in fullest) for n in names]
    others = tuple(sum(max(0, device["roles"][n][i]) for n in remaining) for i in fullest)
    series = [Series(n, i) for i, n in enumerate(names)]
    if any(others):
        layers.append(others)
        series.append(Series(say("part.other"), OTHER))
    top = max(device["reserved"])
    refused = _refused_mark(device, say, unit)
    limit = _card_limit(timeline["memory"], top, say, unit, always=refused is not None)
    high = max(top * 1.18, limit.high * 1.08 if limit else 0)
    return Areas(
        label=label,
        xs=tuple(device["events"][i] for i in fullest),
        layers=tuple(layers),
        series=tuple(series),
        line=tuple(device["reserved"][i] for i in fullest),
        line_name=say("reserved"),
        bands=_phase_bands(device, say),
        peak=_peak_mark(device, say, unit),
        x=scale.plain(say("axis.events"), 0, max(1, device["length"] - 1)),
        y=scale.memory(say("axis.pytorch", unit=unit.name), high, unit),
        limit=limit,
        refused=refused,
    )


def _fullest_moments(allocated: Sequence[int]) -> Iterator[int]:
    """Yield the index of the moment with the most bytes in each of COLUMNS stretches, and of the
    last moment."""
    count = len(allocated)
    width = max(1, ceil_div(count, COLUMNS))
    last = -1
    for first in range(0, count, width):
        last = max(range(first, min(count, first + width)), key=allocated.__getitem__)
        yield last
    if last != count - 1:
        yield count - 1


def _largest_roles(roles: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names of the MOST roles with the largest maxima, in the order of `roles`."""
    most = {name: max(values, default=0) for name, values in roles.items()}
    large = sorted((n for n in most if most[n] > 0), key=lambda n: -most[n])[:MOST]
    return [n for n in roles if n in large]


def _card_limit(
    memory: int | None, top: int, say: Words, unit: scale.ByteUnit, *, always: bool
) -> Limit | None:
    if memory is None or (memory > NEAR * top and not always):
        return None
    return Limit(memory, memory, say("card", size=unit.told(memory)))


def _refused_mark(device: Lines, say: Words, unit: scale.ByteUnit) -> Mark | None:
    """Return a mark at the first request that did not fit, at the bytes it would have led to; None
    without one."""
    first = next(iter(device.get("refused", ())), None)
    if first is None:
        return None
    label = say("refused.mark", size=unit.told(first["requested"]), place=first["place"])
    return Mark(first["event"], first["reserved"] + first["requested"], label)


def _phase_bands(device: Lines, say: Words) -> tuple[AxisBand, ...]:
    bands = device["bands"][:BANDS]
    named = [AxisBand(say.named("phase", b["phase"]), b["first"], b["last"] + 1) for b in bands]
    if len(device["bands"]) > BANDS:
        named.append(AxisBand("…", bands[-1]["last"] + 1, device["length"] - 1))
    return tuple(b._replace(high=min(b.high, max(1, device["length"] - 1))) for b in named)


def _peak_mark(device: Lines, say: Words, unit: scale.ByteUnit) -> Mark:
    index = max(range(len(device["allocated"])), key=device["allocated"].__getitem__)
    event, nbytes = device["events"][index], device["allocated"][index]
    name = next((b["phase"] for b in device["bands"] if b["first"] <= event <= b["last"]), "")
    label = say("peak.mark", size=unit.told(nbytes), phase=say.named("phase", name))
    return Mark(event, nbytes, label)


def _table(devices: Sequence[tuple[str, Lines]], say: Words, unit: scale.ByteUnit) -> FigureTable:
    """Return the table of peak bytes per device and phase; a phase that occurs several times has
    one row."""
    rows = []
    for label, d in devices:
        most: dict[str, tuple[int, int]] = {}
        for event, allocated, reserved in zip(
            d["events"], d["allocated"], d["reserved"], strict=True
        ):
            name = next((b["phase"] for b in d["bands"] if b["first"] <= event <= b["last"]), "")
            before = most.get(name, (0, 0))
            most[name] = max(before[0], allocated), max(before[1], reserved)
        for name, pair in most.items():
            rows.append((label, say.named("phase", name), *map(unit.exact, pair)))
    head = say.each("head.device", "head.phase", "head.allocated", "head.reserved")
    return FigureTable(head, tuple(rows), 2, say("sizes", unit=unit.name))

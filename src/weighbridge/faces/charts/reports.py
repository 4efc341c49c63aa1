"""The chart of a report as stacked bars: a row for each phase of each device, and the device's
memory."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, Device, Instant
from weighbridge.base.records import NamedTuple
from weighbridge.base.words import Words, words_in
from weighbridge.faces.charts import parts, scale
from weighbridge.faces.charts.figure import (
    BarGroup,
    Bars,
    Figure,
    FigureBar,
    FigureSegment,
    FigureTable,
    Limit,
    Series,
)
from weighbridge.faces.view.shown import distinct, ranges
from weighbridge.training.learning import TITLES
from weighbridge.workload.train import LEARNS

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.verdict import Verdict

ROWS = 24  # most rows that are drawn; the table has all
AXES = {"gpu": "axis.card", "host": "axis.host", "disk": "axis.disk"}
SHARE = 1  # style of one device's share of a model that is split
NARROW = 0.02  # fraction of the usable memory; a smaller interval is written as one size
WORDS = 2  # number of text columns in the table


class AlikeDevices(NamedTuple):
    """Devices with equal components in every phase: a label, their number, one of the devices, and
    their memory limit."""

    label: str
    number: int
    device: Device
    limit: Limit | None


class BarSettings(NamedTuple):
    """Settings for all bars of a chart: words, unit, names of parts, and series."""

    say: Words
    unit: scale.ByteUnit
    names: tuple[str, ...]
    series: tuple[Series, ...]

    @property
    def caption(self) -> str:
        return self.say("sizes", unit=self.unit.name)


def bars(report: "Report", *, unit: str | None = None, lang: str = "en") -> Figure:
    """Return the figure of one report's devices, phase by phase."""
    say = words_in(lang, "charts")
    size = scale.unit(report.peak.expected, unit)
    groups = list(_alike_devices(report, say, size))
    rows = _bar_settings(report, groups, say, size)
    return Figure(
        title=title(report, say),
        answer=said(report, say, size),
        notes=(say("thick"),),
        description=_described(report, say, size),
        plots=tuple(_plots(report, groups, rows)),
        table=_table(groups, rows),
        lang=lang,
    )


def _plots(report: "Report", alike: Sequence[AlikeDevices], rows: BarSettings) -> Iterator[Bars]:
    """Yield the plots of the accelerators, the host and the disk, each with a separate scale."""
    split = _share_bar(report, rows)
    shown = (*rows.series, Series(rows.say("share"), SHARE)) if split else rows.series
    for kind in ("gpu", "host", "disk"):
        some = [s for s in alike if s.device.kind == kind]
        if some:
            drawn, more = _limited_groups(
                [_device_group(s, rows, len(some)) for s in some], some, rows
            )
            groups = (*split, *drawn) if kind == "gpu" else tuple(drawn)
            label = rows.say(AXES[kind], unit=rows.unit.name)
            axis = scale.memory(label, furthest(groups), rows.unit)
            yield Bars(groups, shown, axis, more)


def title(report: "Report", say: Words) -> str:
    w = report.workload
    engine = w.get("framework") or w.get("engine") or ""
    version = w.get("framework_version") or w.get("engine_version") or ""
    kind = "pictures" if report.pictures and report.task == "infer" else report.task
    if w.get("method") in LEARNS:  # the engines belong to the roles
        kind, version = "learns", w.get("framework_version") or ""
        engine = TITLES.get(str(engine), engine)
    return say(
        f"title.{kind}",
        model=report.model.name,
        engine=f"{engine} {version}".strip(),
        method=str(w["method"]).upper() if kind == "learns" else w.get("method") or "",
    )


def span(interval: Bytes, say: Words, unit: scale.ByteUnit) -> str:
    """Return an interval as text in one unit: the expected size, with both bounds if they print
    differently."""
    about = unit.told(interval.expected)
    if unit.number(interval.low) == unit.number(interval.high):
        return about
    return say("span", about=about, low=unit.number(interval.low), high=unit.number(interval.high))


def said(report: "Report", say: Words, unit: scale.ByteUnit) -> str:
    """Return a sentence with the verdict, the needed and the usable memory; without a card only the
    size."""
    v = report.verdict
    if v is None or not v.count:
        host = all(d.kind == "host" for d in report.devices)
        return say("size.host" if host else "size", peak=span(report.peak, say, unit))
    needs = say("needs", peak=span(v.per_device, say, unit), usable=unit.told(v.usable_bytes))
    return f"{say(v.fits)} ({v.cards}): {needs}"


def limit(verdict: "Verdict | None", say: Words, unit: scale.ByteUnit) -> Limit | None:
    """Return the line of memory that a process can have of the card; None without a card."""
    if verdict is None or not verdict.count:
        return None
    low, high = verdict.usable.low, verdict.usable.high
    if high - low <= NARROW * high:
        return Limit(low, high, say("usable", size=unit.told(low)))
    return Limit(low, high, say("usable.span", low=unit.number(low), high=unit.told(high)))


def _alike_devices(report: "Report", say: Words, unit: scale.ByteUnit) -> Iterator[AlikeDevices]:
    """Yield the accelerators, equal ones once and the fullest first, then host and disk."""
    alike: dict[object, list[Device]] = {}
    for device in report.devices:
        phases = tuple(
            (p.name, p.at("driver"), tuple(parts.sums(p).items())) for p in device.phases
        )
        alike.setdefault((device.kind, phases), []).append(device)
    gpus = sum(d.kind == "gpu" for d in report.devices)
    order = {"gpu": 0, "host": 1, "disk": 2}
    groups = sorted(alike.values(), key=lambda ds: (order[ds[0].kind], -_peak_bytes(ds[0])))
    for devices in groups:
        first = devices[0]
        if not any(p.needed.high for p in first.phases):
            continue
        if first.kind == "gpu":
            label = _devices_label(report, [d.index for d in devices], gpus, say)
            yield AlikeDevices(label, len(devices), first, limit(report.verdict, say, unit))
        else:
            label = say("host") if first.kind == "host" else first.kind
            yield AlikeDevices(label, len(devices), first, _host_limit(report, first, say, unit))


def _peak_bytes(device: Device) -> int:
    return device.peak("driver").expected


def _devices_label(report: "Report", indices: list[int], gpus: int, say: Words) -> str:
    v = report.verdict
    if gpus == 1 and v is not None and v.devices_used > 1:
        return say("gpu.whole")
    if gpus == 1:
        return v.accelerator if v is not None and v.count == 1 else say("gpu")
    if len(indices) == gpus:
        return say("gpu.alike", count=gpus)
    return say("gpu.some", which=ranges(indices))


def _host_limit(report: "Report", device: Device, say: Words, unit: scale.ByteUnit) -> Limit | None:
    h = report.verdict.host if report.verdict is not None else None
    if h is None or h.available is None or device.kind != "host":
        return None
    return Limit(h.available, h.available, say("ram", size=unit.told(h.available)))


def _bar_settings(
    report: "Report", groups: Sequence[AlikeDevices], say: Words, unit: scale.ByteUnit
) -> BarSettings:
    every = (phase for shared in groups for phase in shared.device.phases)
    names = parts.chosen(map(parts.sums, every))
    return BarSettings(say, unit, names, parts.series(names, say, parts.otherwise([report])))


def bar(phase: Instant, rows: BarSettings, label: str, *, strong: bool) -> FigureBar:
    need = phase.needed
    return FigureBar(
        label=label,
        segments=parts.segments(parts.sums(phase), rows.names, rows.series, rows.unit),
        low=need.low,
        high=need.high,
        told=span(need, rows.say, rows.unit),
        strong=strong,
    )


def _device_group(shared: AlikeDevices, rows: BarSettings, groups: int) -> BarGroup:
    """Return the bars of all phases of a device, or of the fullest if there are many devices."""
    device = shared.device
    peak = max(device.phases, key=lambda p: (p.needed.expected, p.needed.high))
    phases = tuple(distinct(device)) if groups * len(device.phases) <= ROWS else (peak,)
    drawn = (
        bar(p, rows, rows.say.named("phase", p.name), strong=p is peak and len(phases) > 1)
        for p in phases
    )
    return BarGroup(shared.label, tuple(drawn), shared.limit)


def _limited_groups(
    groups: Sequence[BarGroup], alike: Sequence[AlikeDevices], rows: BarSettings
) -> tuple[list[BarGroup], str]:
    """Return the bar groups that fit the chart, and a note on the devices left out, "" for none.
    Many groups are joined into one, a row per device."""
    if len(groups) <= ROWS // 3:
        return list(groups), ""
    together = _joined_group(groups)
    bars = together.bars
    if len(bars) <= ROWS:
        return [together], ""
    others = alike[ROWS:]
    most = max(_peak_bytes(s.device) for s in others)
    count = sum(s.number for s in others)
    label = rows.say("more", count=count, size=rows.unit.told(most))
    return [together._replace(bars=bars[:ROWS])], label


def _joined_group(groups: Sequence[BarGroup]) -> BarGroup:
    """Return one group for devices of one phase each: one row per device, one line of memory."""
    bars = (
        b._replace(label=group.label, strong=not i)
        for i, group in enumerate(groups)
        for b in group.bars
    )
    return BarGroup("", tuple(bars), groups[0].limit)


def _share_bar(report: "Report", rows: BarSettings) -> tuple[BarGroup, ...]:
    """Return the bar of one device's share, if the engine splits one model over several devices;
    else ()."""
    v = report.verdict
    gpus = sum(d.kind == "gpu" for d in report.devices)
    if v is None or v.devices_used < 2 or gpus != 1:
        return ()
    each = v.per_device
    words = span(each, rows.say, rows.unit)
    part = FigureSegment(len(rows.series), each.expected, rows.say("share"))
    one = FigureBar(rows.say("share"), (part,), each.low, each.high, words, strong=True)
    label = rows.say("gpu.share", count=v.count)
    return (BarGroup(label, (one,), limit(v, rows.say, rows.unit)),)


def furthest(groups: Sequence[BarGroup]) -> float:
    """Return the bytes at which the longest bar, interval or limit ends, which the axis must
    hold."""
    ends = [max(b.high, sum(s.value for s in b.segments)) for g in groups for b in g.bars]
    return max([*ends, *(g.limit.high for g in groups if g.limit is not None)], default=0)


def _described(report: "Report", say: Words, unit: scale.ByteUnit) -> str:
    device = report.fullest
    phase = say.named("phase", device.peak_phase)
    return say("described.bars", verdict=said(report, say, unit), peak=say("peak.in", phase=phase))


def _table(groups: Sequence[AlikeDevices], rows: BarSettings) -> FigureTable:
    say, unit = rows.say, rows.unit
    ends = ("head.total", "head.low", "head.high", "head.usable")
    head = ("head.device", "head.phase")
    lines = []
    for shared in groups:
        for phase in shared.device.phases:
            sums, need = parts.sums(phase), phase.needed
            values = [sums[name] for name in rows.names]
            cells = (*values, sums.total() - sum(values), sums.total(), need.low, need.high)
            usable = "" if shared.limit is None else unit.exact(shared.limit.low)
            words = (shared.label, say.named("phase", phase.name))
            lines.append((*words, *map(unit.exact, cells), usable))
    named = (*say.each(*head), *(s.name for s in rows.series), *say.each(*ends))
    return FigureTable(named, tuple(lines), WORDS, rows.caption)

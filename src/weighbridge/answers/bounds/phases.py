"""Margins in an answer: one component per level for the high end, and lower low ends.

    allocated    temporaries       reserved    fragmentation       driver    other

What published runs took beyond the high estimate is the high end of that component, whose low end
and expected value are 0. What they took less is subtracted from the low ends of components that the
rules do not know exactly, in proportion: weights, caches, gradients and states stay as they are. If
runs of exactly this kind were closer to the expected bytes than the rules' interval, the ends of
components that count at the level move closer, too: worst cases of the parts do not coincide.

Parts that an engine logs have margins of their own, which are applied before the levels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from weighbridge.answers.bounds.margin import (
    BASE,
    FLOOR,
    KNOWN,
    NONE,
    PEAK,
    Margin,
    MarginTable,
    RunForm,
    kind,
)
from weighbridge.answers.bounds.novelty import AXES, fitted
from weighbridge.base.memo import memo
from weighbridge.base.memory import (
    LEVEL_OF,
    LEVELS,
    NO_DOUBT,
    Bytes,
    Component,
    Device,
    Instant,
    Level,
    NamedBytes,
    total,
)
from weighbridge.base.records import NamedTuple, replace
from weighbridge.engines.table import record

DETAIL = "margin"
# Logged figures besides devices -> the component that they are, for doubts about it
FIGURES = {"weights": "weights", "activation": "activations", "ps": "weights"}
APART = 64  # 1/64 of an end's room stays: worst cases do not meet, nor is one known exactly
NOTABLE = 0.06  # share of the expected bytes by which an interval is notably wide: assumed
NAMES: Mapping[Level, str] = {
    "allocated": "temporaries",
    "reserved": "fragmentation",
    "driver": "other",
}
# What the rules know exactly, and the context, which always has its own interval
_EXACT = """
weights buffers kv_cache recurrent_state adapters rounding context gradients optimizer_states
master_weights
"""
EXACT = frozenset(_EXACT.split())


def widened(
    devices: Sequence[Device], runs: RunForm, table: MarginTable | None = None
) -> tuple[Device, ...]:
    """Return the devices, GPUs with the margins of `runs`; the host stays as it is. Ranks that are
    alike share their phases before and after."""
    several = sum(device.kind == "gpu" for device in devices) > 1
    widths = _widths(runs, table, several=several)
    alike = {id(device.phases): device for device in devices if device.kind == "gpu"}
    phases = {key: _phases(device, runs, widths) for key, device in alike.items()}
    return tuple(
        replace(device, phases=phases[id(device.phases)]) if device.kind == "gpu" else device
        for device in devices
    )


def phase(rules_phase: Instant, runs: RunForm, table: MarginTable | None = None) -> Instant:
    """Return one phase of one device with the margins of `runs`."""
    return _phase(rules_phase, runs, _widths(runs, table, several=False))


def highest(
    kinds: Iterable[Iterable[Iterable[NamedBytes]]],
    runs: RunForm,
    *,
    several: bool,
    table: MarginTable | None = None,
) -> int:
    """Return the high end, in bytes, of the fullest device after `widened`, from the names and
    bytes of the components in each of its phases."""
    widths = _widths(runs, table, several=several)
    return max(
        (_high(tuple(components), runs, widths) for phases in kinds for components in phases),
        default=0,
    )


def _high(parts: Sequence[NamedBytes], runs: RunForm, widths: "MarginSet") -> int:
    """Return the sum of the high ends, in bytes, as `_phase` would, without making components."""
    sums, fixed, open_above = (dict.fromkeys(LEVELS, 0) for _ in range(3))
    settled = widths.settled
    for name, nbytes in parts:
        sums[LEVEL_OF[name]] += nbytes.expected
        ends = fixed if name in EXACT or name in settled else open_above
        ends[LEVEL_OF[name]] += nbytes.high - nbytes.expected
    for names, margin in widths.parts.items():
        sizes = [nbytes for name, nbytes in parts if name in names]
        size, room = (
            sum(nbytes.expected for nbytes in sizes),
            sum(nbytes.high - nbytes.expected for nbytes in sizes),
        )
        ends = fixed if margin.runs else open_above
        ends[LEVEL_OF[names[0]]] += _change(margin.high, size, room, -room)
    below = above = loose = 0
    for level in LEVELS:
        below, above = below + sums[level], above + fixed[level] + open_above[level]
        margin, size = widths.levels[level], base(below, level)
        room = open_above[level] + (loose if margin.near else 0)
        change = _change(margin.high, size, room, _least(margin, runs, level, size) - above)
        above += change
        loose = 0 if margin.near or level == "allocated" else loose + open_above[level] + change
    doubted = (runs.doubt.around(name, size).high - size.high for name, size in parts)
    return below + above + sum(doubted)


def published(devices: Sequence[Device], runs: RunForm) -> dict[str, Any] | None:
    """Return facts about published runs of exactly this kind, at the highest level with any; else
    None."""
    several = sum(device.kind == "gpu" for device in devices) > 1
    levels = _widths(runs, None, several=several).levels
    for level in reversed(LEVELS):
        margin = levels[level]
        if margin.near and margin.of is not None and margin.of.quantity == PEAK:
            return {
                "level": level,
                "runs": margin.runs,
                "median": margin.middle,
                "sources": list(margin.sources),
            }
    return None


def novel(
    devices: Sequence[Device], runs: RunForm, table: MarginTable | None = None
) -> tuple[str, ...]:
    """Return the axes on which few published runs resemble an answer, if that makes its interval
    much wider."""
    several = sum(device.kind == "gpu" for device in devices) > 1
    widths = _widths(runs, table, several=several)
    margins = (*widths.parts.values(), *widths.levels.values())
    wide = {axis for margin in margins if margin.earned >= NOTABLE for axis in margin.new}
    return tuple(axis for axis in AXES if axis in wide)


def around(
    value: Bytes,
    runs: RunForm,
    quantity: str,
    level: str,
    *,
    several: bool = False,
    table: MarginTable | None = None,
) -> Bytes:
    """Return one figure with the margin of its kind. It may be narrower than the sum of its parts,
    whose worst cases do not coincide."""
    known = fitted() if table is None else table
    asked = kind(runs, quantity, level, several=several)
    margin = memo(known, ("around", asked, runs.traits), lambda: known.around(asked, runs))
    size = base(value.expected, level)
    least = ceil(FLOOR * size) if margin.runs and level != "component" else 0
    low = min(value.low - ceil(margin.low * size), value.expected - least)
    high = max(value.high + ceil(margin.high * size), value.expected + least)
    margined = Bytes(max(0, low) if value.low >= 0 else low, value.expected, high)
    return runs.doubt.around(FIGURES.get(quantity, ""), margined)


def base(expected: int, level: str) -> int:
    """Return the bytes that a margin is a share of. Logged parts are exact to their last digit, or
    wrong in proportion, so BASE is not added."""
    return abs(expected) + (0 if level == "component" else BASE)


class MarginSet(NamedTuple):
    """Margins of one kind of runs: of logged parts by component, of devices by level."""

    parts: Mapping[tuple[str, ...], Margin]
    levels: Mapping[Level, Margin]

    @property
    def settled(self) -> frozenset[str]:
        """Return the components whose ends are set by a margin of their own."""
        return frozenset(n for names, margin in self.parts.items() if margin.runs for n in names)


def _widths(runs: RunForm, table: MarginTable | None, *, several: bool) -> MarginSet:
    known = fitted() if table is None else table

    def widths() -> MarginSet:
        def margin(quantity: str, level: str) -> Margin:
            return known.around(kind(runs, quantity, level, several=several), runs)

        parts = {
            names: margin(quantity, "component")
            for quantity, names in record(runs.engine).logged.items()
        }
        printed = {LEVEL_OF[names[0]] for names in parts} - {"driver"}
        levels = {level: NONE if level in printed else margin(PEAK, level) for level in LEVELS}
        return MarginSet(parts, levels)

    return memo(known, ("widths", runs, several), widths)


def _phases(device: Device, runs: RunForm, widths: MarginSet) -> tuple[Instant, ...]:
    """Return the phases with margins, computed once for all cards with the same phase object."""

    def kept(one: Instant) -> Instant:
        facts = "widened", runs, id(widths)
        return memo(one, facts, lambda: _Kept(widths, _phase(one, runs, widths))).phase

    return tuple(map(kept, device.phases))


class _Kept(NamedTuple):
    """A phase with margins, and the margins, kept alive so that their id stays unique."""

    widths: MarginSet
    phase: Instant


def _phase(whole: Instant, runs: RunForm, widths: MarginSet) -> Instant:
    """Return one phase with margins, level by level: levels nest, so one's is in all above."""
    components, settled = whole.components, widths.settled
    for names, margin in widths.parts.items():
        places = frozenset(n for n, c in enumerate(components) if c.name in names)
        if places:
            size = sum(components[n].bytes.expected for n in places)
            components = _margined(
                components, margin, Widening(names[0], size, places, places, places)
            )
    loose: tuple[Level, ...] = ()  # levels below without a margin of their own kind
    for level in LEVELS:
        margin, size = widths.levels[level], base(whole.at(level).expected, level)
        below = LEVELS[: LEVELS.index(level) + 1]
        places = _places(components, (level,))
        free = places | (_places(components, loose) if margin.near else frozenset())
        wide = Widening(
            name=NAMES[level],
            size=size,
            own=places,
            loose=frozenset(n for n in free if components[n].name not in settled),
            counted=_places(components, below),
            settled=frozenset(n for n in places if components[n].name in settled),
            deep=margin.near,
            least=_least(margin, runs, level, size),
        )
        components = _margined(components, margin, wide)
        loose = () if margin.near or level == "allocated" else (*loose, level)
    if runs.doubt != NO_DOUBT:
        around = runs.doubt.around
        components = tuple(replace(c, bytes=around(c.name, c.bytes)) for c in components)
    return Instant(whole.name, components)


def _places(components: Sequence[Component], levels: Sequence[Level]) -> frozenset[int]:
    return frozenset(n for n, c in enumerate(components) if LEVEL_OF[c.name] in levels)


class Widening(NamedTuple):
    """Indices of components that a margin changes: `own`, of its level; `loose`, whose ends it may
    bring closer; `counted`, all in the sum, whose low ends a `deep` one lowers. Those `settled` by
    a margin of their own are lowered last."""

    name: str  # name of the component that holds the high end
    size: int  # bytes that the margin is a share of
    own: frozenset[int]
    loose: frozenset[int]
    counted: frozenset[int]
    settled: frozenset[int] = frozenset()
    deep: bool = False
    least: int = 0  # least distance in bytes between an end of the sum and the expected bytes


def _margined(
    components: tuple[Component, ...], margin: Margin, wide: Widening
) -> tuple[Component, ...]:
    loose = frozenset(n for n in wide.loose if components[n].name not in EXACT)
    below, above = _open(components, loose)
    all_below, all_above = _open(components, wide.counted)
    low = _change(margin.low, wide.size, below, wide.least - all_below)
    high = _change(margin.high, wide.size, above, wide.least - all_above)
    if low > 0:
        components = tuple(_lowered(components, wide, low))
    if low < 0 or high < 0:
        components = tuple(_narrowed(components, loose, max(0, -low), max(0, -high)))
    if high > 0:
        components = (
            *components,
            (
                Component(
                    name=wide.name,
                    detail=DETAIL,
                    passing=True,
                    bytes=Bytes(0, 0, high),
                    basis=margin.basis,
                    formula=formula(margin),
                    source="published measurements: weighbridge accuracy --coverage",
                )
            ),
        )
    return components


def _change(share: float, size: int, room: int, least: int) -> int:
    """Return the bytes by which one end moves away from the expected bytes; negative towards them,
    by most of the `room`. `least` is the minimum: what the end lacks of the nearest it may be."""
    return max(ceil(share * size), least, room // APART - room)


def _least(margin: Margin, runs: RunForm, level: Level, size: int) -> int:
    """Return half of the narrowest interval, in bytes: no kind of runs was printed to more
    digits."""
    known = level in KNOWN.get(runs.task, ()) or not margin.runs
    return 0 if known else ceil(FLOOR * size)


def _open(components: Sequence[Component], places: Iterable[int]) -> tuple[int, int]:
    """Return the bytes between the expected bytes of components and their low and high ends."""
    low, expected, most = total(components[n].bytes for n in places)
    return expected - low, most - expected


def _lowered(components: Sequence[Component], wide: Widening, nbytes: int) -> Iterator[Component]:
    """Yield the components with `nbytes` taken from low ends, as far as inexact ones have them:
    first from `own`, then from all `counted` below, then from `settled`."""
    below = wide.counted - wide.own if wide.deep else frozenset()
    lows = [0 if c.name in EXACT else c.bytes.low for c in components]
    shares: list[Iterator[int]] = []
    for places in (wide.own - wide.settled, below, wide.settled):
        room = [low if n in places else 0 for n, low in enumerate(lows)]
        shares.append(_dealt(min(nbytes, sum(room)), room))
        nbytes -= min(nbytes, sum(room))
    taken = zip(*shares, strict=True)
    for component, less in zip(components, map(sum, taken), strict=True):
        yield (
            replace(component, bytes=component.bytes._replace(low=component.bytes.low - less))
            if less
            else component
        )


def _narrowed(
    components: Sequence[Component], loose: frozenset[int], low: int, high: int
) -> Iterator[Component]:
    """Yield the components with both ends closer, in proportion to their distance."""
    ends = [c.bytes if n in loose else Bytes(0, 0, 0) for n, c in enumerate(components)]
    mores = _dealt(low, [end.expected - end.low for end in ends])
    lesses = _dealt(high, [end.high - end.expected for end in ends])
    for component, more, less in zip(components, mores, lesses, strict=True):
        least, expected, most = component.bytes
        yield replace(component, bytes=Bytes(least + more, expected, most - less))


def _dealt(nbytes: int, among: Sequence[int]) -> Iterator[int]:
    """Yield the parts of `nbytes`, in proportion to `among` and no larger than its values."""
    left, total_left = nbytes, sum(among)
    for each in among:
        share = min(left, each, -(-each * left // total_left)) if total_left else 0
        yield share
        left, total_left = left - share, total_left - each


def formula(margin: Margin) -> str:
    """Return in words what a margin is based on."""
    high, low = 100 * margin.high, 100 * margin.low
    if -low >= 0.05 and high > 0:  # such runs always took more than the rules say
        text = f"{-low:.1f} to {high:.1f} % more than the rules say"
    elif -high >= 0.05 and low > 0:
        text = f"{-high:.1f} to {low:.1f} % less than the rules say"
    else:
        text = f"up to {high:z.1f} % more and {low:z.1f} % less than the rules say"
    if margin.new:
        text = f"{text}, as answers were that are new in {' and '.join(margin.new)}"
    if margin.of is None:
        return f"{text}: none was published at this level"
    kin = "" if margin.near else "none was published like this; the nearest are "
    return f"{text}: {kin}{margin.runs:,} {margin.of.words}"

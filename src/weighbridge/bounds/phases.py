"""Where a margin stands in an answer: one component a level, and the low ends beside it.

    allocated    temporaries       reserved    fragmentation       driver    other

What published runs took beyond the high estimate is the high end of that component, whose low end
and expected value are nothing. What they took less is taken from the low ends of components that
the rules do not know exactly, in proportion: weights, caches, gradients and states stay as they
are. Engines whose logs print their parts have the margin of the part that is uncertain.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from weighbridge.bounds.margin import BASE, FLOOR, KNOWN, PEAK, Margin, Runs, Table, fitted, kind
from weighbridge.engines.table import record
from weighbridge.kept import kept
from weighbridge.memory import (
    LEVEL_OF,
    LEVELS,
    Bytes,
    Component,
    Device,
    Level,
    Part,
    Phase,
)

DETAIL = "margin"
NAMES: Mapping[Level, str] = {
    "allocated": "temporaries",
    "reserved": "fragmentation",
    "driver": "other",
}
# What the rules know, and the context, which has an interval of its own wherever it stands
EXACT = frozenset(
    (
        *("weights", "buffers", "kv_cache", "recurrent_state", "adapters", "rounding", "context"),
        *("gradients", "optimizer_states", "master_weights"),
    )
)


def widened(
    devices: Sequence[Device], runs: Runs, table: Table | None = None
) -> tuple[Device, ...]:
    """Accelerators with the margins of `runs`; the host as it is. Ranks that are alike share their
    phases before and after."""
    several = sum(d.kind == "gpu" for d in devices) > 1
    margins = _margins(runs, table, several=several)
    alike = {id(d.phases): d for d in devices if d.kind == "gpu"}
    phases = {key: _phases(d, runs, margins) for key, d in alike.items()}
    return tuple(replace(d, phases=phases[id(d.phases)]) if d.kind == "gpu" else d for d in devices)


def phase(found: Phase, runs: Runs, table: Table | None = None) -> Phase:
    """One moment of one device alone."""
    return _phase(found, runs, _margins(runs, table, several=False))


def highest(kinds: Iterable[Iterable[Iterable[Part]]], runs: Runs, *, several: bool) -> int:
    """The high end of the fullest device once it is `widened`, from the names and bytes of the
    components in each of its phases."""
    shares = [m.added[1] for m in _margins(runs, None, several=several).values()]
    return max((_high(parts, runs, shares) for phases in kinds for parts in phases), default=0)


def _high(parts: Iterable[Part], runs: Runs, shares: Sequence[float]) -> int:
    """The same sums as of `_phase`."""
    names = record(runs.engine).logged[1]
    sums, high, moving = dict.fromkeys(LEVELS, 0), 0, 0
    for name, nbytes in parts:
        high += nbytes.high
        sums[LEVEL_OF[name]] += nbytes.expected
        moving += nbytes.expected if name in names else 0
    sizes, below = [], 0
    for level in LEVELS:
        below += sums[level]
        own = bool(names) and level == "allocated"
        sizes.append(moving if own else base(below, level))
    return high + sum(ceil(share * size) for share, size in zip(shares, sizes, strict=True))


def published(devices: Sequence[Device], runs: Runs) -> dict[str, Any] | None:
    """What is known of runs of the very kind, at the highest level that was published."""
    several = sum(d.kind == "gpu" for d in devices) > 1
    margins = _margins(runs, None, several=several)
    for level in reversed(LEVELS):
        found = margins[level]
        if found.near and found.of is not None and found.of.quantity == PEAK:
            return {
                "level": level,
                "runs": found.runs,
                "median": found.middle,
                "sources": list(found.sources),
            }
    return None


def around(
    value: Bytes,
    runs: Runs,
    quantity: str,
    level: str,
    *,
    several: bool = False,
    table: Table | None = None,
) -> Bytes:
    """One figure with the margin of its kind. It may be narrower than the sum of its parts, whose
    worst cases do not meet."""
    known = fitted() if table is None else table
    asked = kind(runs, quantity, level, several=several)
    found = kept(known, ("around", asked), lambda: known.of(asked))
    size = base(value.expected, level)
    least = ceil(FLOOR * size) if found.runs and level != "component" else 0
    low = min(value.low - ceil(found.low * size), value.expected - least)
    high = max(value.high + ceil(found.high * size), value.expected + least)
    return Bytes(max(0, low) if value.low >= 0 else low, value.expected, high)


def base(expected: int, level: str) -> int:
    """What a margin is a share of. Parts that logs print are exact to their last digit, or wrong in
    proportion."""
    return abs(expected) + (0 if level == "component" else BASE)


def _margins(runs: Runs, table: Table | None, *, several: bool) -> Mapping[Level, Margin]:
    known = fitted() if table is None else table

    def found() -> Mapping[Level, Margin]:
        return {level: _margin(known, runs, level, several=several) for level in LEVELS}

    return kept(known, ("margins", runs, several), found)


def _margin(table: Table, runs: Runs, level: Level, *, several: bool) -> Margin:
    logged, _ = record(runs.engine).logged
    if level == "allocated" and logged:
        return table.of(kind(runs, logged, "component", several=several))
    found = table.of(kind(runs, PEAK, level, several=several))
    if found.runs and level not in KNOWN.get(runs.task, ()):
        return found._replace(low=max(FLOOR, found.low), high=max(FLOOR, found.high))
    return found


def _phases(device: Device, runs: Runs, margins: Mapping[Level, Margin]) -> tuple[Phase, ...]:
    return tuple(_phase(one, runs, margins) for one in device.phases)


def _phase(whole: Phase, runs: Runs, margins: Mapping[Level, Margin]) -> Phase:
    """Levels nest: what one adds is in all above it."""
    components = whole.components
    for level in LEVELS:
        margin = margins[level]
        size = _size(whole, runs, level)
        low, high = (ceil(share * size) for share in margin.added)
        if low:
            components = tuple(_lowered(components, level, low, deep=margin.near))
        if high:
            components = (*components, _component(level, high, margin))
    return Phase(whole.name, components)


def _size(whole: Phase, runs: Runs, level: Level) -> int:
    _, names = record(runs.engine).logged
    if level != "allocated" or not names:
        return base(whole.at(level).expected, level)
    return sum(c.bytes.expected for c in whole.components if c.name in names)


def _lowered(
    components: Sequence[Component], level: Level, nbytes: int, *, deep: bool
) -> Iterator[Component]:
    """Take `nbytes` from the low end, as far as something inexact is there: first from what counts
    at the level, then, where runs of the kind say so, from what counts below it."""
    lower = LEVELS[: LEVELS.index(level)] if deep else ()
    own = [_lowest(c) if c.level == level else 0 for c in components]
    below = [_lowest(c) if c.level in lower else 0 for c in components]
    first = min(nbytes, sum(own))
    taken = zip(_dealt(first, own), _dealt(min(nbytes - first, sum(below)), below), strict=True)
    for c, less in zip(components, map(sum, taken), strict=True):
        yield replace(c, bytes=c.bytes._replace(low=c.bytes.low - less)) if less else c


def _lowest(c: Component) -> int:
    return 0 if c.name in EXACT else c.bytes.low


def _dealt(nbytes: int, among: Sequence[int]) -> Iterator[int]:
    """Split `nbytes` in proportion to `among`, and take no more than there is of each."""
    left, rest = nbytes, sum(among)
    for each in among:
        share = min(left, each, -(-each * left // rest)) if rest else 0
        yield share
        left, rest = left - share, rest - each


def _component(level: Level, high: int, margin: Margin) -> Component:
    return Component(
        name=NAMES[level],
        detail=DETAIL,
        bytes=Bytes(0, 0, high),
        basis=margin.basis,
        formula=formula(margin),
        source="published measurements: weighbridge accuracy --coverage",
    )


def formula(margin: Margin) -> str:
    """What the width is made of, in words."""
    high, low = 100 * margin.high, 100 * margin.low
    told = f"up to {high:.1f} % more and {low:.1f} % less than the rules say"
    if margin.of is None:
        return f"{told}: none was published at this level"
    kin = "" if margin.near else "none was published like this; the nearest are "
    return f"{told}: {kin}{margin.runs:,} {margin.of.words}"

"""`--details` and `--explain`: every component, level and phase, how each is computed, the device,
and all that follows from them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.memory import LEVELS, Component, compared
from weighbridge.report import Row
from weighbridge.units import human
from weighbridge.view import facts
from weighbridge.view.changes import quality_cell
from weighbridge.view.facts import span
from weighbridge.view.parts import phase_name
from weighbridge.view.records import Cell, Column, Grid, Section, lines
from weighbridge.view.records import row as cells
from weighbridge.view.shown import ShownAnswer
from weighbridge.wording import printable

if TYPE_CHECKING:
    from weighbridge.quantization.quality import Finding

DIVISIONS, FORMATS = "division", "format"  # bases of rows


def sections(s: ShownAnswer) -> Iterator[Section]:
    """Return the sections of `--details`."""
    yield (lines(*facts.asked(s)),)
    yield (components(s),)
    if len(s.device.phases) > 1:
        yield (every_phase(s),)
    if s.device.exact is not None:
        yield (exact(s),)
    told = facts.judged(s)
    if told:
        yield (_facts(s, told),)
    for basis in (DIVISIONS, FORMATS):
        rows = [r for r in s.report.table if r.basis == basis]
        if rows:
            yield (_table(s, rows, basis),)
    told = facts.rest(s)
    if told:
        yield (_facts(s, told),)


def _facts(s: ShownAnswer, told: tuple[tuple[str, str], ...]) -> Grid:
    rows = tuple(cells(name, text) for name, text in told)
    return Grid((Column(), Column(folds=True)), rows)


def components(s: ShownAnswer) -> Grid:
    """The phase of the bar, component by component, with a sum below each level."""
    rows: list[tuple[Cell, ...]] = []
    for level in LEVELS:
        inside = [c for c in s.phase.components if c.level == level]
        rows += [cells(name(c), span(s, c.bytes), c.basis) for c in inside]
        if inside:
            total = span(s, s.phase.at(level))
            rows.append(cells(f"= {s.say(f'level.{level}')}", total, "", tone="strong"))
    columns = (
        Column(s.say("head.component")),
        Column(s.say("head.memory"), right=True),
        Column(s.say("head.basis")),
    )
    return Grid(columns, tuple(rows), _where(s), wide=True)


def name(c: Component) -> str:
    return f"{c.name} ({c.detail})" if c.detail else c.name


def _where(s: ShownAnswer) -> str:
    """The phase and the device that the table is of."""
    key = "details.host" if s.device.kind == "host" else "details.device"
    if s.gpus > 1:
        key = "details.fullest"
    count = len(s.device.phases)
    among = s.say("details.among", count=count) if count > 1 else ""
    return s.say(key, phase=phase_name(s, s.phase.name)) + among


def every_phase(s: ShownAnswer) -> Grid:
    """Return the bytes that are expected of each component in each phase."""
    rows: dict[str, list[int]] = {}
    for at, phase in enumerate(s.device.phases):
        for c in phase.components:
            found = rows.setdefault(name(c), [0] * len(s.device.phases))
            found[at] += c.bytes.expected
    heads = [Column(phase_name(s, p.name), right=True) for p in s.device.phases]
    told = [cells(n, *(_or_blank(s, b) for b in sums)) for n, sums in rows.items() if any(sums)]
    for level in LEVELS:
        sums = [p.at(level).expected for p in s.device.phases]
        label = f"= {s.say(f'level.{level}')}"
        told.append(cells(label, *(human(n, s.unit) for n in sums), tone="strong"))
    heading = s.say("details.phases")
    return Grid((Column(s.say("head.component")), *heads), tuple(told), heading, wide=True)


def _or_blank(s: ShownAnswer, nbytes: int) -> str:
    return human(nbytes, s.unit) if nbytes else ""


def exact(s: ShownAnswer) -> Grid:
    """The real class as it was traced beside the closed form."""
    rows: list[tuple[Cell, ...]] = []
    assert s.device.exact is not None
    for closed, traced in s.device.exact.phases:
        for level in LEVELS[:2]:
            a, b = closed.at(level).expected, traced.at(level).expected
            rows.append(cells(f"{closed.name}, {level}", *_pair(s, a, b)))
        if closed.name == s.phase.name:
            rows += [cells(f"  {n}", *_pair(s, a, b)) for n, a, b in compared(closed, traced)]
    keys = ("head.exact", "head.closed", "head.traced", "head.difference")
    heads = tuple(Column(s.say(key), right=bool(i)) for i, key in enumerate(keys))
    return Grid(heads, tuple(rows), wide=True)


def _pair(s: ShownAnswer, closed: int, traced: int) -> tuple[str, str, str]:
    share = f"{100 * (traced - closed) / closed:+.2f} %" if closed else ""
    return human(closed, s.unit), human(traced, s.unit), share


def _table(s: ShownAnswer, rows: list[Row], basis: str) -> Grid:
    """Every format of the load table."""
    key = "details.divisions" if basis == DIVISIONS else "details.formats"
    keys = ("head.format", "head.largest_layer", "head.total", "head.adam", "head.adam_pure")
    heads = [Column(s.say(k), right=bool(i)) for i, k in enumerate(keys)]
    if any(r.quality for r in rows):
        heads.append(Column(s.say("head.quality")))
    told = tuple(cells(*tuple(_row(s, r))[: len(heads)]) for r in rows)
    return Grid(tuple(heads), told, s.say(key), wide=True)


def _row(s: ShownAnswer, r: Row) -> Iterator[str]:
    yield r.dtype
    yield human(r.largest_layer_bytes, s.unit)
    yield human(r.total_bytes, s.unit)
    yield _maybe(s, r.training_adam_bytes)
    yield _maybe(s, r.training_adam_pure_bytes)
    yield quality_cell(s.say, r.quality)


def _maybe(s: ShownAnswer, nbytes: int | None) -> str:
    return "" if nbytes is None else human(nbytes, s.unit)


def arithmetic(s: ShownAnswer) -> Iterator[Section]:
    """Return the sections of `--explain`: how each component is computed, as people write it."""
    yield (_arithmetic(s),)
    for grid in (left_alone(s), quality_sources(s)):
        if grid is not None:
            yield (grid,)


def _arithmetic(s: ShownAnswer) -> Grid:
    """Components from the largest to the smallest, margins last."""
    ordered = sorted(s.phase.components, key=lambda c: -c.bytes.expected)
    rows: list[tuple[Cell, ...]] = []
    for c in ordered:
        size = human(c.bytes.expected if c.bytes.expected else c.bytes.high, s.unit)
        told = size if c.bytes.expected else s.say("explain.up_to", size=size)
        detail = f"{c.detail}: " if c.detail else ""
        rows.append(cells(c.name, told, printable(detail + c.formula)))
    columns = (
        Column(s.say("head.component")),
        Column(s.say("head.memory"), right=True),
        Column(s.say("head.arithmetic"), folds=True),
    )
    heading = s.say("explain.heading", phase=phase_name(s, s.phase.name))
    return Grid(columns, tuple(rows), heading)


def left_alone(s: ShownAnswer) -> Grid | None:
    """List what formats keep in the model's own dtype: those that keep the same together."""
    kept: dict[str, list[str]] = {}
    for r in s.report.table:
        if r.left_alone:
            kept.setdefault(r.left_alone, []).append(r.dtype)
    if not kept:
        return None
    rows = tuple(cells(", ".join(names), printable(text)) for text, names in kept.items())
    heads = (
        Column(s.say("head.format"), folds=False),
        Column(s.say("head.left_alone"), folds=True),
    )
    return Grid(heads, rows, s.say("explain.left_alone"))


def quality_sources(s: ShownAnswer) -> Grid | None:
    """List the pages where the published figures of each format are printed."""
    found = tuple(cells(r.dtype, _published(r.quality)) for r in s.report.table if r.quality)
    heads = (Column(s.say("head.format")), Column(s.say("head.source"), folds=True))
    return Grid(heads, found, s.say("explain.quality")) if found else None


def _published(found: "Finding") -> str:
    """The text, the way of making and the page of a figure."""
    told = (found.text, found.under, found.caution, found.source)
    return printable(" · ".join(filter(None, told)))

"""The tables of `--details` and `--explain`: every component, level and phase, how each is
computed, the device, and what follows from them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.memory import LEVELS, Component, compared
from weighbridge.base.units import human
from weighbridge.base.wording import printable
from weighbridge.faces.view import facts, learning
from weighbridge.faces.view.changes import quality_cell
from weighbridge.faces.view.facts import span
from weighbridge.faces.view.parts import phase_name
from weighbridge.faces.view.records import Cell, Column, Grid, Section, lines
from weighbridge.faces.view.records import row as cells
from weighbridge.faces.view.shown import ShownAnswer
from weighbridge.memory.report import Row

if TYPE_CHECKING:
    from weighbridge.models.quantization.quality import Finding

DIVISIONS, FORMATS = "division", "format"  # values of `basis`


def sections(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the sections of `--details`: settings, components, phases, formats and facts."""
    yield (lines(*facts.asked(answer)),)
    yield (components(answer),)
    roles = {c.role for one in answer.device.phases for c in one.components}
    if learning.ACTOR in roles:
        yield (learning.by_role(answer),)
    elif len(answer.device.phases) > 1:
        yield (every_phase(answer),)
    if answer.device.exact is not None:
        yield (exact(answer),)
    named = facts.judged(answer)
    if named:
        yield (_facts_table(answer, named),)
    for basis in (DIVISIONS, FORMATS):
        rows = [r for r in answer.report.table if r.basis == basis]
        if rows:
            yield (_load_table(answer, rows, basis),)
    named = facts.rest(answer)
    if named:
        yield (_facts_table(answer, named),)


def _facts_table(answer: ShownAnswer, named: tuple[tuple[str, str], ...]) -> Grid:
    rows = tuple(cells(name, text) for name, text in named)
    return Grid((Column(), Column(folds=True)), rows)


def components(answer: ShownAnswer) -> Grid:
    """Return a table of the components in the bar's phase, with a sum below each level."""
    rows: list[tuple[Cell, ...]] = []
    for level in LEVELS:
        inside = [c for c in answer.phase.components if c.level == level]
        rows += [cells(name(c), span(answer, c.bytes), c.basis) for c in inside]
        if inside:
            total = span(answer, answer.phase.at(level))
            rows.append(cells(f"= {answer.say(f'level.{level}')}", total, "", tone="strong"))
    columns = (
        Column(answer.say("head.component")),
        Column(answer.say("head.memory"), right=True),
        Column(answer.say("head.basis")),
    )
    return Grid(columns, tuple(rows), _components_heading(answer), wide=True)


def name(component: Component) -> str:
    return f"{component.name} ({component.detail})" if component.detail else component.name


def _components_heading(answer: ShownAnswer) -> str:
    """Return a table's heading: the phase and the device that the components belong to."""
    key = "details.host" if answer.device.kind == "host" else "details.device"
    if answer.gpus > 1:
        key = "details.fullest"
    count = len(answer.device.phases)
    among = answer.say("details.among", count=count) if count > 1 else ""
    return answer.say(key, phase=phase_name(answer, answer.phase.name)) + among


def every_phase(answer: ShownAnswer) -> Grid:
    """Return a table of the expected bytes of each component in each phase, with sums per level."""
    rows: dict[str, list[int]] = {}
    for index, phase in enumerate(answer.device.phases):
        for c in phase.components:
            sums_of_name = rows.setdefault(name(c), [0] * len(answer.device.phases))
            sums_of_name[index] += c.bytes.expected
    heads = [Column(phase_name(answer, p.name), right=True) for p in answer.device.phases]
    lines = [
        cells(n, *(_size_or_blank(answer, b) for b in sums))
        for n, sums in rows.items()
        if any(sums)
    ]
    for level in LEVELS:
        sums = [p.at(level).expected for p in answer.device.phases]
        label = f"= {answer.say(f'level.{level}')}"
        lines.append(cells(label, *(human(n, answer.unit) for n in sums), tone="strong"))
    heading = answer.say("details.phases")
    return Grid((Column(answer.say("head.component")), *heads), tuple(lines), heading, wide=True)


def _size_or_blank(answer: ShownAnswer, nbytes: int) -> str:
    return human(nbytes, answer.unit) if nbytes else ""


def exact(answer: ShownAnswer) -> Grid:
    """Return a table that compares the traced class with the closed form: bytes per phase and
    level, and their difference in percent."""
    rows: list[tuple[Cell, ...]] = []
    assert answer.device.exact is not None
    for closed, traced in answer.device.exact.phases:
        for level in LEVELS[:2]:
            a, b = closed.at(level).expected, traced.at(level).expected
            rows.append(cells(f"{closed.name}, {level}", *_compared_cells(answer, a, b)))
        if closed.name == answer.phase.name:
            rows += [
                cells(f"  {n}", *_compared_cells(answer, a, b))
                for n, a, b in compared(closed, traced)
            ]
    keys = ("head.exact", "head.closed", "head.traced", "head.difference")
    heads = tuple(Column(answer.say(key), right=bool(i)) for i, key in enumerate(keys))
    return Grid(heads, tuple(rows), wide=True)


def _compared_cells(answer: ShownAnswer, closed: int, traced: int) -> tuple[str, str, str]:
    share = f"{100 * (traced - closed) / closed:+.2f} %" if closed else ""
    return human(closed, answer.unit), human(traced, answer.unit), share


def _load_table(answer: ShownAnswer, rows: list[Row], basis: str) -> Grid:
    """Return the rows of the load table with one `basis`, division or format, as a table."""
    key = "details.divisions" if basis == DIVISIONS else "details.formats"
    keys = ("head.format", "head.largest_layer", "head.total", "head.adam", "head.adam_pure")
    heads = [Column(answer.say(k), right=bool(i)) for i, k in enumerate(keys)]
    if any(r.quality for r in rows):
        heads.append(Column(answer.say("head.quality")))
    lines = tuple(cells(*tuple(_load_cells(answer, r))[: len(heads)]) for r in rows)
    return Grid(tuple(heads), lines, answer.say(key), wide=True)


def _load_cells(answer: ShownAnswer, row: Row) -> Iterator[str]:
    yield row.dtype
    yield human(row.largest_layer_bytes, answer.unit)
    yield human(row.total_bytes, answer.unit)
    yield _size_if_known(answer, row.training_adam_bytes)
    yield _size_if_known(answer, row.training_adam_pure_bytes)
    yield quality_cell(answer.say, row.quality)


def _size_if_known(answer: ShownAnswer, nbytes: int | None) -> str:
    return "" if nbytes is None else human(nbytes, answer.unit)


def arithmetic(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the sections of `--explain`: how each component is computed, as people write it."""
    yield (_formulas(answer),)
    for grid in (left_alone(answer), quality_sources(answer)):
        if grid is not None:
            yield (grid,)


def _formulas(answer: ShownAnswer) -> Grid:
    """Return a table of the components' formulas, from the largest to the smallest, margins
    last."""
    ordered = sorted(answer.phase.components, key=lambda c: -c.bytes.expected)
    rows: list[tuple[Cell, ...]] = []
    for c in ordered:
        size = human(c.bytes.expected if c.bytes.expected else c.bytes.high, answer.unit)
        shown_size = size if c.bytes.expected else answer.say("explain.up_to", size=size)
        detail = f"{c.detail}: " if c.detail else ""
        rows.append(cells(c.name, shown_size, printable(detail + c.formula)))
    columns = (
        Column(answer.say("head.component")),
        Column(answer.say("head.memory"), right=True),
        Column(answer.say("head.arithmetic"), folds=True),
    )
    heading = answer.say("explain.heading", phase=phase_name(answer, answer.phase.name))
    return Grid(columns, tuple(rows), heading)


def left_alone(answer: ShownAnswer) -> Grid | None:
    """Return a table of the modules that formats leave in the model's dtype, one row per list of
    modules; None if there are none."""
    names_of: dict[str, list[str]] = {}
    for r in answer.report.table:
        if r.left_alone:
            names_of.setdefault(r.left_alone, []).append(r.dtype)
    if not names_of:
        return None
    rows = tuple(cells(", ".join(names), printable(text)) for text, names in names_of.items())
    heads = (
        Column(answer.say("head.format"), folds=False),
        Column(answer.say("head.left_alone"), folds=True),
    )
    return Grid(heads, rows, answer.say("explain.left_alone"))


def quality_sources(answer: ShownAnswer) -> Grid | None:
    """Return a table of the pages that publish each format's quality figures; None without any."""
    lines = tuple(
        cells(r.dtype, _quality_source(r.quality)) for r in answer.report.table if r.quality
    )
    heads = (Column(answer.say("head.format")), Column(answer.say("head.source"), folds=True))
    return Grid(heads, lines, answer.say("explain.quality")) if lines else None


def _quality_source(finding: "Finding") -> str:
    """Return the text, the method, the caution and the source of a quality figure, joined."""
    pieces = (finding.text, finding.under, finding.caution, finding.source)
    return printable(" · ".join(filter(None, pieces)))

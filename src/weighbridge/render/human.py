"""The terminal's report: tables that say where each number comes from."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from weighbridge.render import words
from weighbridge.render.drawing import Column, Styled, Table, drawn, wrapped
from weighbridge.render.footers import footer, heading, to_paste

if TYPE_CHECKING:
    from weighbridge.judged import Verdict
    from weighbridge.report import Report, Row

WIDE = 120  # columns, enough for every model
COLORS = {"fits": "bold green", "does not fit": "bold red", "cannot say": "bold yellow"}
ROOM = 30  # columns for the words of --explain, which fold


def human(
    report: "Report",
    *,
    unit: str | None = None,
    explain: bool = False,
    color: bool = False,
    width: int = 100,
    **_: Any,
) -> str:
    if width < WIDE:
        width = max(width, _needed(report, unit) + ROOM * explain)
    lines: list[str] = []
    for part in _parts(report, unit, explain):
        if isinstance(part, Table):
            lines += drawn(part, width, color=color)
        else:
            broken = wrapped(part.text, width)
            lines += (Styled(line.rstrip(), part.style).painted(color=color) for line in broken)
    if paste := to_paste(report):  # in one piece, however narrow it is
        lines += ["", *wrapped(heading(report), width), "", paste]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _parts(report: "Report", unit: str | None, explain: bool) -> Iterator[Styled | Table]:
    yield Styled(words.title(report), "bold")
    yield Styled(words.provenance(report), "dim")
    yield Styled("")
    yield Styled(words.setting(report))
    yield Styled(words.moment(report), "dim")
    yield _components(report, unit, explain)
    if words.fullest(report).exact is not None:
        yield Styled("")
        yield _exact(report, unit)
    if report.verdict is not None:
        yield Styled("")
        yield _verdict(report.verdict, unit)
    if report.table and report.verdict is not None:
        yield Styled("")
    yield from _tables(report, unit, explain)
    if not report.table:
        yield Styled("")
    for line in footer(report, unit):
        yield Styled(line)


def _tables(report: "Report", unit: str | None, explain: bool) -> Iterator[Table]:
    if report.table:
        yield _table(words.DIVISIONS, words.divisions(report), unit, explain)
    if words.formats(report):
        yield _table(words.FORMATS, words.formats(report), unit, explain)


def _needed(report: "Report", unit: str | None) -> int:
    """Columns below which numbers would be cut short."""
    tables = [_components(report, unit, False), *_tables(report, unit, False)]
    return max(table.width for table in tables)


def _components(report: "Report", unit: str | None, explain: bool) -> Table:
    rows = []
    for name, size, basis, formula in words.component_rows(words.fullest(report), unit):
        style = "bold" if name.startswith("=") else ""
        told = Styled(formula if explain else "", "dim")
        rows.append((Styled(name, style), Styled(size, style), Styled(basis, "dim"), told))
    return Table((Column(), Column(right=True), Column(), Column(folds=True)), rows)


def _exact(report: "Report", unit: str | None) -> Table:
    rows = [tuple(map(Styled, cells)) for cells in words.exact_rows(words.fullest(report), unit)]
    return Table(_numbers(len(words.EXACT)), rows, words.EXACT)


def _verdict(verdict: "Verdict", unit: str | None) -> Table:
    rows = [
        (Styled(word, COLORS.get(word, "")), Styled(says))
        for word, says in words.verdict(verdict, unit)
    ]
    return Table((Column(), Column(folds=True)), rows)


def _table(title: str, rows: "list[Row]", unit: str | None, explain: bool) -> Table:
    training = any(row.training_adam_bytes is not None for row in rows)
    named = words.LOAD_COLUMNS if training else words.LOAD_COLUMNS[:3]
    head, columns = (title, *named[1:]), _numbers(len(named))
    told = [tuple(map(Styled, words.load_row(row, unit)[: len(named)])) for row in rows]
    if explain:
        head, columns = (*head, "left alone"), (*columns, Column(folds=True))
        told = [(*cells, Styled(r.left_alone, "dim")) for cells, r in zip(told, rows, strict=True)]
    return Table(columns, told, head)


def _numbers(count: int) -> tuple[Column, ...]:
    """A name, and what is counted of it."""
    return (Column(), *[Column(right=True)] * (count - 1))

"""The terminal's report as rich draws it: what `render/human.py` is compared with."""

from io import StringIO
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weighbridge.judged import Verdict
from weighbridge.render import words
from weighbridge.render.footers import footer, heading, to_paste
from weighbridge.report import Report, Row

WIDE = 120  # columns, enough for every model
COLORS = {"fits": "bold green", "does not fit": "bold red", "cannot say": "bold yellow"}
ROOM = 30  # columns for the words of --explain, which fold


def human(
    report: Report,
    *,
    unit: str | None = None,
    explain: bool = False,
    color: bool = False,
    width: int = 100,
    **_: Any,
) -> str:
    out = StringIO()
    console = Console(
        file=out,
        width=width if width >= WIDE else max(width, _needed(report, unit) + ROOM * explain),
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        legacy_windows=False,
    )
    console.print(Text(words.title(report), style="bold"))
    console.print(Text(words.provenance(report), style="dim"))
    console.print()
    console.print(Text(words.setting(report)))
    console.print(Text(words.moment(report), style="dim"))
    console.print(_components(report, unit, explain))
    if words.fullest(report).exact is not None:
        console.print()
        console.print(_exact(report, unit))
    if report.verdict is not None:
        console.print()
        console.print(_verdict(report.verdict, unit))
    if report.table and report.verdict is not None:
        console.print()
    if report.table:
        console.print(_table(words.DIVISIONS, words.divisions(report), unit, explain))
    if words.formats(report):
        console.print(_table(words.FORMATS, words.formats(report), unit, explain))
    if not report.table:
        console.print()
    _below(console, report, unit)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _below(console: Console, report: Report, unit: str | None) -> None:
    """Facts that belong to no table, and a line to paste: in one piece, however narrow it is."""
    for line in footer(report, unit):
        console.print(Text(line))
    if paste := to_paste(report):
        console.print(Text(f"\n{heading(report)}\n"))
        console.print(Text(paste), soft_wrap=True)


def _needed(report: Report, unit: str | None) -> int:
    """Columns below which rich would cut numbers short."""
    wide = Console(file=StringIO(), width=1000)
    tables = [_components(report, unit, False)]
    if report.table:
        tables.append(_table(words.DIVISIONS, words.divisions(report), unit, False))
        tables.append(_table(words.FORMATS, words.formats(report), unit, False))
    return max(wide.measure(table).maximum for table in tables)


def _components(report: Report, unit: str | None, explain: bool) -> Table:
    device = words.fullest(report)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for name, size, basis, formula in words.component_rows(device, unit):
        style = "bold" if name.startswith("=") else ""
        table.add_row(Text(name, style), Text(size, style), basis, formula if explain else "")
    return table


def _exact(report: Report, unit: str | None) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(words.EXACT):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for cells in words.exact_rows(words.fullest(report), unit):
        table.add_row(*map(Text, cells))
    return table


def _verdict(verdict: Verdict, unit: str | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for word, says in words.verdict(verdict, unit):
        table.add_row(Text(word, COLORS.get(word, "")), Text(says))
    return table


def _table(title: str, rows: list[Row], unit: str | None, explain: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    training = any(row.training_adam_bytes is not None for row in rows)
    columns = words.LOAD_COLUMNS if training else words.LOAD_COLUMNS[:3]
    for index, column in enumerate((title, *columns[1:])):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    if explain:
        table.add_column("left alone", overflow="fold", style="dim")
    for row in rows:
        cells = words.load_row(row, unit)[: len(columns)]
        table.add_row(*cells, *((row.left_alone,) if explain else ()))
    return table

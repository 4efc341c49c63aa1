"""Markdown: the same tables, to paste into an issue or a model card."""

from collections.abc import Iterable, Iterator
from typing import Any

from weighbridge.render import words
from weighbridge.render.footers import footer, heading, to_paste
from weighbridge.report import Report, Row
from weighbridge.wording import redacted, safe_markdown


def markdown(report: Report, *, unit: str | None = None, explain: bool = False, **_: Any) -> str:
    return "\n".join(_lines(report, unit, explain)) + "\n"


def _lines(report: Report, unit: str | None, explain: bool) -> Iterator[str]:
    yield f"**{safe_markdown(words.title(report))}**"
    yield ""
    yield safe_markdown(f"{words.provenance(report)}. {words.setting(report)}.")
    yield ""
    components = list(words.component_rows(words.fullest(report), unit))
    yield f"Components in {words.moment(report)}:"
    yield ""
    yield from _table(("component", "memory", "basis", "formula"), components)
    yield ""
    exact = list(words.exact_rows(words.fullest(report), unit))
    if exact:
        yield from _table(words.EXACT, exact)
        yield ""
    if report.verdict is not None:
        said = words.verdict(report.verdict, unit)
        yield from (f"- **{word}** {safe_markdown(says)}" for word, says in said)
        yield ""
    for title, rows in _tables(report):
        yield from _load(title, rows, unit, explain)
        yield ""
    yield from (f"- {safe_markdown(line)}" for line in footer(report, unit))
    yield from (f"- warning: {safe_markdown(redacted(line))}" for line in report.warnings)
    paste = to_paste(report)
    if paste:
        fence = "```" + "`" * paste.count("`")  # longer than any run of them in a name
        yield from ("", heading(report), "", fence, paste, fence)


def _tables(report: Report) -> Iterator[tuple[str, list[Row]]]:
    named = ((words.DIVISIONS, words.divisions(report)), (words.FORMATS, words.formats(report)))
    return ((title, rows) for title, rows in named if rows)


def _load(title: str, rows: list[Row], unit: str | None, explain: bool) -> Iterator[str]:
    training = any(row.training_adam_bytes is not None for row in rows)
    width = len(words.LOAD_COLUMNS) if training else 3
    columns = (title, *words.LOAD_COLUMNS[1:width], *(("left alone",) if explain else ()))
    extra = ((r.left_alone,) if explain else () for r in rows)
    cells = (words.load_row(r, unit)[:width] + more for r, more in zip(rows, extra, strict=True))
    yield from _table(columns, cells)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield _row(columns)
    yield "| --- |" + " ---: |" * (len(columns) - 1)
    yield from (_row(row) for row in rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(safe_markdown, cells)) + " |"

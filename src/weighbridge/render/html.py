"""HTML for notebooks: plain tables in the page's own colours, no script, no style sheet."""

from collections.abc import Iterable
from html import escape
from typing import Any

from weighbridge.render import words
from weighbridge.render.footers import footer, heading, to_paste
from weighbridge.report import Report


def html(report: Report, *, unit: str | None = None, **_: Any) -> str:
    parts = [
        f"<p><strong>{escape(words.title(report))}</strong><br>",
        f"{escape(words.provenance(report))}. {escape(words.setting(report))}.</p>",
        f"<p>Components in {escape(words.moment(report))}:</p>",
        _table(
            ("component", "memory", "basis", "formula"),
            words.component_rows(words.fullest(report), unit),
        ),
        *_verdict(report, unit),
        *_load(report, unit),
        "<ul>",
        *(f"<li>{escape(line)}</li>" for line in footer(report, unit)),
        *(f"<li>warning: {escape(line)}</li>" for line in report.warnings),
        "</ul>",
        *(
            f"<p>{escape(heading(report))}</p><pre>{escape(line)}</pre>"
            for line in (to_paste(report),)
            if line
        ),
    ]
    return "<div>" + "".join(parts) + "</div>"


def _load(report: Report, unit: str | None) -> Iterable[str]:
    if not report.table:
        return ()
    rows = (words.load_row(row, unit) for row in report.table)
    return (_table(words.LOAD_COLUMNS, rows),)


def _verdict(report: Report, unit: str | None) -> Iterable[str]:
    if report.verdict is None:
        return ()
    says = words.verdict(report.verdict, unit)
    rows = (f"<strong>{escape(word)}</strong> {escape(text)}" for word, text in says)
    return ("<p>", "<br>".join(rows), "</p>")


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

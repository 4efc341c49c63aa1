"""An answer as a file: Markdown, JSON, SVG, CSV, HTML, or the command that gives the answer."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.faces.render import draw, screen_of
from weighbridge.faces.render.data import json_text
from weighbridge.faces.web.asks import one_of
from weighbridge.faces.web.command import command
from weighbridge.faces.web.screens import named
from weighbridge.faces.web.screens import screen_of as together
from weighbridge.memory.report.fit import Fit

if TYPE_CHECKING:
    from weighbridge.faces.web.asks import AnswerView
    from weighbridge.faces.web.protocol import One
    from weighbridge.memory.report import Report

_COLUMNS = """
answer model question device kind phase component detail level low expected high basis formula
source
"""
COLUMNS = tuple(_COLUMNS.split())
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of cells that a spreadsheet would run
STEM = re.compile(r"[^A-Za-z0-9._-]+")
MOST_STEM = 60  # most characters of a file's name


def export(form: Any, answers: "Sequence[One]", view: "AnswerView") -> dict[str, str]:
    """Return the file's `name`, media `type` and `text`. Raises UsageError for an unknown form."""
    one_of("form", form, tuple(FORMS))
    write, kind, end = FORMS[form]
    return {"name": f"{_file_stem(answers)}.{end}", "type": kind, "text": write(answers, view)}


def _file_stem(answers: "Sequence[One]") -> str:
    """Return the file's name without its ending: the task and the model."""
    first = answers[0]
    task = first.request["task"] if len(answers) == 1 else "compare"
    model = STEM.sub("-", first.found.model.name).strip("-.")[:MOST_STEM]
    return "-".join(filter(None, ("weighbridge", task, model)))


def _screen(answers: "Sequence[One]", view: "AnswerView") -> Any:
    return screen_of(answers[0].found, view.look) if len(answers) == 1 else together(answers, view)


def _markdown(answers: "Sequence[One]", view: "AnswerView") -> str:
    return draw(_screen(answers, view), "markdown", view.look)


def _html(answers: "Sequence[One]", view: "AnswerView") -> str:
    return draw(_screen(answers, view), "html", view.look)


def _json(answers: "Sequence[One]", view: "AnswerView") -> str:
    """Return the JSON that the command line prints with --json: a report, or a list of reports."""
    reports = [answer.found.to_dict() for answer in answers]
    body = reports if len(reports) > 1 else reports[0]
    return json_text(body)


def _svg(answers: "Sequence[One]", view: "AnswerView") -> str:
    return svg([answer.found for answer in answers], view)


def svg(answers: "Sequence[Report | Fit]", view: "AnswerView") -> str:
    """Return the SVG picture that `--chart` draws of the answers. Raises UsageError if there is
    none to draw."""
    from weighbridge.faces.charts.svg import svg as drawn

    fits = [answer for answer in answers if isinstance(answer, Fit)]
    if len(fits) == len(answers) == 1:
        from weighbridge.faces.charts.fits import fits as figure

        return drawn(figure(fits[0], unit=view.unit, lang=view.lang))
    from weighbridge.faces.charts.sides import sides

    reports = [answer.report if isinstance(answer, Fit) else answer for answer in answers]
    known = [answer for answer in reports if answer is not None]
    if not known:
        raise UsageError(sentence("export.nothing"))
    return drawn(sides(known, unit=view.unit, lang=view.lang))


def _command(answers: "Sequence[One]", view: "AnswerView") -> str:
    return "".join(f"{command(answer.request, view)}\n" for answer in answers)


def _csv(answers: "Sequence[One]", view: "AnswerView") -> str:
    """Return CSV with a row per component of each phase; bytes are whole numbers."""
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    heads = named(answers) if len(answers) > 1 else [""]
    for answer, head in zip(answers, heads, strict=True):
        for question, report in _named_reports(answer.found):
            for row in _component_rows(report):
                cells = (head, report.model.name, question, *row)
                writer.writerow([_safe_cell(value) for value in cells])
    return out.getvalue()


def _named_reports(answer: "Report | Fit") -> "Iterator[tuple[str, Report]]":
    if isinstance(answer, Fit):
        yield from ((q.name, q.report) for q in answer.questions if q.report is not None)
    else:
        yield answer.task, answer


def _component_rows(report: "Report") -> Iterator[tuple[Any, ...]]:
    for device in report.devices:
        for phase in device.phases:
            for c in phase.components:
                where = (device.index, device.kind, phase.name, c.name, c.detail, c.level)
                yield (*where, *c.bytes, c.basis, c.formula, c.source)


def _safe_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula, since names come from strangers'
    files."""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value


FORMS: Mapping[str, tuple[Callable[["Sequence[One]", "AnswerView"], str], str, str]] = {
    "markdown": (_markdown, "text/markdown", "md"),
    "json": (_json, "application/json", "json"),
    "svg": (_svg, "image/svg+xml", "svg"),
    "csv": (_csv, "text/csv", "csv"),
    "html": (_html, "text/html", "html"),
    "command": (_command, "text/plain", "sh"),
}

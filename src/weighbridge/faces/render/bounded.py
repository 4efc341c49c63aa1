"""The complete answer within a limit of characters: clients cut longer ones, or refuse them.

A report that is too long loses its least needed parts, and lists them in `left_out`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.wording import safe_json
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Fit, question_of

MOST = 40_000  # most characters, some 13,000 tokens; Claude Code shows 25,000 (docs/agents.md)
Body = dict[str, Any]


def as_markdown(answer: Report | Fit, line: str = "") -> str:
    """Return all components by phase and device as Markdown tables, cut after MOST characters.
    `line` is the command for the answer, "" without one."""
    look = RenderOptions(details=True)
    text = render(answer, "markdown", look)
    if len(text) <= MOST:
        return text
    first = text[: text.rfind("\n", 0, MOST)]
    shown = f"{first.count(chr(10)) + 1:,} of {text.count(chr(10)):,} lines"
    where = f"; `{line} --details` in a shell prints all" if line else ""
    return f"{first}\n\n(cut here: {shown}{where})"


def as_json(answer: Report | Fit, line: str = "") -> str:
    """Return the JSON report (docs/report.md), or as much as fits into MOST characters, with the
    command that prints all of it. `line` is the command for the answer, "" without one."""
    whole = {"whole": f"{line} --json"} if line else {}
    left: list[str] = []
    body = answer.to_dict()
    text = dumped(body)
    for name, without in LIGHTER:
        if len(text) <= MOST:
            return text
        lighter = without(body)
        if lighter != body:
            left.append(name)
            body = {**lighter, "left_out": left, **whole}
            text = dumped(body)
    return text


def dumped(body: Any) -> str:
    return safe_json(json.dumps(body, ensure_ascii=False, separators=(",", ":")))


def _change_reports(body: Body, change: Callable[[Body], Body]) -> Body:
    """Return an answer with `change` applied to its report, or to the reports of its questions."""
    if "questions" not in body:
        return change(body)
    questions = [{**q, "report": q["report"] and change(q["report"])} for q in body["questions"]]
    return {**body, "questions": questions}


def _with_one_report(body: Body) -> Body:
    """Return an answer of `fit` with the report of only the question it is about, and all
    verdicts."""
    if "questions" not in body:
        return body
    about = question_of(body["for"])
    rows = [
        q if (q["task"], q["method"]) == about else {**q, "report": None} for q in body["questions"]
    ]
    return {**body, "questions": rows}


def _with_fullest_device(body: Body) -> Body:
    """Return an answer whose reports have only their fullest accelerator, and the host."""

    def change(report: Body) -> Body:
        gpus = [d for d in report["devices"] if d["kind"] == "gpu"]
        first = max(gpus, key=lambda d: d["peak"]["driver"]["expected"], default=None)
        devices = [d for d in report["devices"] if d["kind"] != "gpu" or d is first]
        return {**report, "devices": devices}

    return _change_reports(body, change)


def _with_peak_phases(body: Body) -> Body:
    """Return an answer whose reports have only the phase of each device's peak."""

    def change(report: Body) -> Body:
        return {
            **report,
            "devices": [
                ({**d, "phases": [p for p in d["phases"] if p["name"] == d["peak_phase"]]})
                for d in report["devices"]
            ],
        }

    return _change_reports(body, change)


def _without_formulas(body: Body) -> Body:
    """Return an answer whose components have no arithmetic and no sources."""

    def change(report: Body) -> Body:
        return {**report, "devices": [_device_without_formulas(d) for d in report["devices"]]}

    return _change_reports(body, change)


def _device_without_formulas(device: Body) -> Body:
    phases = [{**p, "components": [*_short_components(p["components"])]} for p in device["phases"]]
    return {**device, "phases": phases}


def _short_components(components: list[Mapping[str, Any]]) -> Iterator[Body]:
    for c in components:
        yield {name: value for name, value in c.items() if name not in ("formula", "source")}


def _without_devices(body: Body) -> Body:
    return _change_reports(body, lambda report: {**report, "devices": [], "table": []})


LIGHTER: tuple[tuple[str, Callable[[Body], Body]], ...] = (
    ("reports of the other questions", _with_one_report),
    ("accelerators that hold less or as much", _with_fullest_device),
    ("phases below the peak", _with_peak_phases),
    ("arithmetic and sources of components", _without_formulas),
    ("devices and formats", _without_devices),
)

"""A request in; report, screen and text out: what one process of the server does, without gradio.

    {"task": "infer", "model": ..., "workload": {...}, "view": {"lang": "zh"}, "token": "hf_..."}
    -> {"report": {...}, "html": "...", "markdown": "...", "command": "...", "draft": {...}}
    {..., "short": true} -> the report within 40,000 characters, for agents (agents.whole)
    {"task": "post", "draft": {...}, "token": "hf_..."} -> {"posted": {"url", "already"}}

or {"error": {"code", "message"}}. Without a view the answer is the report itself, as `weighbridge
run` gives it. A token is used for one answer: what was read with it is in no cache, while models
and files that were read without one are kept for the next who asks.
"""

import json
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from weighbridge.errors import UsageError
from weighbridge.questions.requests import Requests, settled
from weighbridge.web.asks import AnswerView, masked, taken_token, view_of
from weighbridge.web.screens import screen_of
from weighbridge.web.space import discussion
from weighbridge.web.space.admission import admit

if TYPE_CHECKING:
    from weighbridge.report import Report
    from weighbridge.report.fit import Fit
    from weighbridge.view.records import Screen

TABLES = ("gpus", "models")
MANY = 512  # rows of a list, for agents


class SpaceDesk:
    """Answers one request after the other, for strangers."""

    def __init__(self, *, cache_dir: str) -> None:
        self._open = Requests(cache_dir=cache_dir, ours=False)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What was asked, or the error that takes its place; never with the token in it."""
        token = request.get("token")
        found = settled(lambda: self._answer(request, taken_token(request)))
        told: dict[str, Any] = masked(found, token if isinstance(token, str) else None)
        return told

    def _answer(self, asked: dict[str, Any], token: str | None) -> dict[str, Any]:
        given = asked.pop("view", None)
        view = None if given is None else view_of(given)
        if asked.get("task") == "post":
            return _posted(asked, token)
        admit(asked)
        how = AnswerForm(view, asked.pop("short", None) is True, token)
        if asked.get("task") in TABLES:
            return _table(asked, how)
        if token is None:
            return _told(self._open, asked, how)
        with TemporaryDirectory() as folder:
            return _told(Requests(cache_dir=folder, ours=False), asked, how)


class AnswerForm(NamedTuple):
    """What an answer is to be."""

    view: AnswerView | None
    short: bool
    token: str | None


def _told(requests: Requests, asked: dict[str, Any], how: AnswerForm) -> dict[str, Any]:
    """The report, and where a view is asked for, what people see of it."""
    from weighbridge.view.shown import ShownPage
    from weighbridge.web.command import command

    found, view = requests.report(asked, how.token), how.view
    if view is None:
        return _within(found, command(asked, AnswerView())) if how.short else found.to_dict()
    page = ShownPage(sought=asked.get("remedies") is not False)
    told = _seen(screen_of(found, view, page), view)
    told |= {"report": found.to_dict(), "command": command(asked, view)}
    return told | {"draft": _draft(found, told["markdown"])}


def _within(found: "Report | Fit", line: str) -> dict[str, Any]:
    from weighbridge.agents.whole import as_json

    told: dict[str, Any] = json.loads(as_json(found, line))
    return told


def _seen(screen: "Screen", view: AnswerView) -> dict[str, Any]:
    from weighbridge.render import RenderOptions
    from weighbridge.render.html import part
    from weighbridge.render.markdown import markdown

    look = RenderOptions(view.unit, view.details, view.explain, view.lang)
    return {"html": part(screen), "markdown": markdown(screen, look)}


def _draft(found: "Report | Fit", text: str) -> dict[str, str] | None:
    """The discussion that this answer would be; None where it is of no revision of the Hub's."""
    model = found.model
    if model.revision is None:
        return None
    return discussion.draft(model.name, model.revision, text)._asdict()


def _table(asked: Mapping[str, Any], how: AnswerForm) -> dict[str, Any]:
    from weighbridge.web.tables import answered

    report, screen = answered(asked, how.view or AnswerView())
    if how.view is None:
        return _few(report) if how.short else report
    return {"report": report, **_seen(screen, how.view)}


def _few(report: dict[str, Any]) -> dict[str, Any]:
    """The first rows of each list, and how many were left out."""
    from weighbridge.agents.whole import MOST, dumped

    told, most = report, MANY
    while len(dumped(told)) > MOST:
        most //= 2
        lists = {name: value for name, value in report.items() if isinstance(value, list)}
        told = {**report, **{name: rows[:most] for name, rows in lists.items()}}
        told["left_out"] = {n: len(rows) - most for n, rows in lists.items() if len(rows) > most}
    return told


def _posted(asked: Mapping[str, Any], token: str | None) -> dict[str, Any]:
    given = asked.get("draft")
    if not isinstance(given, Mapping) or given.keys() != set(discussion.Draft._fields):
        raise UsageError("there is nothing to post: ask for a preview first")
    if token is None:
        raise UsageError("a discussion is posted with your own token: give one that may write")
    return {"posted": discussion.post(discussion.Draft(**given), token)._asdict()}

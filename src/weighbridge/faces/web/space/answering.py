"""A request in; report, screen and text out: what one process of the server does, without gradio.

    {"task": "infer", "model": ..., "workload": {...}, "view": {"lang": "zh"}, "token": "hf_..."}
    -> {"report": {...}, "html": "...", "markdown": "...", "command": "...", "draft": {...}}
    {..., "short": true} -> the report within 40,000 characters, for agents (render.bounded)
    {"task": "post", "draft": {...}, "token": "hf_..."} -> {"posted": {"url", "already"}}

or {"error": {"code", "message"}}. Without a view the answer is the report itself, as `weighbridge
run` gives it. A token is used for one answer: what was read with it is in no cache, while models
and files that were read without one are kept for the next who asks.
"""

import json
import re
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.requests import Requests, settled
from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.faces.web.asks import AnswerView, masked, taken_token, view_of
from weighbridge.faces.web.space import discussion
from weighbridge.models.sources.reference import CatalogueRef, HubRef, SizeRef, TimmRef

if TYPE_CHECKING:
    from weighbridge.faces.view.records import Screen
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit

TABLES = ("gpus", "models")
MANY = 512  # rows of a list, for agents
NAMED = ("draft_model", "mmproj")  # settings that are references themselves
OWN = ("gpu", "ram")  # settings that may mean what is here
CARDS = ("gpu", "gpu_memory", "smallest")  # without one, fit looks at what is here
NO_FILES = (
    "this server reads no paths and no addresses: name a model of the catalogue, a repository of "
    "the Hub (ORG/NAME or its page), or send its config"
)


class SpaceDesk:
    """Answers one request after the other, for strangers."""

    def __init__(self, *, cache_dir: str) -> None:
        self._open = Requests(cache_dir=cache_dir, ours=False)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer, or the error that takes its place; never with the token in it."""
        token = request.get("token")
        settled_answer = settled(lambda: self._answer(request, taken_token(request)))
        hidden: dict[str, Any] = masked(settled_answer, token if isinstance(token, str) else None)
        return hidden

    def _answer(self, request: dict[str, Any], token: str | None) -> dict[str, Any]:
        view_given = request.pop("view", None)
        view = None if view_given is None else view_of(view_given)
        if request.get("task") == "post":
            return _posted(request, token)
        admit(request)
        form = AnswerForm(view, request.pop("short", None) is True, token)
        if request.get("task") in TABLES:
            return _table(request, form)
        if token is None:
            return _told(self._open, request, form)
        with TemporaryDirectory() as folder:
            return _told(Requests(cache_dir=folder, ours=False), request, form)


class AnswerForm(NamedTuple):
    """The form that an answer is to have."""

    view: AnswerView | None
    short: bool
    token: str | None


def _told(requests: Requests, request: dict[str, Any], form: AnswerForm) -> dict[str, Any]:
    """The report, and where a view is asked for, what people see of it."""
    from weighbridge.faces.render import screen_of
    from weighbridge.faces.view.shown import ShownPage
    from weighbridge.faces.web.command import command

    answer, view = requests.report(request, form.token), form.view
    if view is None:
        return _within(answer, command(request, AnswerView())) if form.short else answer.to_dict()
    page = ShownPage(sought=request.get("remedies") is not False)
    shown = _seen(screen_of(answer, view.look, page), view)
    shown["html"] = _picture(answer, view) + shown["html"]
    shown |= {"report": answer.to_dict(), "command": command(request, view)}
    return shown | {"draft": _draft(answer, shown["markdown"])}


def _within(answer: "Report | Fit", line: str) -> dict[str, Any]:
    from weighbridge.faces.render.bounded import as_json

    body: dict[str, Any] = json.loads(as_json(answer, line))
    return body


def _seen(screen: "Screen", view: AnswerView) -> dict[str, Any]:
    from weighbridge.faces.render.html import part
    from weighbridge.faces.render.markdown import markdown

    return {"html": part(screen), "markdown": markdown(screen, view.look)}


def _picture(answer: "Report | Fit", view: AnswerView) -> str:
    """Draw the questions of `fit` to scale; every other answer has a bar of its own."""
    from weighbridge.faces.web.exports import svg
    from weighbridge.memory.report.fit import Fit

    return f'<div class="picture">{svg([answer], view)}</div>' if isinstance(answer, Fit) else ""


def _draft(answer: "Report | Fit", text: str) -> dict[str, str] | None:
    """The discussion that this answer would be; None where it is of no revision of the Hub's."""
    model = answer.model
    if model.revision is None:
        return None
    return discussion.draft(model.name, model.revision, text)._asdict()


def _table(request: Mapping[str, Any], form: AnswerForm) -> dict[str, Any]:
    from weighbridge.faces.web.tables import answered

    report, screen = answered(request, form.view or AnswerView())
    if form.view is None:
        return _few(report) if form.short else report
    return {"report": report, **_seen(screen, form.view)}


def _few(report: dict[str, Any]) -> dict[str, Any]:
    """The first rows of each list, and how many were left out."""
    from weighbridge.faces.render.bounded import MOST, dumped

    shortened, most = report, MANY
    while len(dumped(shortened)) > MOST:
        most //= 2
        lists = {name: value for name, value in report.items() if isinstance(value, list)}
        shortened = {**report, **{name: rows[:most] for name, rows in lists.items()}}
        shortened["left_out"] = {
            n: len(rows) - most for n, rows in lists.items() if len(rows) > most
        }
    return shortened


def _posted(request: Mapping[str, Any], token: str | None) -> dict[str, Any]:
    draft = request.get("draft")
    if not isinstance(draft, Mapping) or draft.keys() != set(discussion.Draft._fields):
        raise UsageError(sentence("post.nothing"))
    if token is None:
        raise UsageError(sentence("post.token"))
    return {"posted": discussion.post(discussion.Draft(**draft), token)._asdict()}


# What a stranger may ask of this server: nothing that reads its own disk, network or hardware.
# References are read by the same grammar as everywhere (models.sources.reference), told that
# no path exists: what is left is a name of the catalogue, a repository of the Hub, a size, or
# refused. "llama-3.1-8b", "org/name@rev", "https://huggingface.co/org/name" and "7B" pass;
# "/etc/passwd", "../x", "file:///x" and "http://169.254.169.254/x.json" do not


def admit(request: Mapping[str, Any]) -> None:
    """Raises UsageError for what only the owner of a machine may ask of it."""
    model, workload = request.get("model"), request.get("workload")
    if isinstance(model, str):
        reference(model)
    workload = workload if isinstance(workload, Mapping) else {}
    if request.get("task") == "fit" and not any(workload.get(name) for name in CARDS):
        raise UsageError(sentence("fit_card"))
    for name in NAMED:
        if isinstance(workload.get(name), str):
            reference(workload[name])
    if isinstance(workload.get("command"), str):
        _command(workload["command"])
    for name in OWN:
        _not_local(name, workload.get(name))
    if workload.get("exact"):
        raise UsageError(sentence("space.exact"))


def reference(text: str) -> None:
    """Raises UsageError where `text` is neither of the catalogue nor of the configured Hub."""
    from weighbridge.models.checkpoint.gather import has_name
    from weighbridge.models.sources import endpoint

    try:
        parsed = _parsed(text, has_name, endpoint())
    except NotFoundError:  # of a path, which was not looked for
        parsed = None
    own_hub = not isinstance(parsed, HubRef) or parsed.endpoint is None
    if not isinstance(parsed, CatalogueRef | HubRef | SizeRef | TimmRef) or not own_hub:
        raise UsageError(f"{shown(text)}: {NO_FILES}")


def _parsed(text: str, catalogue: Any, endpoint: str) -> object:
    from weighbridge.models.sources.reference import parse

    return parse(text, exists=lambda path: False, catalogue=catalogue, endpoint=endpoint)


def _command(command: str) -> None:
    """The models that a launch command names."""
    from weighbridge.engines.launch import parse
    from weighbridge.engines.launch.paths import model_of

    launched = parse(command)
    named = (
        model_of(launched.model) or launched.model,
        *(launched.settings.get(name) for name in NAMED),
    )
    for text in named:
        if isinstance(text, str):
            reference(text)


def _not_local(name: str, value: Any) -> None:
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str) and re.search(r"\blocal\b", text.lower()):
            raise UsageError(sentence("space.local", name=name))

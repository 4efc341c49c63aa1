"""The work of one process of the server, without gradio: a request in, an answer out.

    {"run": {"task": "infer", "model": ..., "workload": {...}}, "token": "hf_..."}
    -> the report, as `weighbridge run` gives it
    {"run": {...}, "short": true} -> the report within 40,000 characters, for agents
    {"page": {"task": "infer", ...}, "token": ...} -> what the page is answered (protocol.py)
    {"page": {"task": "draft", "of": {...}}} -> {"draft": {...}}, a discussion before it is posted
    {"page": {"task": "post", "draft": {...}}, "token": ...} -> {"posted": {"url", "already"}}

or {"error": {"code", "message"}}. A token is used for one answer: what was read with it is not
cached, while models and files that were read without one are kept for later requests.
"""

import json
import re
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.requests import Requests, settled
from weighbridge.base.errors import NoCardError, NotFoundError, UsageError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.faces.web.asks import AnswerView, masked, requests_in, taken_token, view_of
from weighbridge.faces.web.protocol import AskDesk, mistake
from weighbridge.faces.web.space import discussion
from weighbridge.models.sources.reference import CatalogueRef, HubRef, SizeRef, TimmRef

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit

TABLES = ("gpus", "models")
MANY = 512  # rows of a list for agents, halved until the answer is short enough
NAMED = ("draft_model", "mmproj")  # settings whose values are model references
OWN = ("gpu", "ram")  # settings whose value `local` means this machine
CARDS = (
    "gpu",
    "gpu_memory",
    "smallest",
)  # without one of these, `fit` looks for this machine's card
NO_FILES = (
    "this server reads no paths and no addresses: name a model of the catalogue, a repository of "
    "the Hub (ORG/NAME or its page), or send its config"
)


class SpaceDesk:
    """An answerer of requests from strangers, one after the other."""

    def __init__(self, *, cache_dir: str) -> None:
        self._open = _Answerers(cache_dir)

    def answer(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a line, or the error in its place; the token is masked in it."""
        token = line.get("token")
        settled_answer = settled(lambda: self._answer(line, taken_token(line)))
        hidden: dict[str, Any] = masked(settled_answer, token if isinstance(token, str) else None)
        return hidden

    def _answer(self, line: dict[str, Any], token: str | None) -> dict[str, Any]:
        if token is None:
            return self._open.answer(line, None)
        with TemporaryDirectory() as folder:
            return _Answerers(folder).answer(line, token)


class _Answerers:
    """An answerer of programs and of the page that keeps the models they name."""

    def __init__(self, cache_dir: str) -> None:
        self._requests = Requests(cache_dir=cache_dir, ours=False)
        self._desk = AskDesk(cache_dir=cache_dir, ours=False)

    def answer(self, line: dict[str, Any], token: str | None) -> dict[str, Any]:
        """Return the answer to a program or to the page. Raises WeighbridgeError for a request that
        fails."""
        if "page" in line:
            return self._answer_page(line["page"], token)
        request, short = line["run"], line.get("short") is True
        admit(request)
        if request.get("task") in TABLES:
            return _table(request, short=short)
        answer = self._requests.report(request, token)
        return _shortened_report(answer, request) if short else answer.to_dict()

    def _answer_page(self, ask: dict[str, Any], token: str | None) -> dict[str, Any]:
        """Return the answer to an ask of the page, or the error with the page's labels."""
        asked = {**ask}
        try:
            if ask.get("task") == "post":
                return _post(ask, token)
            for request in requests_in(ask):
                admit(request)
            if ask.get("task") == "draft":
                return {"draft": self._draft(ask.get("of"), token)}
        except WeighbridgeError as error:
            return mistake(error, asked)
        return self._desk.answer(json.dumps({**ask, "token": token}))

    def _draft(self, of: Any, token: str | None) -> dict[str, str]:
        """Return the answer to a request as a discussion to post. Raises UsageError if its model
        was not read at a revision of the Hub."""
        from weighbridge.faces.render import draw, screen_of

        request = {**of} if isinstance(of, dict) else {}
        look = view_of(request.pop("view", None)).look
        answer = self._requests.report(request, token)
        text = draw(screen_of(answer, look), "markdown", look)
        return discussion.draft(answer.model.name, answer.model.revision or "", text)._asdict()


def _shortened_report(answer: "Report | Fit", request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report as JSON short enough for an agent, with the command that prints all of it."""
    from weighbridge.faces.render.bounded import as_json
    from weighbridge.faces.web.command import command

    body: dict[str, Any] = json.loads(as_json(answer, command(request, AnswerView())))
    return body


def _table(request: Mapping[str, Any], *, short: bool) -> dict[str, Any]:
    from weighbridge.faces.web.tables import answered

    report, _ = answered(request, AnswerView())
    return _shortened_lists(report) if short else report


def _shortened_lists(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report with the first rows of each list, and under `left_out` the number of rows
    left out."""
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


def _post(request: Mapping[str, Any], token: str | None) -> dict[str, Any]:
    draft = request.get("draft")
    if not isinstance(draft, Mapping) or draft.keys() != set(discussion.Draft._fields):
        raise UsageError(sentence("post.nothing"))
    if token is None:
        raise UsageError(sentence("post.token"))
    return {"posted": discussion.post(discussion.Draft(**draft), token)._asdict()}


# What a stranger may ask of this server: nothing that reads its own disk, network or hardware.
# References are read by the same grammar as everywhere (models.sources.reference), but no path
# exists for it: what is left is a name of the catalogue, a repository of the Hub, a size, or
# refused. "llama-3.1-8b", "org/name@rev", "https://huggingface.co/org/name" and "7B" pass;
# "/etc/passwd", "../x", "file:///x" and "http://169.254.169.254/x.json" do not


def admit(request: Mapping[str, Any]) -> None:
    """Check that a stranger may make a request; raise UsageError if only the owner of this machine
    may, NoCardError for `fit` without a card."""
    model, workload = request.get("model"), request.get("workload")
    if isinstance(model, str):
        reference(model)
    workload = workload if isinstance(workload, Mapping) else {}
    if request.get("task") == "fit" and not any(workload.get(name) for name in CARDS):
        raise NoCardError(sentence("fit_card"))
    for name in NAMED:
        if isinstance(workload.get(name), str):
            reference(workload[name])
    if isinstance(workload.get("command"), str):
        _check_command(workload["command"])
    for name in OWN:
        _refuse_local(name, workload.get(name))
    if workload.get("exact"):
        raise UsageError(sentence("space.exact"))


def reference(text: str) -> None:
    """Check that `text` names a model of the catalogue, the configured Hub or timm, or a size;
    raise UsageError if not."""
    from weighbridge.models.checkpoint.gather import has_name
    from weighbridge.models.sources import endpoint

    try:
        parsed = _parse_reference(text, has_name, endpoint())
    except NotFoundError:  # raised for a path, which was not looked for
        parsed = None
    own_hub = not isinstance(parsed, HubRef) or parsed.endpoint is None
    if not isinstance(parsed, CatalogueRef | HubRef | SizeRef | TimmRef) or not own_hub:
        raise UsageError(f"{shown(text)}: {NO_FILES}")


def _parse_reference(text: str, catalogue: Any, endpoint: str) -> object:
    from weighbridge.models.sources.reference import parse

    return parse(text, exists=lambda path: False, catalogue=catalogue, endpoint=endpoint)


def _check_command(command: str) -> None:
    """Check that `reference` accepts the models of a launch command; raise UsageError if not."""
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


def _refuse_local(name: str, value: Any) -> None:
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str) and re.search(r"\blocal\b", text.lower()):
            raise UsageError(sentence("space.local", name=name))

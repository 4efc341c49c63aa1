"""The protocol of the page: one JSON object in (an ask), one out (its answer).

    {"task": "infer", "model": "llama-3.1-8b", "workload": {...}, "view": {...}, "token": "hf_..."}
    -> {"report": <what `weighbridge run` prints>, "screen": {...}, "command": "weighbridge ..."}
    or {"error": {"code": 2, "message": "..."}}, or {"need": {"bytes": 1048576}} of a dropped file

If the view asks for `parts`, partial answers come first, as {"part": <an answer>}: each replaces
the one before it, and the answer replaces the last.

`docs/web.md` lists the tasks. A token is used for one ask: nothing here holds it, and no answer
repeats it.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.requests import (
    BESIDE,
    Requests,
    failed,
    parsed,
    refused,
    settled,
)
from weighbridge.base.errors import NoCardError, UsageError, WeighbridgeError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.watching import heard
from weighbridge.base.wording import one_line, shown
from weighbridge.base.words import LANGUAGES, words_in
from weighbridge.faces.render import screen_of
from weighbridge.faces.view.shown import ShownPage
from weighbridge.faces.web.asks import masked, taken_token, view_of
from weighbridge.faces.web.command import command
from weighbridge.faces.web.dropped import Dropped, ShortError, asks_of
from weighbridge.faces.web.screens import as_json, prices
from weighbridge.models.formats.gguf import MAX_READ
from weighbridge.workload import TABLES, named_task

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit

Tell = Callable[[dict[str, Any]], None]
MOST = MAX_READ * 4 // 3 + (1 << 16)  # most bytes of an ask, for a dropped header in base64
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
BETWEEN = re.compile(r"(?<=[\u4e00-\u9fff)]) (?=[\u4e00-\u9fff])")
NO_CARD = ("card_near", "card_far", "card_host")


class One(NamedTuple):
    """A request and its answer; `file` is the key of a dropped file, None without one."""

    request: dict[str, Any]
    found: "Report | Fit"
    file: str | None = None  # the key of a dropped file


class AskDesk:
    """An answerer of asks, one after another. If `ours` is False (strangers ask), it reads no files
    of this machine and no addresses but the Hub's."""

    def __init__(
        self, *, cache_dir: str | None = None, offline: bool = False, ours: bool = True
    ) -> None:
        self._requests = Requests(cache_dir=cache_dir, offline=offline, ours=ours)
        self._dropped = Dropped()
        self._tasks: Mapping[str, Callable[[dict[str, Any], str | None], dict[str, Any]]] = {
            "compare": self._answer_comparison,
            "oom": self._answer_oom,
            "export": self._answer_export,
            "form": _form,
            "asks": _asks,
            **dict.fromkeys(("gpus", "models", "accuracy"), _table),
        }

    def answer(self, line: str | bytes, tell: Tell | None = None) -> dict[str, Any]:
        """Return the answer to an ask, or the error in its place. If the ask wants parts, `tell` is
        called with each of them first."""
        try:
            ask = parsed(line, MOST)
            token = taken_token(ask)
        except WeighbridgeError as error:
            return failed(str(error), error.code)
        asked = {**ask}

        def part(known: dict[str, Any]) -> None:
            if tell is not None:
                tell({"part": masked(known, token)})

        def caught() -> dict[str, Any]:
            return self._answer_or_error(ask, asked, token, part if tell else None)

        reply: dict[str, Any] = masked(settled(caught), token)
        return reply

    def _answer_or_error(
        self, ask: dict[str, Any], asked: Mapping[str, Any], token: str | None, tell: Tell | None
    ) -> dict[str, Any]:
        """Return the answer to an ask, or the error with the labels of the page."""
        try:
            return self._dispatched(ask, token, tell)
        except WeighbridgeError as error:
            return mistake(error, asked)

    def _dispatched(
        self, ask: dict[str, Any], token: str | None, tell: Tell | None
    ) -> dict[str, Any]:
        task = named_task(ask.get("task"))
        if not isinstance(task, str) or task not in (*BESIDE, *self._tasks):
            known = ", ".join((*BESIDE, *self._tasks))
            raise UsageError(sentence("task.unknown", task=shown(task), known=known))
        try:
            if task in BESIDE:
                return self._answered(ask, token, tell)
            return self._tasks[task](ask, token)
        except ShortError as short:
            return {"need": {"bytes": short.nbytes}}

    def _answered(
        self, ask: dict[str, Any], token: str | None, tell: Tell | None
    ) -> dict[str, Any]:
        view = view_of(ask.pop("view", None))
        sought = ask.get("remedies") is not False

        def body_of(answer: "Report | Fit", *, least: bool = False) -> dict[str, Any]:
            page = ShownPage(sought=sought, least=least)
            return {
                "report": answer.to_dict(),
                "screen": as_json(screen_of(answer, view.look, page)),
                "command": command(ask, view),
                **({"prices": costs} if (costs := prices(answer, view.lang)) else {}),
            }

        def part(answer: "Report | Fit", *, least: bool = False) -> None:
            if tell is not None:
                tell(body_of(answer, least=least))

        with heard(part if tell and view.parts else None):
            answered = self._answer_request(ask, token)
        body = body_of(answered.found)
        if answered.file is not None:
            body["file"] = answered.file
        if view.svg:
            from weighbridge.faces.web.exports import svg

            body["svg"] = svg([answered.found], view)
        return body

    def _answer_request(self, request: dict[str, Any], token: str | None) -> One:
        """Return the answer to one request; a dropped file may be its model."""
        model, key = request.get("model"), None
        if isinstance(model, dict) and "file" in model:
            prepared, key = self._dropped.prepared(model["file"])
            return One(request, self._requests.report({**request, "model": prepared}, token), key)
        return One(request, self._requests.report(request, token), key)

    def _answer_comparison(self, ask: dict[str, Any], token: str | None) -> dict[str, Any]:
        from weighbridge.faces.web.screens import asks_in, beside

        view = view_of(ask.pop("view", None))
        asked = asks_in(ask)
        answers = [self._or_error(request, token) for request in asked]
        return beside(answers, view)

    def _or_error(self, request: dict[str, Any], token: str | None) -> "One | WeighbridgeError":
        try:
            return self._answer_request(request, token)
        except WeighbridgeError as error:
            return error

    def _answer_oom(self, ask: dict[str, Any], token: str | None) -> dict[str, Any]:
        """Return why memory ran out, from a message or a log, and what to change, as `report` and
        `screen`."""
        from weighbridge.faces.texts.oom import view as screen
        from weighbridge.files.oom import explained

        view, log, workload = view_of(ask.get("view")), ask.get("log"), ask.get("workload") or {}
        if not isinstance(log, str):
            raise UsageError(sentence("oom.log", value=shown(log)))
        if not isinstance(workload, dict):
            raise UsageError(sentence("oom.workload", value=shown(workload)))
        model = ask.get("model")
        oom = explained(log, partial(self._model, model, token) if model else None, workload)
        return {"report": oom.to_dict(), "screen": as_json(screen(oom, view.look))}

    def _model(self, model: Any, token: str | None) -> "Prepared":
        if isinstance(model, dict) and "file" in model:
            return self._dropped.prepared(model["file"])[0]
        return self._requests.model(model, token)

    def _answer_export(self, ask: dict[str, Any], token: str | None) -> dict[str, Any]:
        from weighbridge.faces.web.exports import export
        from weighbridge.faces.web.screens import asks_in

        of = ask.get("of")
        if not isinstance(of, dict):
            raise UsageError(sentence("export.of"))
        view = view_of(of.pop("view", None) or ask.get("view"))
        asked = asks_in(of) if of.get("task") == "compare" else [of]
        return export(ask.get("form"), [self._answer_request(one, token) for one in asked], view)


def _form(ask: dict[str, Any], token: str | None) -> dict[str, Any]:
    from weighbridge.faces.web.form import form

    return form(view_of(ask.get("view")).lang)


def _asks(ask: dict[str, Any], token: str | None) -> dict[str, Any]:
    asks = asks_of(ask.get("file"))
    return {"asks": asks.asks, "notes": list(asks.notes)}


def _table(ask: dict[str, Any], token: str | None) -> dict[str, Any]:
    from weighbridge.faces.web.tables import table

    return table(ask, view_of(ask.get("view")))


# Errors for the page: settings by their labels, and no commands of a terminal


def mistake(error: WeighbridgeError, ask: Mapping[str, Any]) -> dict[str, Any]:
    """Return the error that takes the place of an answer. `setting` is the setting it is about,
    `wants` one that the user has yet to set."""
    lang = _lang(ask)
    words = words_in(lang, "page")
    if isinstance(error, NoCardError):
        reply = failed(words("gpu.wanted"), error.code)
        return {"error": {**reply["error"], "wants": "gpu"}}
    names = _names_by_flag(ask)
    flag = "--gpu" if error.key in NO_CARD else error.flag
    about = {"setting": names[flag]} if flag in names else {}
    message = one_line(words_in(lang, "errors", page=True).told(error.sentence))
    task = str(ask.get("task"))
    labelled = FLAG.sub(lambda m: _label(names.get(m[0]), task, lang) or m[0], message)
    labelled = BETWEEN.sub("", labelled)  # Chinese has no blanks between words
    return {"error": {**refused(error)["error"], **failed(labelled, error.code)["error"], **about}}


def _lang(ask: Mapping[str, Any]) -> str:
    view = ask.get("view")
    lang = view.get("lang") if isinstance(view, dict) else None
    return lang if isinstance(lang, str) and lang in LANGUAGES else LANGUAGES[0]


def _names_by_flag(ask: Mapping[str, Any]) -> dict[str, str]:
    """Return flag -> setting name for the ask's task; empty for a pasted launch command, whose
    flags are the engine's."""
    task, workload = ask.get("task"), ask.get("workload")
    if not isinstance(task, str) or task not in TABLES:
        return {}
    if isinstance(workload, dict) and workload.get("command"):
        return {}
    return {f"--{name.replace('_', '-')}": name for name in TABLES[task]}


def _label(name: str | None, task: str, lang: str) -> str:
    from weighbridge.faces.web.form import label  # imported here, since it reads all catalogues

    return label(TABLES[task][name], lang) if name else ""

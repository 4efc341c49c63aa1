"""The tool `fit` with an out-of-memory message or log in place of a question."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from weighbridge.answers.questions.fit.request import ABOUT
from weighbridge.answers.questions.prepared import opened
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import one_line, printable
from weighbridge.faces.agents.brief import numbers_told, text
from weighbridge.faces.render import draw
from weighbridge.faces.render.bounded import MOST, dumped
from weighbridge.faces.texts.oom import view
from weighbridge.faces.view.records import Headline, RenderOptions
from weighbridge.files.oom import Oom, explained
from weighbridge.memory.report.fit import question_of
from weighbridge.models.checkpoint.gather import GatherOptions

ARGUMENT = "explain_oom"
NOT_OURS = ("max", "smallest")  # arguments of `fit` that search a card or a setting
CHANGES = 3


def explain(arguments: Mapping[str, Any], model: Any, options: GatherOptions) -> Oom:
    """Return why memory ran out, from the message in `arguments`. Raises UsageError for arguments
    that search a card or a setting, or a message that is not text."""
    wrong = next((name for name in NOT_OURS if name in arguments), None)
    if wrong is not None:
        raise UsageError(sentence("agent.ended", name=ARGUMENT, wrong=wrong))
    settings = {name: value for name, value in arguments.items() if name not in (ARGUMENT, "for")}
    log = arguments[ARGUMENT]
    if not isinstance(log, str):
        raise UsageError(sentence("agent.log", name=ARGUMENT, kind=type(log).__name__))
    opening = None if model is None else partial(opened, model, options)
    return explained(log, opening, {**_task_setting(arguments.get("for")), **settings})


def _task_setting(about: str | None) -> dict[str, str]:
    """Return the task or the training method that the argument `for` names, as a setting; {} for
    None."""
    if about is None:
        return {}
    if about not in ABOUT:
        raise UsageError(sentence("choice", flag="for", known=", ".join(ABOUT), value=about))
    task, method = question_of(about)
    return {"task": task} if method is None else {"method": method}


def brief(oom: Oom) -> tuple[str, dict[str, Any]]:
    page = view(oom, RenderOptions())
    head = next(b for b in page.blocks if isinstance(b, Headline))
    body = oom.to_dict()
    sentence = "; ".join(filter(None, (head.figures, head.reason)))
    return text(page), numbers_told(
        {
            "answer": printable(one_line(f"{head.verdict}: {sentence}")),
            "cause": oom.cause,
            "sure": body["sure"],
            "causes": body["causes"],
            "parsed": {name: n for name, n in body["parsed"].items() if n is not None},
            "changes": [_change_numbers(change) for change in body["remedies"][:CHANGES]],
            "warnings": [one_line(line) for line in oom.warnings],
        }
    )


def _change_numbers(remedy: Mapping[str, Any]) -> dict[str, Any]:
    names = ("change", "fits", "peak_bytes", "cost")
    return {name: remedy[name] for name in names if remedy[name] is not None}


def whole(oom: Oom, form: str) -> str:
    """Return the full answer in Markdown or JSON; JSON leaves out its estimate if it would be
    longer than MOST."""
    if form != "json":
        look = RenderOptions(details=True, explain=True)
        return draw(view(oom, look), form, look)[:MOST]
    body = oom.to_dict()
    text = dumped(body)
    return text if len(text) <= MOST else dumped({**body, "estimate": None, "left_out": "estimate"})

"""The tool `weigh`: a run file, a command or an issue, as text in place of a model."""

from collections.abc import Mapping
from typing import Any

from weighbridge.answers.questions.prepared import opened
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import one_line, printable
from weighbridge.faces.agents.brief import numbers_told, text
from weighbridge.faces.render import draw
from weighbridge.faces.texts.runfile import view
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.patching import patched
from weighbridge.files.runfiles.weighing import WeighedFile, weighed
from weighbridge.models.checkpoint.gather import GatherOptions

TEXT, KIND, FIX = "text", "kind", "fix"
NAME = "the text"


def weigh(arguments: Mapping[str, Any], options: GatherOptions) -> WeighedFile:
    """Return the estimates of the runs that a text starts. Raises UsageError if the text is of no
    known kind."""
    typed = {name: value for name, value in arguments.items() if name not in (TEXT, KIND, FIX)}
    text, model = arguments.get(TEXT), typed.pop("model", None)
    if not isinstance(text, str):
        raise UsageError(sentence("agent.text", name=TEXT))
    try:
        file = read(text, NAME, arguments.get(KIND))
    except UsageError as error:  # the message must name the tool's argument, not the option
        if "option" not in error.values:
            raise
        line = sentence(error.key, **{**error.values, "option": KIND})
        raise UsageError(line, where=error.where) from None
    return weighed(file, lambda name, at: opened(name, options._replace(revision=at)), typed, model)


def brief(weighed: WeighedFile, *, fix: bool) -> tuple[str, dict[str, Any]]:
    """Return the answer as a few lines of text and as numbers; with `fix` also the diff that makes
    the file fit."""
    body = weighed.to_dict()
    runs = [_run_numbers(run) for run in body["runs"]]
    numbers: dict[str, Any] = {"kind": weighed.file.kind, "fits": weighed.fits, "runs": runs}
    lines = text(view(weighed))
    if fix:
        patch = patched(weighed)
        numbers["diff"] = None if patch is None else patch.diff
        lines += f"\n\n{_diff_text(numbers['diff'])}"
    numbers["warnings"] = [one_line(line) for line in weighed.warnings]
    return lines, numbers_told(numbers)


def whole(weighed: WeighedFile, form: str) -> str:
    """Return the full answer, in Markdown or as JSON."""
    from weighbridge.faces.render.bounded import dumped

    return dumped(weighed.to_dict()) if form == "json" else draw(view(weighed), "markdown")


def _diff_text(diff: str | None) -> str:
    if diff is None:
        return "No change was found that fits and that the file can say."
    return f"```diff\n{diff}```" if diff else "It fits as it is: nothing is changed."


def _run_numbers(run: Mapping[str, Any]) -> dict[str, Any]:
    report, error = run["report"], run["error"]
    verdict = None if report is None else report["verdict"]
    return {
        "task": run["task"],
        "name": run["name"],
        "model": run["model"],
        "settings": run["settings"],
        "not_understood": [f"line {u['line']}: {u['key']}" for u in run["not_understood"]],
        "peak_bytes": None if report is None else _peak(report),
        "fits": None if verdict is None else verdict["fits"],
        "error": None if error is None else printable(error["message"]),
    }


def _peak(report: Mapping[str, Any]) -> int:
    peaks = (d["peak"]["driver"]["expected"] for d in report["devices"] if d["kind"] == "gpu")
    return max(peaks, default=0)

"""--emit KIND: the question, or a run file, as a new file for another program."""

from collections.abc import Sequence
from typing import Any

import click

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.base.wording import printable, printable_lines
from weighbridge.faces.cli.options import (
    chart_file,
    exit_code,
    judges,
    look_of,
    output_form,
    source_of,
    talk,
    warn,
    writable,
)
from weighbridge.faces.cli.questions import cases
from weighbridge.workload import TABLES

KINDS = (
    "axolotl, llama-factory, trl, trainer, torchtune, torchtitan, deepspeed, accelerate, vllm, "
    "compose, k8s, modelfile"
)
emit_option = click.option(
    "--emit",
    metavar="KIND",
    help=f"Print it as a file of another program instead, which asks for the same: {KINDS}.",
)


def emit(
    kind: str, task: str | None, models: Sequence[str], settings: dict[str, Any], file: Any = None
) -> int:
    """Print a new file on stdout and what it takes on stderr, and return the exit code. `settings`:
    all options of the command; `file`: the text or the path of a run file, and its name."""
    from weighbridge.faces import api
    from weighbridge.faces.cli.progress import progress
    from weighbridge.files.runfiles.emitting import not_of, target

    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    look_of(settings, form)
    check = settings.pop("check")
    if form not in ("human", "quiet") or ("chart" in settings and chart_file(settings)):
        raise UsageError(sentence("emit.alone"))
    to = target(kind)
    if task not in (None, to.task):
        about = f"--emit {kind} is about {to.task}: weighbridge {to.task}"
        raise UsageError(not_of(kind, printable(str(file[1] or file[0]))) if file else about)
    judges(settings, check=check)
    source = source_of(settings)
    text, name = file or (None, None)
    of_text = {"file": text, "name": name, "file_kind": settings.pop("kind", None)}
    written = {n: value for n, value in settings.items() if _said(TABLES[to.task].get(n), value)}
    command = written.pop("command", None)
    if command:
        of_text = {"file": command, "name": "the command", "file_kind": "command"}
    typed = written.pop("model", None)
    alone = cases(() if file else models, written, TABLES[to.task])
    if len(alone) > 1:
        raise UsageError(sentence("emit.one", count=len(alone)))
    model = typed or alone[0].model
    with progress(model or name or "the model") as callback:
        emitted = api.emit(model, kind, progress=callback, **of_text, **source, **alone[0].settings)
    click.echo(writable(printable_lines(emitted.text)).rstrip("\n"))
    if form != "quiet":
        warn(emitted.report)
        if emitted.before is not None:
            itself = _otherwise(emitted.before, emitted.report, of_file=of_text["file"] is not None)
            talk(f"warning: {itself}")
        if emitted.weighs:
            talk(f"weigh it again with: {printable(emitted.weighs)}")
        talk(_answer(emitted.report, emitted.starts))
    return callback.code(exit_code(emitted.report, check=check))


def _said(setting: Any, value: Any) -> bool:
    """Return whether the user typed an option; `setting` is None for a plain switch."""
    return value not in (None, ()) and value is not (False if setting is None else setting.unset)


def _otherwise(before: Any, emitted: Any, *, of_file: bool) -> str:
    """Return a note on what the run takes as asked, if the new file's run takes something else."""
    if of_file:
        itself = f"the file that it is made of {_taken(before)}"
        return f"{itself}; the first lines say what differs"
    program = before.workload["framework"]
    if program == emitted.workload["framework"]:
        release = emitted.workload["framework_version"]
        return f"the newest {program} {_taken(before)}; the file is for {release}"
    return f"without --emit it is trained with {program}, and {_taken(before)}"


def _answer(report: Any, starts: str) -> str:
    """Return a line on what a file's run takes, and what starts it."""
    name = printable(report.model.reference)
    return f"{name} {_taken(report)}; start it with: {starts}"


def _taken(report: Any) -> str:
    """Return what a run takes, and whether it fits."""
    peak = f"takes about {human(report.peak.expected)} on each device"
    if report.verdict is not None:
        fits = {"yes": "it fits", "no": "it does not fit", "unknown": "too close to call"}
        peak += f": {fits[report.verdict.fits]}"
    return peak

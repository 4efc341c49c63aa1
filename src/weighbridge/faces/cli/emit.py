"""The option --emit KIND, which prints a question or a run file as a file for another program."""

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
    """Print a new file of `kind` on stdout and the memory its run takes on stderr; return the exit
    code. `settings`: all options of the command; `file`: the text or the path of a run file, and
    its name."""
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
    written = {
        n: value for n, value in settings.items() if _is_typed(TABLES[to.task].get(n), value)
    }
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
            itself = _difference_note(
                emitted.before, emitted.report, of_file=of_text["file"] is not None
            )
            talk(f"warning: {itself}")
        if emitted.weighs:
            talk(f"weigh it again with: {printable(emitted.weighs)}")
        talk(_answer_line(emitted.report, emitted.starts))
    return callback.code(exit_code(emitted.report, check=check))


def _is_typed(setting: Any, value: Any) -> bool:
    """Return whether the user typed an option; `setting` is None for a plain switch."""
    return value not in (None, ()) and value is not (False if setting is None else setting.unset)


def _difference_note(before: Any, emitted: Any, *, of_file: bool) -> str:
    """Return a note on the memory of the run before it was emitted, for a new file whose run takes
    another amount."""
    if of_file:
        itself = f"the file that it is made of {_memory_phrase(before)}"
        return f"{itself}; the first lines say what differs"
    program = before.workload["framework"]
    if program == emitted.workload["framework"]:
        release = emitted.workload["framework_version"]
        return f"the newest {program} {_memory_phrase(before)}; the file is for {release}"
    return f"without --emit it is trained with {program}, and {_memory_phrase(before)}"


def _answer_line(report: Any, starts: str) -> str:
    """Return a line with the memory that a file's run takes, its verdict, and the command that
    starts it."""
    name = printable(report.model.reference)
    return f"{name} {_memory_phrase(report)}; start it with: {starts}"


def _memory_phrase(report: Any) -> str:
    """Return a phrase with the peak bytes that a run takes on each device, and its verdict if it
    has one."""
    peak = f"takes about {human(report.peak.expected)} on each device"
    if report.verdict is not None:
        fits = {"yes": "it fits", "no": "it does not fit", "unknown": "too close to call"}
        peak += f": {fits[report.verdict.fits]}"
    return peak

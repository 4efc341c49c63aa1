"""Launch lines of engines, alone or in a shell script: `vllm serve`, `llama-server`, `docker run`.

Source: the tables of flags of each engine (weighbridge.engines.launch).
"""

import re
from collections.abc import Iterator

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.apart import apart
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.pieces import begins_with_a_command, is_command, only_commands
from weighbridge.files.runfiles.record import Kind, PlannedRun, Unread
from weighbridge.files.runfiles.serving.lines import at_once, of_text, stood_on
from weighbridge.files.runfiles.serving.start_logs import starts
from weighbridge.files.runfiles.training import arrays
from weighbridge.machines.accelerators.machines import MACHINE

ENDED = re.compile(r"(?m)(?:^|[;&|])[ \t]*(?:p?kill(?:all)?|docker (?:stop|rm|kill))\b|\bsrun\b")
SCRIPTS = (".sh", ".bash", ".bat", ".ps1", ".slurm", ".sbatch")
MOST = 64  # lines: a longer script counts as prose


def tells(document: Document) -> bool:
    """Return whether a document launches an engine and is short enough for a command. With the
    server's output in it, it is a log."""
    from weighbridge.engines.launch.programs import launched

    if document.text.count("\n") > MOST or starts(document):
        return False
    if not _is_script(document):
        if not begins_with_a_command(document.text):
            return False
        lines = document.text.splitlines()
        if any(map(_has_prose, lines)) or not only_commands(document.text):
            return False
    try:
        launched(document.text)
    except UnsupportedError:
        return True
    except UsageError as error:
        return error.key in ("command.many", "image_unknown")
    return True


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each launch line, with a note on variables that the script sets
    conditionally."""
    text = arrays.called(document.text)
    unsure = arrays.unsure(text)
    why = sentence("script.condition", names=", ".join(unsure))
    either = (Unread(key=unsure[0], line=0, why=why, lowers=True, raises=True),) if unsure else ()
    text = arrays.taken(text) if any(arrays.branches(text)) else text
    runs = tuple(of_text(text))
    beside = () if len(runs) < 2 or ENDED.search(text) else tuple(at_once(text))
    for number, run in enumerate(runs):
        together = beside[number : number + 1] == (True,)
        devices = stood_on(run, tuple(map(str, range(MACHINE)))) if together else ()
        yield replace(run, unread=(*run.unread, *either), devices=devices)


def _is_script(document: Document) -> bool:
    return document.name.lower().endswith(SCRIPTS)


def _has_prose(line: str) -> bool:
    """Return whether a line is a launch followed by a sentence."""
    return is_command(line) and bool(apart(line)[1])


KIND = Kind(
    name="command",
    title=sentence("title.launch"),
    syntaxes=("shell",),
    source="weighbridge.engines.launch",
    tells=tells,
    read=read,
)

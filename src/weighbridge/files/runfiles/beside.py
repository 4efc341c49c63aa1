"""Files that a run file names and that lie beside it: a config that a command starts, a stage of
DeepSpeed, a script.

Only what lies in the folder of the run file, or below it, is read: no absolute path, none that
leads out by `..` or by a link, nothing that is no plain file, and no more bytes than of a run file.
What was pasted has no folder, and nothing is read beside it.
"""

import os
import stat
from collections.abc import Sequence

from weighbridge.base.cost import MOST
from weighbridge.base.records import replace
from weighbridge.files.runfiles.document import Document, decoded, first
from weighbridge.files.runfiles.record import PlannedRun, Unread

MOST_NAME = 400  # characters of a path
NOT_HERE = "{} is not here, and decides too"


def beside(document: Document, name: str, syntaxes: Sequence[str]) -> Document | None:
    """Return the file that a document names, in the first of these syntaxes that it has; None where
    it does not lie there. Raises BadFileError where it is broken."""
    text = _text(document.folder, name)
    if text is None:
        return None
    return replace(first(text, syntaxes, name), folder=document.folder)


def _text(folder: str, name: str) -> str | None:
    if not folder or not name or len(name) > MOST_NAME or "\0" in name:
        return None
    if os.path.isabs(name) or name.startswith("~"):
        return None
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    try:
        if os.path.commonpath((root, path)) != root or not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as opened:
            return decoded(opened.read(MOST + 1), name)
    except (OSError, ValueError):  # not there, another drive, or not readable
        return None


def missing(name: str, key: str, line: int = 0) -> Unread:
    """Return the note on a file that decides and is not there: no verdict is sure without it."""
    why = NOT_HERE.format(f"{name:.80}")
    return Unread(key=key, line=line, why=why, lowers=True, raises=True, missing=name)


def of_another(run: PlannedRun, name: str) -> PlannedRun:
    """Return a run that was read from another file, whose lines are of that one: nothing of it can
    be written to where the run file is."""
    return replace(
        run,
        understood=tuple(
            replace(one, start=0, end=0, file=one.file or name) for one in run.understood
        ),
        unread=tuple(replace(one, file=one.file or name) for one in run.unread),
    )

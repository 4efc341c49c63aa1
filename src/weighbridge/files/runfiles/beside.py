"""Files that a run file names and that lie beside it: a config that a command starts, a stage of
DeepSpeed, a script.

What a shell script itself writes is read from there (written.py). Else only what lies in the
repository of the run file is read, or in its folder and below it where that is in none: no absolute
path, none that leads out by `..` or by a link, nothing that is no plain file, and no more bytes
than of a run file. A path begins at the file's folder, or at the root of
the repository, where its scripts are started. What was pasted has no folder, and nothing is read
beside it.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from weighbridge.base.cost import MOST
from weighbridge.base.records import replace
from weighbridge.files.runfiles.document import Document, decoded, first
from weighbridge.files.runfiles.record import PlannedRun, Unread
from weighbridge.files.runfiles.written import written

MOST_NAME = 400  # characters of a path
NOT_HERE = "{} is not here, and decides too"
OUTSIDE = "{} is outside of the file's folder and is not read, and decides too"


def beside(document: Document, name: str, syntaxes: Sequence[str]) -> Document | None:
    """Return the file `name` that a document refers to, in the first of `syntaxes` that parses;
    None if it is missing. Raises BadFileError if it is malformed."""
    made = written(document.text, name) if document.syntax == "shell" else None
    if made is not None:
        return replace(first(made, syntaxes, name), folder=document.folder)
    root = root_of(document.folder)
    for start in dict.fromkeys((document.folder, root)):
        text = _text(root, start, name)
        if text is not None:
            return replace(first(text, syntaxes, name), folder=document.folder)
    return None


def root_of(folder: str) -> str:
    """Return the root of the repository around `folder`, or the folder itself outside of one. A
    home folder is no repository, though its owner may keep settings in one."""
    here, home = Path(folder).resolve(), Path("~").expanduser().resolve()
    homes = {home, *home.parents}
    roots = (p for p in (here, *here.parents) if p not in homes and (p / ".git").exists())
    return str(next(roots, folder)) if folder else ""


def _text(root: str, start: str, name: str) -> str | None:
    if not start or not name or len(name) > MOST_NAME or "\0" in name:
        return None
    if os.path.isabs(name) or name.startswith("~"):
        return None
    root, path = os.path.realpath(root), os.path.realpath(os.path.join(start, name))
    try:
        if os.path.commonpath((root, path)) != root or not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as opened:
            return decoded(opened.read(MOST + 1), name)
    except (OSError, ValueError):  # missing, on another drive, or not readable
        return None


def missing(name: str, key: str, line: int = 0) -> Unread:
    """Return a note on a missing file, without which no verdict is sure."""
    leads_out = os.path.isabs(name) or name.startswith(("..", "~"))
    why = (OUTSIDE if leads_out else NOT_HERE).format(f"{name:.80}")
    return Unread(key=key, line=line, why=why, lowers=True, raises=True, missing=name)


def of_another(run: PlannedRun, name: str) -> PlannedRun:
    """Return a run that was read from the file `name`; its line numbers are that file's, so no
    change can be written into the run file."""
    return replace(
        run,
        understood=tuple(
            replace(one, start=0, end=0, file=one.file or name) for one in run.understood
        ),
        unread=tuple(replace(one, file=one.file or name) for one in run.unread),
    )

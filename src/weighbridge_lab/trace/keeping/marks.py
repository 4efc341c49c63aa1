"""Marks: small files that stand for saved tensors until the end of a run. Torch-free.

A mark says which content it is. It is a zip archive, as torch's own files are, for programs that
check whether a file is whole. The places of a process's marks are written down, as it may end
without a word.
"""

import io
import os
import pickle
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from weighbridge_lab import cache

ENTRY, CONTENT = "archive/data.pkl", "archive/weighbridge"  # torch's entry, and ours
JOURNAL = "marks-"  # plus a process id: the places of its marks


def noted(paths: Iterable[str]) -> None:
    """Record where this process will have marks, before they are there."""
    with suppress(OSError):
        cache.write(cache.path(f"{JOURNAL}{os.getpid()}"), "".join(f"{p}\n" for p in sorted(paths)))


def gone(paths: set[str]) -> None:
    """Delete this process's marks, even if they or their folder were renamed."""
    _cleared(paths)
    with suppress(OSError):
        os.unlink(cache.path(f"{JOURNAL}{os.getpid()}"))


def swept() -> None:
    """Delete the marks of processes that ended without doing so."""
    with suppress(OSError):
        for entry in list(os.scandir(os.path.dirname(cache.path("")))):
            process = entry.name.removeprefix(JOURNAL)
            if process != entry.name and process.isdigit() and not runs(int(process)):
                with open(entry.path, encoding="utf-8") as file:
                    _cleared(set(file.read().splitlines()))
                os.unlink(entry.path)


def _cleared(paths: set[str]) -> None:
    """Delete the marks in the folders of paths."""
    for folder in {os.path.dirname(path) for path in paths}:
        for place in [folder] if os.path.isdir(folder) else _beside(folder):
            for entry in os.scandir(place):
                if entry.is_file() and marked(entry.path) is not None:
                    os.unlink(entry.path)


def _beside(folder: str) -> list[str]:
    above = os.path.dirname(folder)
    return [e.path for e in os.scandir(above) if e.is_dir()] if os.path.isdir(above) else []


def marked(path: str) -> int | None:
    """Return the number in a mark; None for any other file."""
    number = content(path)
    return int(number) if number is not None and number.isdigit() else None


def archive(payload: bytes) -> bytes:
    """Return the bytes of a mark: it looks like torch's own files, and contains `payload`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(ENTRY, pickle.dumps({}))
        file.writestr(CONTENT, payload)
    return buffer.getvalue()


def content(file: Any) -> bytes | None:
    """Return the content of a mark, by path or as a stream; None for any other file."""
    try:
        with zipfile.ZipFile(file) as opened:
            return opened.read(CONTENT)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def runs(process: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

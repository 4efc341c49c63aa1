"""Marks: small files that stand for tensors that were saved, until the end of a run. Torch-free.

A mark says which content it is. It is a zip archive, as torch's own files are, for programs that
look whether a file is whole. Where the marks of a process are is written down: it may end without
a word.
"""

import io
import os
import pickle
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from weighbridge_lab import cache

ENTRY, CONTENT = "archive/data.pkl", "archive/weighbridge"  # what torch has, and what we add
JOURNAL = "marks-"  # and a process: where its marks are


def noted(paths: Iterable[str]) -> None:
    """Write down where this process has marks, before they are there."""
    with suppress(OSError):
        cache.write(cache.path(f"{JOURNAL}{os.getpid()}"), "".join(f"{p}\n" for p in sorted(paths)))


def gone(paths: set[str]) -> None:
    """Take this process's marks away, also those that got another name, or whose folder did."""
    _cleared(paths)
    with suppress(OSError):
        os.unlink(cache.path(f"{JOURNAL}{os.getpid()}"))


def swept() -> None:
    """Take away the marks of processes that ended without doing it."""
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
    """Return the number in a mark; None of any other file."""
    number = content(path)
    return int(number) if number is not None and number.isdigit() else None


def archive(payload: bytes) -> bytes:
    """Return a file of ours: what torch's own looks like, and what is to be found again in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(ENTRY, pickle.dumps({}))
        file.writestr(CONTENT, payload)
    return buffer.getvalue()


def content(file: Any) -> bytes | None:
    """Return what is in a file of ours, by path or as a stream; None of any other."""
    try:
        with zipfile.ZipFile(file) as opened:
            return opened.read(CONTENT)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def runs(process: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

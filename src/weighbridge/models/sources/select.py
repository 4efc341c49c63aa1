"""Files of a listing that the user meant by a file name, a quantization or a folder.

A split GGUF file is `NAME-00001-of-00003.gguf`; naming any part names all of them (llama.cpp,
src/llama.cpp: llama_split_path).
"""

import re
from collections.abc import Iterable

from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.models.sources.base import SourceFile

SPLIT = re.compile(r"(.*-)(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE | re.DOTALL)
MAX_PARTS = 10_000
LOOKED_AT = 500  # characters and names: likeness takes their product


def parts(path: str) -> tuple[str, ...]:
    """Name all parts of the split GGUF file that `path` belongs to; itself where it is not
    split."""
    match = SPLIT.fullmatch(path)
    if match is None:
        return (path,)
    stem, index, count, suffix = match.groups()
    if not 1 <= int(index) <= int(count) <= MAX_PARTS:
        raise BadFileError(f"{path}: part {int(index)} of {int(count)} cannot be")
    return tuple(f"{stem}{i:05}-of-{count}{suffix}" for i in range(1, int(count) + 1))


def file(entries: Iterable[SourceFile], path: str, where: str) -> tuple[SourceFile, ...]:
    """Return the entries of one file: several where it is a split GGUF file."""
    by_path = {entry.path: entry for entry in entries}
    for wanted in (path, *parts(path)):
        if wanted not in by_path:
            raise NotFoundError(f"{where} has no file {wanted!r}{_hint(wanted, list(by_path))}")
    return tuple(by_path[wanted] for wanted in parts(path))


def folder(entries: Iterable[SourceFile], path: str, where: str) -> tuple[SourceFile, ...]:
    """Return the entries below a folder, under their paths in it."""
    entries = tuple(entries)
    inner = tuple(
        SourceFile(entry.path.removeprefix(f"{path}/"), entry.size)
        for entry in entries
        if entry.path.startswith(f"{path}/")
    )
    if not inner:
        folders = sorted({e.path.rpartition("/")[0] for e in entries} - {""})
        raise NotFoundError(f"{where} has no folder {path!r}{_hint(path, folders)}")
    return inner


def quantization(entries: Iterable[SourceFile], quant: str, where: str) -> tuple[SourceFile, ...]:
    """Return the GGUF file whose path holds `quant` as a word: Q4_K is not in Q4_K_M."""
    ggufs = [e for e in entries if e.path.lower().endswith(".gguf") and "mmproj" not in e.path]
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(quant)}(?![A-Za-z0-9_])", re.IGNORECASE)
    wholes = {parts(e.path) for e in ggufs if word.search(e.path)}
    if not wholes:
        names = sorted({parts(e.path)[0] for e in ggufs})
        raise NotFoundError(f"{where} has no GGUF file of {quant!r}{_hint(quant, names)}")
    if len(wholes) > 1:
        names = sorted(whole[0] for whole in wholes)
        raise UsageError(f"{quant!r} names several files of {where}: {_some(names)}; name one")
    return file(ggufs, next(iter(wholes))[0], where)


def _hint(wanted: str, names: list[str]) -> str:
    if not names:
        return ", nor any other"
    return f"; it has {_some(_near(wanted, names) or sorted(names))}"


def _near(wanted: str, names: list[str]) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(wanted[:LOOKED_AT], names[:LOOKED_AT], n=3, cutoff=0.5)


def _some(names: list[str], count: int = 8) -> str:
    shown = ", ".join(names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"

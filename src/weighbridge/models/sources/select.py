"""The files of a listing that the user means by a file name, a quantization or a folder.

A split GGUF file is `NAME-00001-of-00003.gguf`; naming any part means all of them (llama.cpp,
src/llama.cpp: llama_split_path).
"""

import re
from collections.abc import Iterable

from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like
from weighbridge.models.sources.base import SourceFile

SPLIT = re.compile(r"(.*-)(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE | re.DOTALL)
MAX_PARTS = 10_000
LOOKED_AT = 500  # most names that are compared for near ones


def parts(path: str) -> tuple[str, ...]:
    """Return the paths of all parts of the split GGUF file that `path` belongs to; only `path` if
    it is not split."""
    match = SPLIT.fullmatch(path)
    if match is None:
        return (path,)
    stem, index, count, suffix = match.groups()
    if not 1 <= int(index) <= int(count) <= MAX_PARTS:
        raise BadFileError(sentence("path.part", part=int(index), count=int(count)), where=path)
    return tuple(f"{stem}{i:05}-of-{count}{suffix}" for i in range(1, int(count) + 1))


def file(entries: Iterable[SourceFile], path: str, where: str) -> tuple[SourceFile, ...]:
    """Return the listed files that `path` means, all parts of a split GGUF file. Raises
    NotFoundError with near names."""
    by_path = {entry.path: entry for entry in entries}
    for wanted in (path, *parts(path)):
        if wanted not in by_path:
            raise _missing_error(
                sentence("no_file", where=where, name=wanted), wanted, list(by_path)
            )
    return tuple(by_path[wanted] for wanted in parts(path))


def folder(entries: Iterable[SourceFile], path: str, where: str) -> tuple[SourceFile, ...]:
    """Return the files below the folder `path`, with paths relative to it. Raises NotFoundError if
    there are none."""
    entries = tuple(entries)
    inner = tuple(
        SourceFile(entry.path.removeprefix(f"{path}/"), entry.size)
        for entry in entries
        if entry.path.startswith(f"{path}/")
    )
    if not inner:
        folders = sorted({e.path.rpartition("/")[0] for e in entries} - {""})
        raise _missing_error(sentence("no_folder", where=where, name=path), path, folders)
    return inner


def quantization(entries: Iterable[SourceFile], quant: str, where: str) -> tuple[SourceFile, ...]:
    """Return the GGUF file, or all its parts, with `quant` as a word in the path: Q4_K is not in
    Q4_K_M. Raises an error for none or several."""
    ggufs = [e for e in entries if e.path.lower().endswith(".gguf") and "mmproj" not in e.path]
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(quant)}(?![A-Za-z0-9_])", re.IGNORECASE)
    wholes = {parts(e.path) for e in ggufs if word.search(e.path)}
    if not wholes:
        names = sorted({parts(e.path)[0] for e in ggufs})
        raise _missing_error(sentence("no_gguf", where=where, name=quant), quant, names)
    if len(wholes) > 1:
        names = sorted(whole[0] for whole in wholes)
        raise UsageError(
            sentence("gguf.several", name=quant, where=where, names=_listed_names(names))
        )
    return file(ggufs, next(iter(wholes))[0], where)


def _missing_error(line: str, wanted: str, names: list[str]) -> NotFoundError:
    """Return the error that `wanted` is missing, with near names that exist."""
    if not names:
        return NotFoundError(sentence("nor_others", line=line))
    near = _listed_names(spelled_like(wanted, names[:LOOKED_AT], 3) or sorted(names))
    return NotFoundError(line, then=sentence("it_has", names=near))


def _listed_names(names: list[str], count: int = 8) -> str:
    shown, more = ", ".join(names[:count]), len(names) - count
    return sentence("and_more", names=shown, count=more) if more > 0 else shown

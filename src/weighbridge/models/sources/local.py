"""Files on this machine: a folder, a single file, or a repository in the Hub's cache.

Only the requested bytes are read, so a file that is mostly a hole costs nothing. Links are followed
wherever they lead, as the Hub's cache needs; a folder is entered once however many links lead to
it.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from weighbridge.base.errors import BadFileError, NotFoundError, UsageError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.models.sources import cache, select
from weighbridge.models.sources.base import MAX_ENTRIES, SourceFile, inside, span

MAX_DEPTH = 8  # folders below the root that are entered; pipelines nest two deep
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class LocalSource:
    """A source of a local folder, or of the single file `path` (with all parts, if it is split)."""

    waits = False

    def __init__(self, path: str | Path, *, revision: str | None = None) -> None:
        place = Path(path).expanduser()
        self.name = str(path)
        self.revision: str | None = None
        self.notes: tuple[str, ...] = ()
        self._file: str | None = None
        if cache.is_repository(place):
            place = cache.chosen_snapshot(place, revision)
            self.revision = place.name
        elif revision is not None:
            raise UsageError(sentence("path.revision", name=self.name, revision=revision))
        elif not place.is_dir():
            place, self._file = place.parent, place.name
        self._root = place

    def list(self) -> tuple[SourceFile, ...]:
        if self._file is None:
            return tuple(sorted(_walk(self._root, self.name)))
        entries = (
            SourceFile(name, _file_size(self._root / name)) for name in select.parts(self._file)
        )
        return tuple(entries)

    def holds(self, path: str) -> bool:
        return (self._root / inside(path)).is_file()

    def place(self, path: str) -> Path:
        """Return the local path of one of the source's files."""
        return self._root / inside(path)

    def read(self, path: str, start: int, stop: int) -> bytes:
        place = self.place(path)
        _file_size(place)  # opening a pipe would wait for its other end
        try:
            with place.open("rb") as file:
                first, last = span(start, stop, os.fstat(file.fileno()).st_size)
                file.seek(first)
                data = file.read(last - first)
        except OSError as error:
            raise _explained(place, error) from None
        if first == 0 and data.startswith(LFS_POINTER) and path.endswith((".safetensors", ".gguf")):
            raise BadFileError(sentence("path.lfs", path=str(place)))
        return data


def _file_size(place: Path) -> int:
    try:
        status = place.stat()
    except (OSError, ValueError) as error:
        raise _explained(place, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise BadFileError(sentence("path.not_regular", path=str(place)))
    return status.st_size


def _explained(place: Path, error: Exception) -> WeighbridgeError:
    if isinstance(error, FileNotFoundError) and place.is_symlink():
        return NotFoundError(sentence("path.dead_link", path=str(place)))
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return NotFoundError(f"{place}: {(reason or 'cannot be read').lower()}")


def _walk(root: Path, name: str) -> Iterator[SourceFile]:
    """Yield all files below `root` that are not hidden, unordered. Raises UsageError if there are
    too many."""
    folders, seen = [(root, "", 0)], {_identity(root)}
    count = 0
    while folders:
        folder, prefix, depth = folders.pop()
        for item in _scan(folder):
            count += 1
            if count > MAX_ENTRIES:
                raise UsageError(sentence("path.many", name=name, most=MAX_ENTRIES))
            path = f"{prefix}{item.name}"
            if not _is_folder(item):
                yield from _source_file(item, path)
            elif depth < MAX_DEPTH and (identity := _identity(Path(item.path))) not in seen:
                seen.add(identity)
                folders.append((Path(item.path), f"{path}/", depth + 1))


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            yield from (item for item in items if not item.name.startswith("."))
    except OSError as error:
        raise _explained(folder, error) from None


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself
        return False


def _source_file(item: os.DirEntry[str], path: str) -> Iterator[SourceFile]:
    try:
        status = item.stat()
    except OSError:
        yield SourceFile(path, None)  # a link to nothing: reading it raises an error
        return
    if stat.S_ISREG(status.st_mode):
        yield SourceFile(path, status.st_size)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino

"""Keeps what was there before a run: each real file, link or folder is moved aside before it is
changed, on its own file system (no byte is copied), and a stand-in takes its place.

    written to     an empty file, or a copy where its content stays (a clone where the file system
                   can; beyond LARGE a file of that size with holes)
    removed        an empty file or folder, which then goes
    renamed        nothing stands in: it is found where it went

What the run itself makes is known by its inode. Each step is written down before it is made, so
that anybody can undo it: `put_back` goes through the journal backwards, and finds at each line what
was there when that was written.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from weighbridge_lab import cache
from weighbridge_lab.trace.keeping.marks import content, runs

JOURNAL = "kept-"  # and the process that keeps
STORE, STAND_IN = ".weighbridge-kept-", "stand-in"
LARGE = (
    4 << 30
)  # bytes that are copied if the file system does not clone: seconds of a disk (assumed)
# Folders of which programs look for the newest: an incomplete checkpoint would be taken for it
NUMBERED = re.compile(r"(?:checkpoint|ckpt|epoch|step|iter)[-_=]?\d+$", re.IGNORECASE)
CLONE = 0x40049409  # FICLONE (linux/fs.h)
Inode = tuple[int, int]
Entry = dict[str, Any]
Filler = Callable[[str, str], None]


class Keeper:
    """Preserves the files that existed before a run. Its methods are called before the change that
    they name."""

    def __init__(self) -> None:
        self.journal = journal_of(os.getpid())
        self.new_inodes: set[Inode] = set()  # made by the run
        self.fresh: dict[str, None] = {}  # paths that the run is about to make
        self.wrote: dict[str, None] = {}
        self.changed: dict[str, None] = {}  # files that existed before: they are restored
        self._hollow: set[str] = set()  # folders that have lost marks
        self._stores: list[str] = []
        self._noted: set[str] = set()  # folders, and files whose mode or times change
        self._count = 0

    # What a run is about to do

    def writes(self, path: str, *, cut: bool) -> None:
        """Prepare for a file to be opened for writing; `cut`: it is truncated."""
        path = os.path.realpath(path)
        if not os.path.exists(path):
            self.makes(path)
            self.wrote[path] = None
        elif self._is_real(path) and os.path.isfile(path) and os.access(path, os.W_OK):
            self._set_aside(path, _empty if cut else _copied)

    def makes(self, path: str) -> None:
        """Prepare for a new file, folder or link."""
        path = _placed(path)
        if not os.path.lexists(path) and os.path.isdir(os.path.dirname(path)):
            self._folder(os.path.dirname(path))
            self.fresh[path] = None

    def removes(self, path: str) -> None:
        """Prepare for the removal of a file, a link or an empty folder."""
        path = _placed(path)
        if not os.path.lexists(path):
            return
        if self._is_real(path):
            if not _is_folder(path):
                self._set_aside(path, _empty)
            elif not os.listdir(path):
                self._set_aside(path, _folder_like)
        elif not _is_folder(path):
            if os.path.isfile(path) and content(path) is not None:
                self._hollow.add(os.path.dirname(path))
            if os.lstat(path).st_nlink == 1:
                self.new_inodes.discard(_inode(path))  # the number may be reused

    def renames(self, source: str, target: str) -> None:
        """Prepare for a rename."""
        source, target = _placed(source), _placed(target)
        if not os.path.lexists(source) or source == target:
            return
        self.removes(target)
        for folder in {os.path.dirname(source), os.path.dirname(target)}:
            self._folder(folder)
        if self._is_real(source):
            self._write({"path": source, "aside": target, "inode": _inode(source)})
            self.changed[source] = None
        for known in (self.wrote, self.fresh):
            below = (
                [p for p in known if p.startswith(source + os.sep)] if _is_folder(source) else []
            )
            for path in [source, *below]:
                if path in known:
                    known[target + path[len(source) :]] = None

    def changes(self, path: str) -> None:
        """Prepare for a change of a file's mode, owner or times, not of its content."""
        path = os.path.realpath(path)
        if path not in self._noted and os.path.exists(path) and self._is_real(path):
            self._noted.add(path)
            self._write({"of": path, **_facts(path)})
            self.changed[path] = None

    def is_own(self, path: str) -> bool:
        """Return whether the run itself has made the file at a path."""
        return not os.path.lexists(path) or not self._is_real(path)

    def clear(self) -> None:
        """Delete the files that the run wrote as marks for tensors, under whatever name, and the
        checkpoint folders that it made for them."""
        for path in self.wrote:
            if os.path.isfile(path) and self.is_own(path) and content(path) is not None:
                self.removes(path)
                os.unlink(path)
        for folder in filter(NUMBERED.search, self._hollow):
            for above, names, files in os.walk(folder, topdown=False):
                for path in (os.path.join(above, name) for name in (*files, *names)):
                    self._cleared(path)
            self._cleared(folder)

    def _cleared(self, path: str) -> None:
        """Delete what the run made at a path, except a folder to which something was moved."""
        if os.path.lexists(path) and self.is_own(path):
            _tried(os.rmdir if _is_folder(path) else os.unlink, path)

    def summary(self) -> dict[str, list[str]]:
        """Return the remaining files that the run made, and its changes to others, by kind."""
        wrote = [path for path in self.wrote if os.path.isfile(path) and path not in self.changed]
        return {"wrote": wrote, "changed": [*self.changed]}

    # How it is kept

    def _is_real(self, path: str) -> bool:
        for path_made in [*self.fresh]:
            with suppress(OSError):
                self.new_inodes.add(_inode(path_made))
                del self.fresh[path_made]
        return _inode(path) not in self.new_inodes

    def _set_aside(self, path: str, fill: Filler) -> None:
        """Move the file at a path aside, and put a stand-in at its place. Raises OSError."""
        folder = os.path.dirname(path)
        self._folder(folder)
        for store in self._places(folder):
            try:
                self._exchanged(path, store, fill)
            except OSError as error:
                if error.errno != errno.EXDEV:  # another mount of the same file system
                    raise
                self._stores.remove(store)
            else:
                self.changed[path] = None
                return
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def _exchanged(self, path: str, store: str, fill: Filler) -> None:
        self._count += 1
        aside, beside = os.path.join(store, str(self._count)), os.path.join(store, STAND_IN)
        fill(path, beside)
        self._write({"path": path, "aside": aside, "inode": _inode(path)})
        try:
            os.rename(path, aside)
        except OSError:
            _taken_away(beside)
            raise
        os.rename(beside, path)
        self.new_inodes.add(_inode(path))

    def _folder(self, folder: str) -> None:
        """Record a folder's times before its content changes."""
        if folder not in self._noted and self._is_real(folder):
            self._noted.add(folder)
            with suppress(OSError):
                self._write({"folder": folder, "names": _names(folder), **_facts(folder)})

    def _places(self, folder: str) -> Iterator[str]:
        """Yield our folders on the same file system as a folder: in the user's cache, or as far
        above it as we may write."""
        device = os.stat(folder).st_dev
        yield from [s for s in self._stores if os.stat(s).st_dev == device]
        above = folder.split(os.sep)
        parents = [os.sep.join(above[:n]) or os.sep for n in range(1, len(above) + 1)]
        for place in [os.path.dirname(self.journal), *parents]:
            if os.stat(place).st_dev != device or not os.access(place, os.W_OK | os.X_OK):
                continue
            self._folder(place)
            store = tempfile.mkdtemp(prefix=STORE, dir=place)
            self._write({"store": store})
            self.new_inodes.add(_inode(store))
            self._stores.append(store)
            yield store

    def _write(self, entry: Entry) -> None:
        line = json.dumps(entry, ensure_ascii=True).encode() + b"\n"
        file = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)


# Stand-ins


def _empty(source: str, target: str) -> None:
    with open(target, "xb"):
        pass
    if not os.path.islink(source):
        _like(source, target)


def _copied(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "xb") as new:
        size = os.fstat(old.fileno()).st_size
        try:
            import fcntl

            fcntl.ioctl(new.fileno(), CLONE, old.fileno())
        except (ImportError, OSError):
            if size <= LARGE:
                shutil.copyfileobj(old, new, 1 << 20)
            else:
                new.truncate(size)
    _like(source, target)


def _folder_like(source: str, target: str) -> None:
    os.mkdir(target)
    _like(source, target)


def _like(source: str, target: str) -> None:
    with suppress(OSError):
        _applied(target, _facts(source))


# The way back


def put_back(journal: str) -> None:
    """Undo a journal, from its last line to its first. Raises OSError if something could not be
    restored: it stays where it was kept, and so does the journal."""
    failed = [error for entry in reversed(_read(journal)) if (error := _tried(_undone, entry))]
    if failed:
        raise failed[0]
    _tried(os.unlink, journal)


def _undone(entry: Entry) -> None:
    if "aside" in entry:
        _returned(entry["aside"], entry["path"], tuple(entry["inode"]))
    elif "store" in entry:
        _taken_away(os.path.join(entry["store"], STAND_IN))
        os.rmdir(entry["store"])
    elif "of" in entry or _names(entry["folder"]) == entry["names"]:
        _tried(_applied, entry.get("of") or entry["folder"], entry)


def _tried(step: Callable[..., None], *of: Any) -> OSError | None:
    """Run a step; return its error, None without one."""
    try:
        step(*of)
    except OSError as error:
        return error
    return None


def swept() -> None:
    """Restore what runs left behind whose keeper was killed."""
    with suppress(OSError):
        for entry in list(os.scandir(os.path.dirname(journal_of(0)))):
            process = entry.name.removeprefix(JOURNAL)
            if process != entry.name and process.isdigit() and not runs(int(process)):
                put_back(entry.path)


def journal_of(process: int) -> str:
    """Return the path of the journal of a process."""
    path = cache.path(f"{JOURNAL}{process}")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError:
        mine = f"weighbridge-{getattr(os, 'getuid', int)()}"
        path = os.path.join(tempfile.gettempdir(), mine, os.path.basename(path))
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    return path


def _read(journal: str) -> list[Entry]:
    try:
        with open(journal, encoding="ascii") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    entries: list[Entry] = []
    for line in lines:
        with suppress(ValueError):  # the last, of a machine that went down
            entries.append(json.loads(line))
    return entries


def _returned(aside: str, path: str, inode: Inode) -> None:
    """Move a preserved file back. What the run made in a folder of that name stays, unless its name
    was taken."""
    if not os.path.lexists(aside) or _inode(aside) != inode:  # that step was never made
        return
    for name in os.listdir(path) if _is_folder(path) and _is_folder(aside) else ():
        there = os.path.join(aside, name)
        if not os.path.lexists(there):
            os.rename(os.path.join(path, name), there)
    _taken_away(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.rename(aside, path)


def _taken_away(path: str) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _facts(path: str) -> Entry:
    status = os.stat(path)
    return {
        "mode": stat.S_IMODE(status.st_mode),
        "owner": [status.st_uid, status.st_gid],
        "times": [status.st_atime_ns, status.st_mtime_ns],
    }


def _applied(path: str, facts: Entry) -> None:
    now = os.stat(path)
    if [now.st_uid, now.st_gid] != facts["owner"]:
        os.chown(path, *facts["owner"])
    os.chmod(path, facts["mode"])
    os.utime(path, ns=tuple(facts["times"]))


def _names(folder: str) -> str:
    return hashlib.sha256(
        "\0".join(sorted(os.listdir(folder))).encode(errors="surrogateescape")
    ).hexdigest()


def _placed(path: str) -> str:
    """Return the path of a link itself, not of its target."""
    folder, name = os.path.split(path.rstrip(os.sep) or os.sep)
    return os.path.normpath(os.path.join(os.path.realpath(folder), name))


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _inode(path: str) -> Inode:
    status = os.lstat(path)
    return status.st_dev, status.st_ino

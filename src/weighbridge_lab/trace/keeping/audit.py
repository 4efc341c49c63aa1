"""Python's own hooks (sys.addaudithook): they report what a program in this interpreter opens,
removes, renames, starts and asks, before it happens; it gets the errors that they raise.

The keeper's second way, if the kernel has no filter for it. It does not see what C++ writes by
itself, nor what another program would do: so none is started.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge_lab.trace.keeping.keeper import Keeper, put_back

Hook = Callable[..., None]
Hooks = Mapping[str, Hook]
WRITES = os.O_ACCMODE if hasattr(os, "O_ACCMODE") else 3
CHANGES = ("os.chmod", "os.chown", "os.lchmod", "os.lchflags", "os.chflags", "os.utime")
STARTS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.spawn", "os.startfile")
BESIDE = ("", "-journal", "-wal", "-shm")  # files of SQLite

_tables: list[Hooks] = []
_hooked: list[bool] = []  # hooks stay for good
_at_work: list[bool] = []  # non-empty while a keeper is at work


class NoChildrenError(PermissionError):
    """Raised instead of starting another program, as nobody could tell what it changes."""

    def __init__(self, program: Any) -> None:
        super().__init__(f"a trace starts no other program here: {program} could change files")


@contextlib.contextmanager
def heard(hooks: Hooks) -> Iterator[None]:
    """Call the hooks of a table by event, inside the block."""
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked.append(True)
    _tables.append(hooks)
    try:
        yield
    finally:
        _tables.remove(hooks)


def _audit(event: str, words: tuple[Any, ...]) -> None:
    for hooks in _tables:
        if event in hooks:
            hooks[event](*words)


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Record that a keeper is at work, inside the block."""
    _at_work.append(True)
    try:
        yield
    finally:
        _at_work.pop()


def is_at_work() -> bool:
    return bool(_at_work)


@contextlib.contextmanager
def preserved(*, children: bool) -> Iterator[Keeper]:
    """Preserve existing files while a program runs inside the block. Other programs are only
    started with `children`, and then nothing watches them."""
    keeper, ours = Keeper(), os.getpid()
    hooks = Listening(keeper).hooks
    if not children:
        hooks |= dict.fromkeys(STARTS, _refused)
    try:
        with keeping(), heard(hooks), contextlib.nullcontext() if children else _no_spawned():
            yield keeper
    finally:
        if os.getpid() == ours:
            keeper.clear()
            put_back(keeper.journal)


def _refused(program: Any, *_: Any) -> None:
    raise NoChildrenError(program)


@contextlib.contextmanager
def _no_spawned() -> Iterator[None]:
    """Refuse what multiprocessing starts, which no hook reports, except its resource tracker."""
    try:
        import _posixsubprocess as starter
    except ImportError:
        yield
        return
    start = starter.fork_exec

    def fork_exec(arguments: Any, *words: Any) -> Any:
        if b"multiprocessing.resource_tracker" not in b" ".join(map(os.fsencode, arguments)):
            _refused(os.fsdecode(arguments[0]))
        return start(arguments, *words)

    starter.fork_exec = fork_exec
    try:
        yield
    finally:
        starter.fork_exec = start


class Listening:
    """Reports to a keeper what Python is about to do."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._busy = threading.local()  # set during the keeper's own steps, which are ignored
        self._lock = threading.RLock()
        self.hooks: dict[str, Hook] = {
            "open": self._before(self._open),
            "os.truncate": self._before(self._truncate),
            "os.remove": self._before(self._remove),
            "os.rmdir": self._before(self._remove),
            "os.rename": self._before(self._rename),
            "os.mkdir": self._before(self._make),
            "os.symlink": self._before(self._link),
            "sqlite3.connect": self._before(self._database),
            **dict.fromkeys(CHANGES, self._before(self._change)),
        }

    def _before(self, hook: Hook) -> Hook:
        def warned(*words: Any) -> None:
            if getattr(self._busy, "now", False):
                return
            self._busy.now = True
            try:
                with self._lock:
                    hook(*words)
            finally:
                self._busy.now = False

        return warned

    def _open(self, path: Any, _: Any, flags: int) -> None:
        if isinstance(path, int) or not flags & (WRITES | os.O_CREAT | os.O_TRUNC):
            return
        where = _where(path)
        if not (flags & os.O_EXCL and os.path.exists(where)):
            self.keeper.writes(where, cut=bool(flags & os.O_TRUNC))

    def _truncate(self, path: Any, *_: Any) -> None:
        if not isinstance(path, int) and os.path.exists(path):
            self.keeper.writes(_where(path), cut=False)

    def _remove(self, path: Any, folder: int) -> None:
        self.keeper.removes(_where(path, folder))

    def _rename(self, source: Any, target: Any, *folders: int) -> None:
        self.keeper.renames(_where(source, folders[0]), _where(target, folders[1]))

    def _make(self, path: Any, _: int, folder: int) -> None:
        self.keeper.makes(_where(path, folder))

    def _link(self, _: Any, target: Any, folder: int) -> None:
        self.keeper.makes(_where(target, folder))

    def _change(self, path: Any, *words: Any) -> None:
        if not isinstance(path, int):
            folder = words[-1] if words and isinstance(words[-1], int) else -1
            self.keeper.changes(_where(path, folder))

    def _database(self, path: Any) -> None:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        name = name.removeprefix("file:").partition("?")[0]
        for suffix in BESIDE if name and name != ":memory:" else ():
            if os.path.exists(name + suffix) or not suffix:
                self.keeper.writes(_where(name + suffix), cut=False)
            else:
                self.keeper.makes(_where(name + suffix))


def _where(path: Any, folder: int = -1) -> str:
    """Return a path relative to an open folder, else to the current one, as an absolute path."""
    name = os.fsdecode(path)
    if folder < 0 or os.path.isabs(name):
        return os.path.abspath(name)
    if sys.platform == "darwin":
        import fcntl

        base = os.fsdecode(fcntl.fcntl(folder, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    else:
        base = os.readlink(f"/proc/self/fd/{folder}")
    return os.path.join(base, name)

"""The world outside: a traced script asks nobody, sends nothing, and what it writes is told.

network    no connection but to this machine, unless `--network` allows it
Hub        what would be created or uploaded stays here
mail       is not sent
files      that a script writes are listed (an audit hook sees each that is opened)
"""

import os
import smtplib
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

from weighbridge_lab.trace.patches import Notes, Patch, Patches
from weighbridge_lab.trace.places import LIBRARIES
from weighbridge_lab.trace.stubs import Anything

LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "")
CALLS = ("create_repo", "create_commit", "create_branch", "create_tag", "create_pull_request")
WRITES = ("upload_file", "upload_folder", "upload_large_folder", "delete_repo", "delete_file")
NO_UPLOAD = "nothing goes to the Hub: {} does nothing"
NO_MAIL = "no mail is sent"
WROTE = "the script wrote {}"
SHOWN = 5  # files that are named
ELSEWHERE = (*LIBRARIES, tempfile.gettempdir() + os.sep, "/dev/", "/proc/")


class NoNetworkError(ConnectionError):
    """A connection to another machine; `host` is its name."""

    def __init__(self, host: str) -> None:
        super().__init__(f"no network within a trace: {host} was not asked (--network allows it)")
        self.host = host


class Outside:
    """Patches that keep a script to itself."""

    def __init__(self, notes: Notes, *, network: bool) -> None:
        self.notes, self.network = notes, network

    def patches(self) -> Iterator[Patch]:
        yield Patch(os, "_exit", _leaving(os._exit))
        mail = Anything("smtplib.SMTP", silent=True)
        for name in ("SMTP", "SMTP_SSL"):
            yield Patch(smtplib, name, self._noted(NO_MAIL, mail))
        if self.network:
            return
        yield Patch(socket, "getaddrinfo", _local(socket.getaddrinfo, lambda host, *_: host))
        for name in ("connect", "connect_ex"):
            asked = getattr(socket.socket, name)
            yield Patch(socket.socket, name, _local(asked, lambda _, address, *__: _host(address)))

    def table(self) -> dict[str, Patches]:
        return {"huggingface_hub.hf_api": self._hub}

    def _hub(self, module: ModuleType) -> Iterator[Patch]:
        for name in (*CALLS, *WRITES):
            if hasattr(module.HfApi, name):
                silent = self._noted(NO_UPLOAD.format(name), Anything(name, silent=True))
                yield Patch(module.HfApi, name, silent)
                yield Patch(module, name, silent)

    def _noted(self, line: str, value: Any) -> Callable[..., Any]:
        def noted(*_: Any, **__: Any) -> Any:
            self.notes(line)
            return value

        return noted


def _leaving(leave: Callable[[int], Any]) -> Callable[[int], Any]:
    """Let `os._exit` of the script itself, not of a process that it starts, end as `sys.exit`."""
    ours = os.getpid()

    def left(status: int) -> Any:
        if os.getpid() != ours or threading.current_thread() is not threading.main_thread():
            return leave(status)
        raise SystemExit(status)

    return left


def _host(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) else ""  # a path of this machine


def _local(function: Callable[..., Any], host_of: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function reach this machine alone."""

    def local(*args: Any, **kwargs: Any) -> Any:
        host = host_of(*args, **kwargs)
        host = host.decode() if isinstance(host, bytes) else str(host or "")
        if host not in LOCAL:
            raise NoNetworkError(host)
        return function(*args, **kwargs)

    return local


class WrittenFiles:
    """Files that are opened to be written while one is entered, but libraries' own and temporary
    ones."""

    running: ClassVar["WrittenFiles | None"] = None
    hooked: ClassVar[bool] = False  # audit hooks stay for good

    def __init__(self) -> None:
        self.paths: dict[str, None] = {}

    def __enter__(self) -> "WrittenFiles":
        if not WrittenFiles.hooked:
            sys.addaudithook(_audit)
            WrittenFiles.hooked = True
        WrittenFiles.running = self
        return self

    def __exit__(self, *_: Any) -> None:
        WrittenFiles.running = None

    @property
    def line(self) -> str:
        """Return the note; "" where nothing that was written is still there."""
        left = [path for path in self.paths if os.path.isfile(path)]
        if not left:
            return ""
        shown = ", ".join(map(os.path.relpath, left[:SHOWN]))
        return WROTE.format(shown + f" and {len(left) - SHOWN} more" * (len(left) > SHOWN))

    def opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        writes = any(sign in mode for sign in "wax+") if isinstance(mode, str) else False
        writes = writes or (mode is None and bool(flags & (os.O_WRONLY | os.O_RDWR)))
        where = os.path.abspath(os.fsdecode(path))
        here = where.startswith(os.getcwd() + os.sep)
        if writes and (here or not where.startswith(ELSEWHERE)):
            self.paths[where] = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and WrittenFiles.running is not None:
        WrittenFiles.running.opened(*args)


@contextmanager
def each_once(notes: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Show each warning of a line once. Python forgets which it has shown whenever a library
    changes its filters, which fake tensors do at many operations. Notes on the run are shown
    without a line of ours."""
    shown: set[tuple[str, str, int]] = set()
    before = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, *where: Any) -> None:
        if (str(message), filename, lineno) in shown:
            return
        shown.add((str(message), filename, lineno))
        if str(message) in notes():
            sys.stderr.write(f"warning: {message}\n")
        else:
            before(message, category, filename, lineno, *where)

    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before

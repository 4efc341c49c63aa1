"""The world outside: a traced script asks nobody and sends nothing.

network    no connection but to this machine, unless `--network` allows it (its children's are
           refused by keeping/kernel.py)
Hub        what would be created or uploaded stays here
mail       is not sent
leaving    the process, or becoming another program, is an end that is reported
"""

import os
import signal
import smtplib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from weighbridge_lab.trace.keeping.audit import Hook, Hooks
from weighbridge_lab.trace.patches import Notes, Patch, Patches
from weighbridge_lab.trace.recorder import Recorder
from weighbridge_lab.trace.stubs import Anything

LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "")
CALLS = ("create_repo", "create_commit", "create_branch", "create_tag", "create_pull_request")
WRITES = ("upload_file", "upload_folder", "upload_large_folder", "delete_repo", "delete_file")
NO_UPLOAD = "nothing goes to the Hub: {} does nothing"
NO_MAIL = "no mail is sent"
NAMED = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
REACHED = ("socket.connect", "socket.sendto", "socket.sendmsg")
PATIENCE = 2.0  # seconds until a script is left that a thread ended


class NoNetworkError(ConnectionError):
    """Raised for a connection to another machine; `host` is its name."""

    def __init__(self, host: str) -> None:
        super().__init__(f"no network within a trace: {host} was not asked (--network allows it)")
        self.host = host


class ReplacedError(RuntimeError):
    """Raised if another program would replace this one (os.exec)."""

    def __init__(self, program: Any) -> None:
        super().__init__(f"the script goes on as {os.fsdecode(program)}: trace that line instead")


class Outside:
    """Patches that isolate a script from the outside world."""

    def __init__(self, notes: Notes, recorder: Recorder, *, network: bool) -> None:
        self.notes, self.recorder, self.network = notes, recorder, network

    def patches(self) -> Iterator[Patch]:
        for owner in (os, sys.modules[os.name]):
            yield Patch(owner, "_exit", self._leaving(os._exit))
        mail = Anything("smtplib.SMTP", silent=True)
        for name in ("SMTP", "SMTP_SSL"):
            yield Patch(smtplib, name, self._noted(NO_MAIL, mail))

    @property
    def hooks(self) -> Hooks:
        """Return hooks for Python's audit events, which also work if a script reloads modules."""
        ours = os.getpid()

        def replaced(program: Any, *_: Any) -> None:
            if os.getpid() == ours:
                raise ReplacedError(program)

        hooks: dict[str, Hook] = {"os.exec": replaced}
        if not self.network:
            hooks |= dict.fromkeys(NAMED, _named) | dict.fromkeys(REACHED, _reached)
        return hooks

    def table(self) -> dict[str, Patches]:
        return {"huggingface_hub.hf_api": self._hub}

    def _leaving(self, leave: Callable[[int], Any]) -> Callable[[int], Any]:
        """Return an `os._exit` that ends the script itself as `sys.exit` does, but not a process
        that it starts; a thread's ends the main thread."""
        ours = os.getpid()

        def left(status: int) -> Any:
            if os.getpid() != ours:
                return leave(status)
            if threading.current_thread() is not threading.main_thread():
                self.recorder.leaves = SystemExit(status)
                if hasattr(signal, "SIGALRM") and callable(signal.getsignal(signal.SIGALRM)):
                    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            raise SystemExit(status)

        return left

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


def _named(host: Any, *_: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    if name not in (*LOCAL, socket.gethostname()):
        raise NoNetworkError(name)


def _reached(_: Any, address: Any) -> None:
    if isinstance(address, tuple) and str(address[0]) not in LOCAL:
        raise NoNetworkError(str(address[0]))  # others are paths of this machine

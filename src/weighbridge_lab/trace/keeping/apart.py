"""Three processes: the one that was started, which waits; the keeper's; and the script's below it.

The keeper outlives the other two: whichever is killed, what was there before comes back. If the
keeper itself is killed, the script ends with it, and the first process does its work.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from weighbridge_lab import cache
from weighbridge_lab.trace.keeping import audit, kernel, marks
from weighbridge_lab.trace.keeping.calls import Seen
from weighbridge_lab.trace.keeping.keeper import Keeper, journal_of, put_back
from weighbridge_lab.trace.patches import Notes, each_once
from weighbridge_lab.trace.places import LIBRARIES

NAMES = ("SIGINT", "SIGTERM", "SIGCHLD", "SIGHUP", "SIGQUIT")
SIGNALS = {getattr(signal, name) for name in NAMES if hasattr(signal, name)}
KILLED = 128  # plus the signal's number
PATIENCE = 5.0  # seconds to wait until what was killed is gone
TICK = 0.01
WROTE = "the script wrote {}"
CHANGED = "as before, though the script changed, removed or renamed it: {}"
NOT_BACK = "could not be put back: {} (it lies in a folder named in {}kept-*)"
SHOWN = 5  # files that are listed
PYTHON_S = f"{os.sep}__pycache__{os.sep}"
ELSEWHERE = (*LIBRARIES, tempfile.gettempdir() + os.sep, "/dev/", "/proc/")
NO_REPORT = (
    "error: the script's process ended without a report ({}): nothing is known of what it takes\n"
)


class Watched:
    """The script's side: its process is watched from `begin` to `end`."""

    here: ClassVar["Watched | None"] = None

    def __init__(self, talk: socket.socket) -> None:
        self._talk, self._file = talk.makefile("rw"), talk.fileno()

    def begin(self, *, network: bool) -> None:
        self._ask({"begin": True, "network": network})

    def end(self) -> dict[str, Any]:
        """Restore everything, and return what the script wrote and changed."""
        return self._ask({"end": True})

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._talk.write(json.dumps(question) + "\n")
        self._talk.flush()
        answer: dict[str, Any] = json.loads(self._talk.readline() or "{}")
        return answer

    def laid(self) -> bool:
        """Install the filter on this process and return True; False if its keeper cannot read its
        files."""
        if not self._ask({"file": self._file}).get("readable"):
            return False
        try:
            listener = kernel.filtered()
        except OSError:  # a kernel without it, or a trace within a trace
            return False
        self._ask({"listener": listener})
        os.close(listener)
        return True


def apart() -> int | None:
    """Continue in a separate process whose system calls are watched: return None there, and here
    its exit code at the end. Also None if that is impossible."""
    if not kernel.is_here() or threading.active_count() > 1:
        return None
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    (alive, living), (hearing, telling) = os.pipe(), os.pipe()
    keeper = os.fork()
    if keeper:
        os.close(alive)
        os.close(telling)
        return _waited(keeper, int(os.read(hearing, 32)), before)
    os.close(living)
    os.close(hearing)
    kernel.prctl(kernel.SUBREAPER, 1)
    ours, theirs = socket.socketpair()
    script = os.fork()
    if not script:
        ours.close()
        os.close(alive)
        os.close(telling)
        kernel.prctl(kernel.PARENT_DIES, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        watched = Watched(theirs)
        Watched.here = watched if watched.laid() else None
        return None
    theirs.close()
    os.write(telling, str(script).encode())
    status = 1
    try:
        status = _Keeping(script, ours, alive).done()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _waited(keeper: int, script: int, before: Any) -> int:
    """Wait for the keeper and forward signals; return its exit code. A terminal's signals reach the
    script directly."""
    while True:
        heard = signal.sigwaitinfo(SIGNALS)
        if heard.si_signo == signal.SIGCHLD:
            done, status = os.waitpid(keeper, os.WNOHANG)
            if done:
                break
        elif heard.si_code <= 0:  # SI_USER and its kind
            with contextlib.suppress(ProcessLookupError):
                os.kill(script, heard.si_signo)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if os.path.exists(journal_of(keeper)):  # it was killed, and the script with it
        end = time.monotonic() + PATIENCE
        while marks.runs(script) and time.monotonic() < end:
            time.sleep(TICK)
        put_back(journal_of(keeper))
    code = os.waitstatus_to_exitcode(status)
    return KILLED - code if code < 0 else code


class _Keeping:
    """The keeper's side: answers system calls, and requests of the script's process."""

    def __init__(self, script: int, talk: socket.socket, alive: int) -> None:
        self.script, self.talk, self.alive = script, talk, alive
        self.keeper = Keeper()
        self.seen: Seen | None = None  # while the script runs
        self.begun = self.over = False
        self.listener = -1
        self.poll = select.poll()
        self.end = os.pidfd_open(script)
        for file in (talk.fileno(), alive, self.end):
            self.poll.register(file, select.POLLIN)

    def done(self) -> int:
        """Serve until the script's process has ended, restore everything, and return its exit
        code."""
        while not self._served():
            pass
        _, status = os.waitpid(self.script, 0)
        self._put_back()
        code = os.waitstatus_to_exitcode(status)
        if self.begun and not self.over:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            os.write(2, NO_REPORT.format(how).encode())
            code = code or 1
        return KILLED - code if code < 0 else code

    def _served(self) -> bool:
        ready = dict(self.poll.poll())
        if self.listener in ready:
            if ready[self.listener] & select.POLLIN:
                kernel.answered(self.listener, self._answer)
            else:  # everybody has gone
                self.poll.unregister(self.listener)
        elif self.talk.fileno() in ready:
            self._heard()
        elif self.alive in ready:
            self.poll.unregister(self.alive)
            os.kill(self.script, signal.SIGKILL)
        return self.end in ready

    def _answer(self, name: str, process: int, words: Any) -> int:
        if self.seen is not None:
            return self.seen.of(name, process, words)
        return errno.EROFS if self.over and self._is_thread(process) else 0

    def _is_thread(self, process: int) -> bool:
        """Return whether a process id is a thread that the script left behind."""
        return process != self.script and os.path.exists(f"/proc/{self.script}/task/{process}")

    def _heard(self) -> None:
        line = self.talk.recv(1 << 16)
        if not line:
            self.poll.unregister(self.talk)
            return
        question = json.loads(line)
        answer: dict[str, Any] = {}
        if "file" in question:
            answer = {"readable": self._can_read(question["file"])}
        elif "listener" in question:
            self.listener = kernel.taken(self.script, question["listener"])
            self.poll.register(self.listener, select.POLLIN)
        elif "begin" in question:
            self.seen, self.begun = Seen(self.keeper, network=question["network"]), True
        else:
            self.over = True
            answer = {"error": self._put_back(), **self.keeper.summary()}
        self.talk.sendall(json.dumps(answer).encode() + b"\n")

    def _can_read(self, file: int) -> bool:
        try:
            with open(f"/proc/{self.script}/mem", "rb"):
                os.close(kernel.taken(self.script, file))
        except OSError:
            return False
        return True

    def _put_back(self) -> str:
        """End what the script started, and undo its changes. Return what went wrong, "" if nothing
        did."""
        _ended(self.script)
        self.seen = None
        try:
            self.keeper.clear()
            marks.swept()
            put_back(self.keeper.journal)
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        return ""


def _below(process: int) -> Iterator[int]:
    """Yield a process's child processes, and their children."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{name}/stat") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents.setdefault(int(parent), []).append(int(name))
    below = [process]
    for one in below:
        below += parents.get(one, [])
        if one != process:
            yield one


def _ended(but: int) -> None:
    """Kill this process's child processes, except `but`, which existed before."""
    end = time.monotonic() + PATIENCE
    while (left := {*_below(os.getpid())} - {but}) and time.monotonic() < end:
        for one in left:
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGKILL)
        time.sleep(TICK)


@contextlib.contextmanager
def preserved(notes: Notes, *, network: bool) -> Iterator[None]:
    """Preserve this machine's files, whatever a program does inside the block; note what it wrote
    and what was restored."""
    watched = Watched.here
    with each_once(lambda: notes.lines):
        if watched is None:
            with audit.preserved(children=False) as keeper:
                yield
            summary: Mapping[str, Any] = keeper.summary()
        else:
            watched.begin(network=network)
            try:
                with audit.keeping():
                    yield
            finally:
                summary = watched.end()
        notes.each(_lines(summary))


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    for line, paths in ((WROTE, summary["wrote"]), (CHANGED, summary["changed"])):
        shown = [p for p in paths if _is_shown(p) and os.path.dirname(p) not in paths]
        if shown:
            names = ", ".join(map(os.path.relpath, shown[:SHOWN]))
            yield line.format(names + f" and {len(shown) - SHOWN} more" * (len(shown) > SHOWN))
    if summary.get("error"):
        yield NOT_BACK.format(summary["error"], cache.path(""))


def _is_shown(path: str) -> bool:
    """Return whether a file is the user's: not a library's, not temporary, and in no cache of ours
    or Python's."""
    if PYTHON_S in path:
        return False
    here = path.startswith(os.path.realpath(os.curdir) + os.sep)
    return here or not path.startswith((*ELSEWHERE, cache.path("")))

"""Processes that answer one request at a time, each answer with a deadline.

A request that takes too long, or needs too much memory, costs its process and nobody else's answer.
At most `waiting` requests wait for a free process, for `patience` seconds: then the server answers
that it is busy.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Empty, LifoQueue
from tempfile import TemporaryDirectory
from typing import Any

from weighbridge.answers.questions.requests import failed, parsed, settled
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import MIB
from weighbridge.faces.web.asks import taken_token

MOST_ANSWER = 64 * MIB
FRESH = 300  # seconds that an answer is reused: a branch of the Hub may move
MANY, MOST_KEPT = 128, MIB // 2  # most answers that are kept, and most bytes of one
GRACE = 5  # seconds beyond the limit after which a process ends itself, if the server is gone
# Of the environment: what the Hub's client, certificates and Python need. Nothing else is handed
# on, since a Space keeps its secrets there.
_KEPT = """
PATH LANG LC_ALL SYSTEMROOT PYTHONPATH PYTHONHASHSEED HF_ENDPOINT HTTP_PROXY HTTPS_PROXY
ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy SSL_CERT_FILE SSL_CERT_DIR
REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
"""
KEPT = tuple(_KEPT.split())


class Limits(NamedTuple):
    """Limits on what the server does for strangers."""

    clerks: int = 2  # number of answering processes
    seconds: int = 60  # seconds that one answer may take
    patience: float = 20.0  # seconds that a request waits for a process
    waiting: int = 64  # most requests that wait


class _RecentAnswers:
    """The last answers to requests without a token, kept for some minutes: everybody's form is
    equal, and a slider returns to earlier values."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, line: bytes) -> bytes | None:
        with self._lock:
            when, answer = self._answers.get(line, (0.0, None))
        return answer if time.monotonic() - when < FRESH else None

    def put(self, line: bytes, answer: bytes) -> None:
        if len(answer) > MOST_KEPT:
            return
        with self._lock:
            self._answers.pop(line, None)
            self._answers[line] = time.monotonic(), answer
            if len(self._answers) > MANY:
                self._answers.popitem(last=False)


class Office:
    """A pool of answering processes; `ask` may be called from many threads."""

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008
        self.limits = limits
        self._folder = TemporaryDirectory(prefix="weighbridge-", ignore_cleanup_errors=True)
        self._free: LifoQueue[_Clerk] = LifoQueue()  # the last to answer has the warmest caches
        self._kept = _RecentAnswers()
        self._seats = threading.BoundedSemaphore(limits.clerks + limits.waiting)
        self._clerks = [_Clerk(self._make_home(n), limits.seconds) for n in range(limits.clerks)]
        for clerk in reversed(self._clerks):
            self._free.put(clerk)
        atexit.register(self.close)

    def _make_home(self, number: int) -> Path:
        home = Path(self._folder.name) / str(number)
        for name in ("empty", "cache", "tmp"):
            (home / name).mkdir(parents=True)
        return home

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request, or an error with the reason why there is none."""
        line = json.dumps(request).encode() + b"\n"
        alike = not request.get("token") and len(line) <= MOST_KEPT
        recent = self._kept.get(line) if alike else None
        if recent is None:
            recent = self._answered(line)
            if alike and b'{"error"' not in recent[:16]:
                self._kept.put(line, recent)
        reply: dict[str, Any] = json.loads(recent)
        return reply

    def asked(self, body: bytes) -> dict[str, Any]:
        """Return the answer to an ask of the page, a line of JSON as its browser sent it."""

        def answer() -> dict[str, Any]:
            ask = parsed(body)
            token = taken_token(ask)  # an answer with a token is not reused
            return self.ask({"page": ask, "token": token})

        return settled(answer)

    def _answered(self, line: bytes) -> bytes:
        with self._free_clerk() as clerk:
            if clerk is None:
                busy = failed("the server has too much to do: try again in a minute", 3)
                return json.dumps(busy).encode()
            return clerk.ask(line)

    @contextmanager
    def _free_clerk(self) -> "Iterator[_Clerk | None]":
        if not self._seats.acquire(blocking=False):
            yield None
            return
        try:  # a seat is held until the request is answered
            clerk = self._wait_for_clerk()
            try:
                yield clerk
            finally:
                if clerk is not None:
                    self._free.put(clerk)
        finally:
            self._seats.release()

    def _wait_for_clerk(self) -> "_Clerk | None":
        try:
            return self._free.get(timeout=self.limits.patience)
        except Empty:
            return None

    def close(self) -> None:
        atexit.unregister(self.close)
        for clerk in self._clerks:
            clerk.stop()
        self._folder.cleanup()


class _Clerk:
    """One answering process, started when it is first needed and again after it died."""

    def __init__(self, home: Path, seconds: int) -> None:
        self._make_home, self._seconds = home, seconds
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, line: bytes) -> bytes:
        try:
            return self._asked(line)
        except TimeoutError:
            why = f"no answer within {self._seconds} s, the limit of this server"
        except OSError:
            why = "the process that answered died: it may have run out of memory"
        self.stop()
        refusal = failed(f"{why}; ask for less, or run weighbridge on your own machine", 3)
        return json.dumps(refusal).encode()

    def _asked(self, line: bytes) -> bytes:
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(line)
        process.stdin.flush()
        return self._line(process)

    def _line(self, process: "subprocess.Popen[bytes]") -> bytes:
        """Return the line that a process answers. Raises TimeoutError after the limit, or OSError
        if the process ended."""
        assert process.stdout is not None
        parts: list[bytes] = []
        read = partial(process.stdout.readline, MOST_ANSWER)
        thread = threading.Thread(target=lambda: parts.append(read()), daemon=True)
        thread.start()
        thread.join(self._seconds)
        if (
            not parts and thread.is_alive()
        ):  # the thread ends with the process, which is stopped now
            raise TimeoutError
        if not parts or not parts[0].endswith(b"\n"):
            raise OSError("no answer")
        return parts[0]

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.stop()  # closes the pipes of a process that died
            self._process = self._started()
        return self._process

    def _started(self) -> "subprocess.Popen[bytes]":
        cache, alarm = str(self._make_home / "cache"), str(self._seconds + GRACE)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "weighbridge.faces.web.space.clerk", cache, alarm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._make_home / "empty",
            env=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        variables = {name: os.environ[name] for name in KEPT if name in os.environ}
        return variables | {
            "HOME": str(self._make_home / "empty"),
            "TMPDIR": str(self._make_home / "tmp"),
            "HF_HOME": str(self._make_home / "cache"),
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # unread data may fail to flush
                        pipe.close()
            self._process = None

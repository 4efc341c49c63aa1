"""A process that answers about one config after the other, with limits of memory and time.

A stranger's config can cost only its own answer: a process that dies is started and asked once
more, and one that takes too long is ended.
"""

import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Lock, Thread
from time import process_time
from types import TracebackType
from typing import Any

from weighbridge.answers.questions.jobs import end_with_parent
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB
from weighbridge.faces.scan.answers import AnswerRow, failed, rows
from weighbridge.faces.scan.asking import ScanQuestion

COLLECT_AFTER = 32  # configs between garbage collections, since objects of a model refer back to it
BEGIN = 300  # seconds that a process may take to start
Answering = Callable[[str, Sequence[ScanQuestion]], list[AnswerRow]]


class ScanLimits(NamedTuple):
    """Limits for one config: seconds, and bytes of memory. If the system cannot bound memory, only
    the seconds apply."""

    seconds: float = 120.0
    memory: int = 8 * GIB


class WeighedConfig(NamedTuple):
    rows: list[AnswerRow]
    cpu: float  # CPU seconds of the process that answered


def answered(config: str, questions: Sequence[ScanQuestion]) -> list[AnswerRow]:
    return list(rows(config, questions))


class ScanEndedError(Exception):
    """The error of a caller that waits for an answer when the run is ended."""


class Weigher:
    """One answering process, started at its first question. `answering` is the function that it
    runs, which another process must be able to import."""

    def __init__(self, limits: ScanLimits | None = None, answering: Answering = answered) -> None:
        self._limits, self._answering = limits or ScanLimits(), answering
        self._process: Any = None
        self._pipe: Connection | None = None
        self._ended = False
        self._turn = Lock()  # held while the process is started or ended

    def __enter__(self) -> "Weigher":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def ask(self, config: str, questions: Sequence[ScanQuestion]) -> WeighedConfig:
        """Return the answers about a config; a config that breaks the process has one row, too.

        Raises:
            weighbridge.UsageError: no process can be started.
            ScanEndedError: the run was ended meanwhile.
        """
        for _ in range(2):  # other processes may have taken the memory: dying once is no proof
            pipe = self._ready_pipe()
            try:
                pipe.send((config, tuple(questions)))
                if not pipe.poll(self._limits.seconds):
                    self._stop()
                    reason = f"was given up after {self._limits.seconds:g} seconds"
                    return WeighedConfig(failed(reason), 0.0)
                return WeighedConfig(*pipe.recv())
            except (EOFError, OSError):
                self._stop()
        return WeighedConfig(failed(DIED), 0.0)

    def _ready_pipe(self) -> Connection:
        """Return the pipe to a process that is ready to answer, started now if there is none."""
        if self._pipe is None:
            pipe = self._start()
            try:
                ready = pipe.poll(BEGIN) and pipe.recv()
            except (EOFError, OSError):
                ready = False
            if not ready and not self._ended:
                self._stop()
                raise UsageError(sentence("scan.no_process"))
        if self._ended or self._pipe is None:
            raise ScanEndedError
        return self._pipe

    def _start(self) -> Connection:
        spawn = get_context("spawn")  # not forked: the caller has threads
        with self._turn:
            if self._ended:
                raise ScanEndedError
            self._pipe, other = spawn.Pipe()
            serving = (other, self._limits.memory, self._answering)
            self._process = spawn.Process(target=_serve, args=serving, daemon=True)
            self._process.start()
            other.close()
            return self._pipe

    def _stop(self) -> None:
        """End the process at once; the next question starts another."""
        with self._turn:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def end(self) -> None:
        """End the process for good. A caller that waits for an answer gets a ScanEndedError."""
        with self._turn:
            self._ended = True
            if self._process is not None:
                self._process.kill()


DIED = "its process died twice: memory may have run out"


def _serve(pipe: Connection, memory: int, answering: Answering) -> None:
    """Answer the configs that come through the pipe, until it is closed."""
    import gc

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    Thread(target=end_with_parent, daemon=True).start()
    import weighbridge.faces.api  # noqa: F401  # before memory is bounded and time is taken

    bounded(memory)
    pipe.send(True)
    for number in range(1, 1 << 62):
        try:
            config, questions = pipe.recv()
        except EOFError:
            return
        began = process_time()
        answers = answering(config, questions)
        if number % COLLECT_AFTER == 0:
            gc.collect()
        pipe.send((answers, process_time() - began))


def bounded(memory: int) -> None:
    """Bound the bytes of memory that this process can ask for, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, most))

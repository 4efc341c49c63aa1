"""Many requests on several processes; the answers come in the order of the requests.

Requests of one model go to one process, where it is prepared already, until that process has more
to do than another one. A process that dies (memory ran out) is started again, and what waited for
it is asked again, each in a process of its own: no request is lost by another one.
"""

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from queue import Queue
from threading import Thread

from weighbridge.answers.questions.requests import Requests, failed, identity, marked
from weighbridge.base.records import NamedTuple

Line = bytes
AHEAD = 32  # requests that are read ahead, for each process
PATIENCE = 8  # requests that wait in one process before another takes the next of its model
SHORT = 1 << 16  # bytes of a line whose model is looked at
HOMES = 4096  # models whose process is remembered

_requests: Requests | None = None  # of a worker's process


def _begin(cache_dir: str | None, offline: bool) -> None:
    global _requests  # a process has one, and an initializer cannot hand it on
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    Thread(target=end_with_parent, daemon=True).start()
    _requests = Requests(cache_dir=cache_dir, offline=offline)


def end_with_parent() -> None:
    """Ends this process where the one that asks is killed: nobody would stop it."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _answer(line: Line) -> str:
    assert _requests is not None
    return json.dumps(_requests.answer(line))


class Worker:
    """One process, and the requests that wait for it."""

    def __init__(self, cache_dir: str | None, offline: bool) -> None:
        self._source = (cache_dir, offline)
        self._waiting: set[Future[str]] = set()
        self._start()

    def _start(self) -> None:
        # Not forked: this process has threads.
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_begin, initargs=self._source
        )

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def ask(self, line: Line) -> Future[str]:
        """Hand a line to the process; one that died is started again. Returns the answer to
        come."""
        try:
            answer = self._pool.submit(_answer, line)
        except BrokenProcessPool:
            self._start()
            answer = self._pool.submit(_answer, line)
        self._waiting.add(answer)
        answer.add_done_callback(self._waiting.discard)
        return answer

    def alone(self, line: Line) -> str:
        """Answer a line in a new process that has nothing else to do."""
        other = Worker(*self._source)
        try:
            return other.ask(line).result()
        finally:
            other.stop()

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Asked(NamedTuple):
    line: Line
    worker: Worker
    answer: Future[str]

    def result(self) -> str:
        """The answer; a request that kills its process twice is answered with an error."""
        try:
            return self.answer.result()
        except BrokenProcessPool:
            pass
        try:
            return self.worker.alone(self.line)
        except BrokenProcessPool:
            message = (
                "the process that answered this request died, twice: its memory may have run out"
            )
            return json.dumps(failed(message) | marked(self.line))


class _Office:
    """Hands each line to a process."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers
        self._homes: dict[str, Worker] = {}

    def ask(self, line: Line) -> _Asked:
        worker = self._worker(_model(line))
        return _Asked(line, worker, worker.ask(line))

    def _worker(self, model: str) -> Worker:
        least = min(self._workers, key=lambda w: w.waiting)
        home = self._homes.get(model, least)
        if home.waiting > least.waiting + PATIENCE:
            home = least
        if len(self._homes) >= HOMES:
            self._homes.clear()
        self._homes[model] = home
        return home


def _model(line: Line) -> str:
    """What tells the model of a request from others; "" where it cannot be seen quickly."""
    if len(line) > SHORT:
        return ""
    try:
        model = json.loads(line)["model"]
        return str(identity(model["config"]) if isinstance(model, dict) else model)
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def answers(
    lines: Iterable[Line], jobs: int, *, cache_dir: str | None = None, offline: bool = False
) -> Iterator[str]:
    """The answer of each line as JSON, in order, by `jobs` processes."""
    workers = [Worker(cache_dir, offline) for _ in range(jobs)]
    waiting: Queue[_Asked | BaseException | None] = Queue(AHEAD * jobs)
    Thread(target=_read, args=(lines, _Office(workers).ask, waiting.put), daemon=True).start()
    try:
        while (request := waiting.get()) is not None:
            if isinstance(request, BaseException):
                raise request
            yield request.result()
    finally:
        for worker in workers:
            worker.stop()


def _read(
    lines: Iterable[Line],
    ask: Callable[[Line], _Asked],
    put: Callable[[_Asked | BaseException | None], None],
) -> None:
    """Reads ahead while earlier requests are answered: a line may be long in coming."""
    try:
        for line in lines:
            put(ask(line))
    except BaseException as error:  # told by the thread that answers
        put(error)
    else:
        put(None)

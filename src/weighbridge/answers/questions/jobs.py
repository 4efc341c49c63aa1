"""Requests answered by several processes; answers come in the order of the requests.

Requests for one model go to the process that has prepared it, until its queue is longer than
another's. A process that dies (out of memory) is started again, and each request that waited for it
runs again in a separate process: no request is lost because of another one.
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
AHEAD = 32  # requests that are read ahead, per process
PATIENCE = 8  # by which a queue may be longer before its model moves to another
SHORT = 1 << 16  # bytes: the model is looked up only in lines up to this
HOMES = 4096  # models whose process is remembered

_requests: Requests | None = None  # global of a worker process


def _begin(cache_dir: str | None, offline: bool) -> None:
    global _requests  # a process has one, and an initializer cannot hand it on
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    Thread(target=end_with_parent, daemon=True).start()
    _requests = Requests(cache_dir=cache_dir, offline=offline)


def end_with_parent() -> None:
    """End this process when its parent is killed: nobody else would."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _answer(line: Line) -> str:
    assert _requests is not None
    return json.dumps(_requests.answer(line))


class Worker:
    """One process and its queue of requests."""

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
        """Return the future answer to a line, submitted to the process; a process that died is
        started again."""
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
        """Return the answer; an error if the request kills its process twice."""
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
    """The dispatcher of lines to processes."""

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
    """Return an identifier of a request's model; "" if it cannot be read quickly."""
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
    """Yield the answer to each line as JSON, in order, from `jobs` processes."""
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
    """Read requests ahead while earlier ones are answered: the next line may take long."""
    try:
        for line in lines:
            put(ask(line))
    except BaseException as error:  # raised in the answering thread
        put(error)
    else:
        put(None)

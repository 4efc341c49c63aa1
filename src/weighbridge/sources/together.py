"""Several jobs at a time, where each waits for somebody else."""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from weighbridge.sources import surroundings

T = TypeVar("T")


class Together(Generic[T]):
    """Jobs that have been started, `workers` of them at a time. Their threads do not outlive the
    process, nor the job at hand where nobody wants the rest."""

    def __init__(self, jobs: Sequence[Callable[[], T]], workers: int = 1) -> None:
        self._todo, self._lock, self._count = enumerate(jobs), threading.Lock(), len(jobs)
        self._done: SimpleQueue[tuple[int, Callable[[], T]]] = SimpleQueue()
        self._found: dict[int, T] = {}
        self._asking = threading.Lock()  # whoever comes second finds what the first has collected
        for _ in range(0 if surroundings.IN_BROWSER else min(workers, len(jobs))):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._done.put((job[0], _outcome(job[1])))

    def _next(self) -> tuple[int, Callable[[], T]] | None:
        with self._lock:
            return next(self._todo, None)

    def results(self, progress: Callable[[int, int], None] | None = None) -> tuple[T, ...]:
        """Return the results of the jobs, in the order in which they were given; or raise the first
        error of one. `progress` is told how many of how many are done."""
        with self._asking:
            while len(self._found) < self._count:
                self._collect()
                if progress is not None:
                    progress(len(self._found), self._count)
        return tuple(self._found[index] for index in range(self._count))

    def _collect(self) -> None:
        if surroundings.IN_BROWSER and (job := self._next()) is not None:  # nobody else does it
            self._done.put((job[0], _outcome(job[1])))
        index, outcome = self._done.get()
        try:
            self._found[index] = outcome()
        except BaseException:
            self._done.put((index, outcome))  # for whoever asks again
            self.stop()
            raise

    def stop(self) -> None:
        """Begin no further job."""
        with self._lock:
            self._todo = enumerate(())


def _outcome(job: Callable[[], T]) -> Callable[[], T]:
    """Run `job`, and return a function that returns its result, or raises its error."""
    try:
        found = job()
    except BaseException as error:
        failure = error
    else:
        return lambda: found

    def fail() -> T:
        raise failure

    return fail

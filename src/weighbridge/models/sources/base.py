"""The protocol of a source of files, and the loops that drive parsers over one."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.formats import Plan
from weighbridge.models.sources import surroundings

if TYPE_CHECKING:
    from weighbridge.models.sources.answers import Silence

T = TypeVar("T")
Progress = Callable[[int, int], None]  # (done, total)

MAX_ENTRIES = 100_000  # the Hub's advice for a repository; more files are hostile
WORKERS = 32  # requests only wait: 163 shards at 2 x 50 ms take 0.6 s


class SourceFile(NamedTuple):
    """A file of a source: its path, and its size in bytes, None if the source does not know it."""

    path: str
    size: int | None


@frozen_record
class SourceOptions:
    """Options for reaching a source. None: huggingface_hub's settings and the environment decide;
    token False: no token."""

    token: str | bool | None = None
    cache_dir: str | None = None
    offline: bool = False
    silence: "Silence | None" = None  # record shared by models that are read one after the other


class Source(Protocol):
    """Files under one root: a folder, a repository at a revision, one URL, bytes in memory.

    `read` returns bytes [start, stop) of a file, fewer where it ends; a negative start counts from
    the end of the file, and stop is then 0. It raises NotFoundError or HubError, and may be called
    from several threads. `notes` are texts for the user: a repository that has moved. `waits`:
    whether a read waits for a network, so that several at a time are faster.
    """

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str | None: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def waits(self) -> bool: ...

    def list(self) -> tuple[SourceFile, ...]: ...

    def read(self, path: str, start: int, stop: int) -> bytes: ...


# ---- several jobs at a time, where each waits for somebody else


class Together(Generic[T]):
    """Jobs that run in `workers` daemon threads; `stop` ends them after their current jobs."""

    def __init__(self, jobs: Sequence[Callable[[], T]], workers: int = 1) -> None:
        self._todo, self._lock, self._count = enumerate(jobs), threading.Lock(), len(jobs)
        self._done: SimpleQueue[tuple[int, Callable[[], T]]] = SimpleQueue()
        self._found: dict[int, T] = {}
        self._asking = threading.Lock()  # a second caller gets what the first has collected
        for _ in range(0 if surroundings.IN_BROWSER else min(workers, len(jobs))):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._done.put((job[0], _run_now(job[1])))

    def _next(self) -> tuple[int, Callable[[], T]] | None:
        with self._lock:
            return next(self._todo, None)

    def results(self, progress: Callable[[int, int], None] | None = None) -> tuple[T, ...]:
        """Return the jobs' results in the given order; raise the first error of a job. `progress`
        gets the numbers of finished and of all jobs."""
        with self._asking:
            while len(self._found) < self._count:
                self._collect()
                if progress is not None:
                    progress(len(self._found), self._count)
        return tuple(self._found[index] for index in range(self._count))

    def _collect(self) -> None:
        if surroundings.IN_BROWSER and (job := self._next()) is not None:  # no worker threads there
            self._done.put((job[0], _run_now(job[1])))
        index, outcome = self._done.get()
        try:
            self._found[index] = outcome()
        except BaseException:
            self._done.put((index, outcome))  # for the next caller
            self.stop()
            raise

    def stop(self) -> None:
        """Start no further jobs."""
        with self._lock:
            self._todo = enumerate(())


def _run_now(job: Callable[[], T]) -> Callable[[], T]:
    """Run `job` now, and return a function that returns its result or raises its error."""
    try:
        result = job()
    except BaseException as error:
        failure = error
    else:
        return lambda: result

    def fail() -> T:
        raise failure

    return fail


# ---- parsers over files


def read_plan(plan: Plan[T], source: Source, path: str) -> T:
    """Return what the parser `plan` reads from one file of a source; its errors name the file."""
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(source.read(path, wanted.start, wanted.stop))
    except StopIteration as done:
        result: T = done.value
        return result
    except BadFileError as error:
        raise error.added(path) from None


def read_plans(
    plan: Callable[[SourceFile], Plan[T]],
    source: Source,
    entries: Sequence[SourceFile],
    *,
    progress: Progress | None = None,
) -> tuple[T, ...]:
    """Return the results of one parser per file, several at once if reads wait. The first error
    ends all."""
    if len(entries) == 1 or not source.waits:
        return tuple(_read_one_by_one(plan, source, entries, progress))
    return together(plan, source, entries).results(progress)


def together(
    plan: Callable[[SourceFile], Plan[T]], source: Source, entries: Sequence[SourceFile]
) -> Together[T]:
    """Start one parser per file, several at a time, and return them as `Together`."""
    return Together([partial(read_plan, plan(e), source, e.path) for e in entries], WORKERS)


def _read_one_by_one(
    plan: Callable[[SourceFile], Plan[T]],
    source: Source,
    entries: Sequence[SourceFile],
    progress: Progress | None,
) -> Iterator[T]:
    for done, entry in enumerate(entries, 1):
        yield read_plan(plan(entry), source, entry.path)
        if progress is not None:
            progress(done, len(entries))


def span(start: int, stop: int, size: int) -> tuple[int, int]:
    """Return (start, stop) of the bytes that `read(start, stop)` covers in a file of `size`
    bytes."""
    if start < 0:
        return max(0, size + start), size
    return min(start, size), max(min(start, size), min(stop, size))


def inside(path: str) -> str:
    """Return `path` if it stays below the root; raise BadFileError if not, since indexes and
    listings are not trusted."""
    # A drive of Windows is refused everywhere, so that a repository is read alike on all systems.
    drive = path[1:2] == ":"
    if not path or drive or "\\" in path or "\0" in path or {"", ".", ".."} & set(path.split("/")):
        raise BadFileError(sentence("path.leaves_model", path=shown(path)))
    return path


class Ahead:
    """A source that starts to load some complete files before they are read."""

    def __init__(self, source: Source, entries: Iterable[SourceFile]) -> None:
        self._source = source
        self.name, self.waits = source.name, source.waits
        self._coming = {e.path: Together([_whole_file_reader(source, e)]) for e in entries}

    @property
    def revision(self) -> str | None:
        return self._source.revision

    @property
    def notes(self) -> tuple[str, ...]:
        return self._source.notes

    def list(self) -> tuple[SourceFile, ...]:
        return self._source.list()

    def read(self, path: str, start: int, stop: int) -> bytes:
        coming = self._coming.get(path)
        if coming is None:
            return self._source.read(path, start, stop)
        (data,) = coming.results()
        first, last = span(start, stop, len(data))
        return data[first:last]


def _whole_file_reader(source: Source, entry: SourceFile) -> Callable[[], bytes]:
    size = entry.size or 0
    return lambda: source.read(entry.path, 0, size)

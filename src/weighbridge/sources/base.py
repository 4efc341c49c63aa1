"""What a source is, and the loop that drives a parser over it."""

from typing import NamedTuple, Protocol, TypeVar

from weighbridge.errors import BadFileError
from weighbridge.formats import Plan

T = TypeVar("T")


class Entry(NamedTuple):
    """One file of a source; its size where the source knows it."""

    path: str
    size: int | None


class Source(Protocol):
    """Files under one root: a folder, a repository at a revision, one URL, bytes in memory.

    `read` returns bytes [start, stop) of a file, fewer where it ends; a negative start counts
    from the end of the file, and stop is then 0. It raises NotFoundError or HubError.
    """

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str | None: ...

    def list(self) -> tuple[Entry, ...]: ...

    def read(self, path: str, start: int, stop: int) -> bytes: ...


def read_plan(plan: Plan[T], source: Source, path: str) -> T:
    """Run a parser over one file of a source."""
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(source.read(path, wanted.start, wanted.stop))
    except StopIteration as done:
        found: T = done.value
        return found
    except BadFileError as error:
        raise BadFileError(f"{path}: {error}") from None

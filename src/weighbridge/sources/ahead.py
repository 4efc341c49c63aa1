"""Files that are read before anybody asks for them: a round trip is waited for once."""

from collections.abc import Callable, Iterable

from weighbridge.sources.base import Source, SourceFile, span
from weighbridge.sources.together import Together


class Ahead:
    """A source some of whose files are on their way whole before anybody asks for them."""

    def __init__(self, source: Source, entries: Iterable[SourceFile]) -> None:
        self._source = source
        self.name, self.waits = source.name, source.waits
        self._coming = {e.path: Together([_reading(source, e)]) for e in entries}

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


def _reading(source: Source, entry: SourceFile) -> Callable[[], bytes]:
    size = entry.size or 0
    return lambda: source.read(entry.path, 0, size)

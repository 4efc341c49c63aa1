"""A source of bytes in memory."""

from collections.abc import Mapping

from weighbridge.base.errors import NotFoundError
from weighbridge.models.sources.base import SourceFile, span


class BytesSource:
    waits = False

    def __init__(
        self, files: Mapping[str, bytes], *, name: str = "memory", revision: str | None = None
    ) -> None:
        self._files = dict(files)
        self.name = name
        self.revision = revision
        self.notes: tuple[str, ...] = ()

    def list(self) -> tuple[SourceFile, ...]:
        return tuple(SourceFile(path, len(data)) for path, data in sorted(self._files.items()))

    def read(self, path: str, start: int, stop: int) -> bytes:
        if path not in self._files:
            raise NotFoundError(f"{self.name} has no file {path!r}")
        data = self._files[path]
        first, last = span(start, stop, len(data))
        return data[first:last]

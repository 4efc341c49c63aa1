"""How much of a file must be read when nothing says where its beginning ends?

Reads double, each fetches only what is new, and a parser that runs short is run again from where
its present piece (a key, a tensor, a pickle) began. So no byte is fetched twice, and no piece is
parsed more often than the prefix doubled.
"""

from collections.abc import Callable, Generator
from typing import TypeVar

from weighbridge.errors import BadFileError
from weighbridge.formats import ByteRange

T = TypeVar("T")


class MissingBytesError(Exception):
    """The prefix must have `need` bytes before the parser can go on. Never leaves a plan."""

    def __init__(self, need: int) -> None:
        super().__init__(need)
        self.need = need


class Prefix:
    """The first bytes of a file, as far as they are read, and a position in them."""

    def __init__(
        self,
        size: int | None,
        *,
        first_read: int,
        limit: int,
        data: bytes = b"",
        what: str = "data",
    ) -> None:
        self.data = bytearray(data)
        self.at = 0
        self.what = what
        self.limit = limit
        self.end = limit if size is None else min(size, limit)
        self.step = max(1, first_read)

    def whole(self, parse: Callable[["Prefix"], T]) -> Generator[ByteRange, bytes, T]:
        """What `parse` finds at the position, reading on while it runs short."""
        while True:
            start = self.at
            try:
                return parse(self)
            except MissingBytesError as missing:
                self.at = start
                yield from self._read_on(missing.need)

    def _read_on(self, need: int) -> Generator[ByteRange, bytes, None]:
        have = len(self.data)
        if need > self.limit:
            raise BadFileError(f"has {self.what} of more than {self.limit:,} bytes, our limit")
        if need <= self.end:
            self.data += yield ByteRange(have, min(self.end, max(need, have + self.step)))
            self.step = max(self.step, len(self.data))
        if len(self.data) < need:
            raise BadFileError(f"ends after {self.end_of_file():,} bytes, within its {self.what}")

    def end_of_file(self) -> int:
        """Return where the file ends, known once a read came back short."""
        return max(len(self.data), 0 if self.end == self.limit else self.end)

    def skip(self, nbytes: int) -> int:
        """Step over `nbytes`, and return where they begin."""
        start, stop = self.at, self.at + nbytes
        if stop > len(self.data):
            raise MissingBytesError(stop)
        self.at = stop
        return start

    def take(self, nbytes: int) -> bytes:
        start = self.skip(nbytes)
        return bytes(self.data[start : self.at])

"""File formats, parsed without I/O.

A parser is a generator: it yields the byte ranges that it wants, is sent those bytes, and returns
what it found. The same parser thus reads a file, a range request and a test's bytes.

    def header(size: int | None) -> Plan[Header]:
        prefix = yield Range(0, FIRST_READ)
        ...
        return Header(...)

A range may be answered with fewer bytes than asked for where the file ends, never with others.
Every parser bounds what it asks for and what it builds, and raises BadFileError with what it
found; the driver (`sources.base.read_plan`) adds the name of the file.
"""

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar


class ByteRange(NamedTuple):
    """Bytes [start, stop) of a file; a negative start counts from its end, and stop is then 0."""

    start: int
    stop: int


T = TypeVar("T")
Plan = Generator[ByteRange, bytes, T]


def whole(parse: Callable[[bytes], T], limit: int) -> Plan[T]:
    """A whole small file through its parser, which refuses what is longer than `limit`."""
    return parse((yield ByteRange(0, limit + 1)))

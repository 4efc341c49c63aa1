"""File formats, parsed without I/O.

A parser is a generator: it yields the byte ranges that it wants, is sent those bytes, and returns
what it found. The same parser thus reads a file, a range request and a test's bytes.

    def header(size: int | None) -> Plan[Header]:
        prefix = yield ByteRange(0, FIRST_READ)
        ...
        return Header(...)

A range may be answered with fewer bytes than asked for where the file ends, never with others.
Every parser bounds what it asks for and what it builds, and raises BadFileError with what it
found; the driver (`sources.base.read_plan`) adds the name of the file.

    safetensors      8 bytes of length, a JSON header
    gguf             keys, values and tensor infos of llama.cpp's files
    pytorch          .bin, .pt, .pth, .ckpt: a zip or a row of pickles (`unpickle`, `checkpoint`)
    index            which file holds which tensor, which models make up a pipeline
    mistral_params   params.json as the config.json that transformers would have
    strict_json      JSON from strangers, which the small files are
"""

from collections.abc import Callable, Generator
from typing import TypeVar

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.tensors import CheckpointTensor


class ByteRange(NamedTuple):
    """Bytes [start, stop) of a file; a negative start counts from its end, and stop is then 0."""

    start: int
    stop: int


T = TypeVar("T")
Plan = Generator[ByteRange, bytes, T]


def whole(parse: Callable[[bytes], T], limit: int) -> Plan[T]:
    """Return a plan that reads a small file whole; `parse` refuses more than `limit` bytes."""
    return parse((yield ByteRange(0, limit + 1)))


PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def weights_file(
    path: str, size: int | None, first_read: int | None = None
) -> Plan[tuple[CheckpointTensor, ...]]:
    """Return the tensors of one weight file, each once if several names share memory. `first_read`:
    the likely bytes of a safetensors header."""
    if path.endswith(PICKLES):
        return (yield from _pickled(path, size))
    from weighbridge.models.formats import (
        safetensors,  # a parser is imported when its first file is met
    )

    first = safetensors.FIRST_READ if first_read is None else first_read
    header = yield from safetensors.header(size, first_read=first, file=path)
    return header.tensors


def _pickled(path: str, size: int | None) -> Plan[tuple[CheckpointTensor, ...]]:
    from weighbridge.models.formats.pytorch import pytorch

    checkpoint = yield from pytorch(size, file=path)
    second_names = checkpoint.ties()
    return tuple(
        stored.tensor for stored in checkpoint.tensors if stored.tensor.name not in second_names
    )


class MissingBytesError(Exception):
    """Raised if a parser needs `need` bytes of the prefix to go on. Never leaves a plan."""

    def __init__(self, need: int) -> None:
        super().__init__(need)
        self.need = need


class Prefix:
    """The growing start of a file whose header has no known length.

    Reads double, each fetches only what is new, and a parser that runs short is run again from
    where its present piece (a key, a tensor, a pickle) began. So no byte is fetched twice, and no
    piece is parsed more often than the prefix doubled.

    Reads double, each fetches only what is new, and a parser that runs short is run again from
    where its present piece (a key, a tensor, a pickle) began. So no byte is fetched twice, and no
    piece is parsed more often than the prefix doubled.
    """

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
        self.position = 0
        self.what = what
        self.limit = limit
        self.end = limit if size is None else min(size, limit)
        self.step = max(1, first_read)

    def whole(self, parse: Callable[["Prefix"], T]) -> Generator[ByteRange, bytes, T]:
        """Return `parse` of the bytes from the position on; read more while it runs short."""
        while True:
            start = self.position
            try:
                return parse(self)
            except MissingBytesError as missing:
                self.position = start
                yield from self._read_on(missing.need)

    def _read_on(self, need: int) -> Generator[ByteRange, bytes, None]:
        have = len(self.data)
        if need > self.limit:
            raise BadFileError(sentence("larger_part", what=self.what, limit=self.limit))
        if need <= self.end:
            self.data += yield ByteRange(have, min(self.end, max(need, have + self.step)))
            self.step = max(self.step, len(self.data))
        if len(self.data) < need:
            raise BadFileError(sentence("cut_within", end=self.end_of_file(), what=self.what))

    def end_of_file(self) -> int:
        """Return the size of the file, known once a read came back short."""
        return max(len(self.data), 0 if self.end == self.limit else self.end)

    def skip(self, nbytes: int) -> int:
        """Move the position on by `nbytes` bytes; return the old position."""
        start, stop = self.position, self.position + nbytes
        if stop > len(self.data):
            raise MissingBytesError(stop)
        self.position = stop
        return start

    def take(self, nbytes: int) -> bytes:
        start = self.skip(nbytes)
        return bytes(self.data[start : self.position])

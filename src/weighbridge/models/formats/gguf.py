"""Tensors and metadata of a GGUF file, from what stands before its data.

    file   = "GGUF", u32 version, u64 tensors, u64 keys, key-values, tensor infos, padding, data
    string = u64 length, bytes
    pair   = string key, u32 type, value         array = u32 type, u64 length, values
    info   = string name, u32 rank, u64 dims[rank], u32 ggml type, u64 offset into the data

Versions 2 and 3; a big-endian file (version 3) is one whose version reads byte-swapped. Source:
ggml/docs/gguf.md and ggml/src/gguf.cpp (fn gguf_init_from_file_impl), llama.cpp 0c1e57098;
gguf-py/gguf/constants.py, gguf 0.19. ggml puts the fastest dimension first; shapes here are
torch's, so reversed.

Vocabularies make that beginning 1 to 20 MB long. The strings of an array (250,000 tokens) are
stepped over, not kept.
"""

from collections.abc import Mapping
from math import prod
from struct import Struct, calcsize, unpack_from

from weighbridge.base.dtypes import GGML
from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import align_up
from weighbridge.models.formats import MissingBytesError, Plan, Prefix
from weighbridge.models.formats.strict_json import short
from weighbridge.models.tensors import Array, CheckpointTensor, Value

FIRST_READ = 1 << 20
MAX_READ = 1 << 26
MAX_KEYS = 1 << 14
MAX_TENSORS = 1 << 16  # experts are stacked: DeepSeek-V3 has 1,025
MAX_NAME = (1 << 16) - 1  # gguf.md, of keys
MAX_STRING = 1 << 24  # a chat template takes 100 kB
MAX_ITEMS = 1 << 24  # strings within one array: Gemma has 262,144 tokens
ARRAY_ITEMS = 32  # items that an array within an array counts as
MAX_RANK = 4  # ggml.h, GGML_MAX_DIMS
MAX_NESTING = 8
MAX_COUNT = 1 << 63
KEPT = 4096  # numbers of an array that are kept: enough for one a layer
MAX_KEPT = 1 << 20  # and of all arrays together
DEFAULT_ALIGNMENT = 32  # ggml/docs/gguf.md, general.alignment

# ggml.h, enum ggml_type: the numbers of types that were dropped.
REMOVED = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}

# gguf.md, enum gguf_metadata_value_type: the numbers among the types of values.
NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9
KINDS = {
    0: "uint8",
    1: "int8",
    2: "uint16",
    3: "int16",
    4: "uint32",
    5: "int32",
    6: "float32",
    7: "bool",
    STRING: "string",
    ARRAY: "array",
    10: "uint64",
    11: "int64",
    12: "float64",
}


@frozen_record
class Gguf:
    """A file's metadata and tensors. `file_bytes`: the file's size up to the end of the last
    tensor, without padding."""

    version: int
    big_endian: bool
    metadata: Mapping[str, Value]
    tensors: tuple[CheckpointTensor, ...]
    data_offset: int
    file_bytes: int


class _Info(NamedTuple):
    tensor: CheckpointTensor
    offset: int


def gguf(size: int | None = None, *, first_read: int = FIRST_READ, file: str = "") -> Plan[Gguf]:
    """Return what a file has before its data. `size`: the file's, if known; `file`: a name for the
    tensors."""
    prefix = Prefix(size, first_read=first_read, limit=MAX_READ, what="metadata")
    version, order = yield from prefix.whole(_version)
    fields = _Fields(prefix, order, file)
    tensor_count, key_count = yield from prefix.whole(fields.counts)
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key, value = yield from prefix.whole(fields.pair)
        if key in metadata:
            raise BadFileError(sentence("key_twice", key=short(key)))
        metadata[key] = value
    infos: list[_Info] = []
    for _ in range(tensor_count):
        infos += [(yield from prefix.whole(fields.info))]
    alignment = _alignment(metadata)
    data_offset = align_up(prefix.position, alignment)
    end = _check_layout(infos, alignment)
    file_bytes = data_offset + end if end else prefix.position
    if size is not None and size < file_bytes:
        raise BadFileError(sentence("gguf.size", size=size, end=file_bytes))
    return Gguf(
        version=version,
        big_endian=order == ">",
        metadata=metadata,
        tensors=tuple(info.tensor for info in infos),
        data_offset=data_offset,
        file_bytes=file_bytes,
    )


def _version(prefix: Prefix) -> tuple[int, str]:
    data = prefix.take(8)
    if data[:4] != b"GGUF":
        raise BadFileError(sentence("gguf.begins", head=data[:4]))
    little, big = (int.from_bytes(data[4:], order) for order in ("little", "big"))
    version, order = (big, ">") if little & 0xFFFF == 0 else (little, "<")
    if version == 1:
        raise BadFileError(sentence("gguf.version_1"))
    if version not in (2, 3):
        raise BadFileError(sentence("gguf.version", version=version))
    return version, order


class _Fields:
    """The fields of one file, in its byte order."""

    def __init__(self, prefix: Prefix, order: str, file: str) -> None:
        self.prefix = prefix
        self.order = order
        self.file = file
        self.kept = 0
        self.u32, self.u64 = Struct(order + "I"), Struct(order + "Q")

    def counts(self, prefix: Prefix) -> tuple[int, int]:
        tensors, keys = self._long(), self._long()
        for count, what, most in ((tensors, "tensors", MAX_TENSORS), (keys, "keys", MAX_KEYS)):
            if count > most:
                raise BadFileError(sentence(f"gguf.claims.{what}", count=count, most=most))
        return tensors, keys

    def pair(self, prefix: Prefix) -> tuple[str, Value]:
        key = self._name("key")
        kind = self._int()
        if kind in NUMBERS:
            return key, self._numbers(kind, 1)[0]
        if kind == STRING:
            # llama.cpp does not check the encoding of values, and authors' names are not all UTF-8
            return key, self._bytes(MAX_STRING, short(key)).decode(errors="replace")
        if kind == ARRAY:
            return key, self._array(key)
        raise BadFileError(sentence("gguf.unknown_value", key=short(key), kind=kind))

    def info(self, prefix: Prefix) -> _Info:
        name = self._name("tensor")
        rank = self._int()
        if rank > MAX_RANK:
            raise BadFileError(sentence("gguf.rank", name=short(name), rank=rank, most=MAX_RANK))
        dims = [self._long() for _ in range(rank)]
        number = self._int()
        dtype = GGML.get(number)
        if dtype is None:
            key = "gguf.dropped_type" if number in REMOVED else "gguf.unknown_type"
            values = {"name": short(name), "number": number, "old": REMOVED.get(number)}
            raise BadFileError(sentence(key, **values))
        count = prod(dims)
        if max(dims, default=0) >= MAX_COUNT or count >= MAX_COUNT:
            raise BadFileError(sentence("gguf.elements", name=short(name), dims=dims))
        row = dims[0] if dims else 1
        if row % dtype.block:
            blocks = f"blocks of {dtype.block}"
            raise BadFileError(
                sentence("gguf.rows", name=short(name), row=row, dtype=dtype.name, blocks=blocks)
            )
        tensor = CheckpointTensor(
            name, dtype, tuple(reversed(dims)), dtype.rows(row, count), self.file
        )
        return _Info(tensor, self._long())

    def _array(self, key: str) -> Array:
        kind, length = self._int(), self._long()
        if kind in NUMBERS:
            return Array(KINDS[kind], length, self._kept(kind, length))
        self._skip_array(kind, length, key)
        return Array(KINDS[kind], length, None)

    def _kept(self, kind: int, length: int) -> tuple[int | float | bool, ...] | None:
        if length > KEPT or self.kept + length > MAX_KEPT:
            self.prefix.skip(length * calcsize(NUMBERS[kind]))
            return None
        values = self._numbers(kind, length)
        self.kept += length
        return values

    def _skip_array(self, kind: int, length: int, key: str) -> None:
        """Skip an array of strings or of arrays, with a stack instead of recursion."""
        stack, items = [(kind, length)], 0
        while stack:
            kind, length = stack.pop()
            items += length if kind == STRING else ARRAY_ITEMS
            if len(stack) >= MAX_NESTING or items > MAX_ITEMS:
                raise BadFileError(sentence("gguf.array_deep", key=short(key)))
            if kind == STRING:
                self._step_over_strings(length)
            elif kind in NUMBERS:
                self.prefix.skip(length * calcsize(NUMBERS[kind]))
            elif kind != ARRAY:
                raise BadFileError(sentence("gguf.unknown_array", key=short(key), kind=kind))
            elif length:
                stack += [(kind, length - 1), (self._int(), self._long())]

    def _step_over_strings(self, count: int) -> None:
        data, position, end = self.prefix.data, self.prefix.position, len(self.prefix.data)
        length_at = self.u64.unpack_from
        for left in range(count, 0, -1):
            if position + 8 > end:
                raise MissingBytesError(position + 8 * left)
            position += 8 + length_at(data, position)[0]
        self.prefix.skip(position - self.prefix.position)

    def _numbers(self, kind: int, count: int) -> tuple[int | float | bool, ...]:
        layout = f"{self.order}{count}{NUMBERS[kind]}"
        return unpack_from(layout, self.prefix.data, self.prefix.skip(calcsize(layout)))

    def _int(self) -> int:
        return int(self.u32.unpack_from(self.prefix.data, self.prefix.skip(4))[0])

    def _long(self) -> int:
        return int(self.u64.unpack_from(self.prefix.data, self.prefix.skip(8))[0])

    def _bytes(self, most: int, what: str, key: str = "gguf.long_text") -> bytes:
        length = self._long()
        if length > most:
            raise BadFileError(sentence(key, what=what, length=length, most=most))
        return self.prefix.take(length)

    def _name(self, what: str) -> str:
        raw = self._bytes(MAX_NAME, what, "gguf.long_name")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise BadFileError(sentence("gguf.name_bytes", what=what, raw=raw[:40])) from None


def _alignment(metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise BadFileError(sentence("gguf.alignment", value=short(alignment)))
    return alignment


def _check_layout(infos: list[_Info], alignment: int) -> int:
    """Return the end of the last tensor, in bytes from the start of the data."""
    end, before, names = 0, "", set[str]()
    for tensor, offset in sorted(infos, key=lambda info: (info.offset, info.tensor.nbytes)):
        name = short(tensor.name)
        if tensor.name in names:
            raise BadFileError(sentence("gguf.tensor_twice", name=name))
        if offset % alignment:
            raise BadFileError(
                sentence("gguf.offset", name=name, offset=offset, alignment=alignment)
            )
        if offset < end:
            raise BadFileError(
                sentence("gguf.overlaps", name=name, offset=offset, before=before, end=end)
            )
        names.add(tensor.name)
        end, before = offset + tensor.nbytes, name
    return end

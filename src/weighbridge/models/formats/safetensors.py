"""Tensors of a safetensors file, from its header: 8 bytes of length, then JSON.

    file   = u64 length, header[length], data
    header = {"name": {"dtype": "BF16", "shape": [4096, 4096], "data_offsets": [begin, end]}, ...,
              "__metadata__": {"format": "pt"}}

Offsets count from the end of the header, and the tensors cover the data without holes. Source:
huggingface/safetensors, README.md and safetensors/src/tensor.rs (fn validate, enum Dtype).

At most two reads. The first is FIRST_READ bytes, or what `expected` makes of the size of a sharded
model's index, where most headers are either far smaller (3 kB) or larger than any fixed size; the
second fetches what the first left over, so that no byte is read twice.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from typing import Any

from weighbridge.base.dtypes import SAFETENSORS, DType
from weighbridge.base.errors import BadFileError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models.formats import ByteRange, Plan
from weighbridge.models.formats.strict_json import collector_paused, decode, short, strict_json
from weighbridge.models.tensors import CheckpointTensor

FIRST_READ = 100_000  # for a lone file: about 900 tensors; what huggingface_hub reads as well
MAX_HEADER = 40_000_000  # 300,000 tensors; the format allows 100,000,000 (tensor.rs)
NO_LENGTH = 1 << 56  # lengths from here on: the file is text, or another format
MAX_RANK = 64  # torch's limit; without one, a product of a million numbers would be computed
MAX_COUNT = 1 << 63

# Bytes per tensor: 45 and the name in an index (`"name": "model-00001-of-00163.safetensors",`),
# some 85 and the name in a header. Shards differ: most hold up to a sixth more than the average of
# tensors, and small ones a few tensors more.
SHARE, MORE = 1.6, 2048

Row = tuple[CheckpointTensor, int]  # a tensor and where its data begins
WHOLE = {int}
new = tuple.__new__  # half the cost of the record's own, which takes names


@frozen_record
class Header:
    """A file's tensors. `file_bytes`: the size that the file must have; `header_bytes`: the bytes
    before the data."""

    tensors: tuple[CheckpointTensor, ...]
    metadata: Mapping[str, str]
    header_bytes: int
    file_bytes: int


def expected(index_bytes: int, shards: int) -> int:
    """Return the bytes of a first read that likely holds one shard's header, from the index's size
    and the number of shards."""
    return MORE + round(SHARE * index_bytes / max(1, shards))


def header(
    size: int | None = None, *, first_read: int = FIRST_READ, file: str = ""
) -> Plan[Header]:
    """Return the tensors of a file's header. `size`: the file's, if known; `file`: a name for the
    tensors."""
    want = max(8, min(first_read, MAX_HEADER))
    data = yield ByteRange(0, want)
    if len(data) < 8:
        raise BadFileError(sentence("safetensors.short", count=len(data)))
    length = int.from_bytes(data[:8], "little")
    stop = 8 + length
    _check_length(length, size)
    if want <= len(data) < stop:
        data += yield ByteRange(len(data), stop)
    if len(data) < stop:
        raise BadFileError(sentence("safetensors.cut", count=len(data), length=length))
    with collector_paused():
        parsed = _parse(data[8:stop], file)
    if size is not None and size != parsed.file_bytes:
        raise BadFileError(sentence("safetensors.size", size=size, described=parsed.file_bytes))
    return parsed


def _check_length(length: int, size: int | None) -> None:
    if length >= NO_LENGTH:
        raise BadFileError(sentence("safetensors.begins"))
    if length > MAX_HEADER:
        raise BadFileError(sentence("safetensors.long", length=length, most=MAX_HEADER))
    if size is not None and 8 + length > size:
        raise BadFileError(sentence("safetensors.claims", length=length, size=size))


def _parse(data: bytes, file: str) -> Header:
    entries = decode(data, MAX_HEADER)
    if not isinstance(entries, dict):
        raise BadFileError(sentence("safetensors.no_object"))
    if b"\\" in data or data.count(b'"') != _quotes(entries):
        del entries  # or both would be in memory at once
        entries = strict_json(data, MAX_HEADER)
    metadata = _metadata(entries.pop("__metadata__", None))
    rows = _rows(entries, file)
    stop = 8 + len(data)
    return Header(
        tensors=tuple(tensor for tensor, _ in rows),
        metadata=metadata,
        header_bytes=stop,
        file_bytes=stop + _check_cover(rows),
    )


def _quotes(entries: Mapping[str, Any]) -> int:
    """Return the number of quotes in a header of these entries if no key occurs twice.

    A tensor has five strings: its name, three keys, its dtype. The parser silently drops the first
    of two equal keys, and then there are more; a hook that sees each key costs a third more.
    """
    metadata = entries.get("__metadata__")
    strings = 0 if "__metadata__" not in entries else 1 - 5
    strings += 2 * len(metadata) if isinstance(metadata, dict) else 0
    return 2 * (5 * len(entries) + strings)


def _metadata(entry: Any) -> dict[str, str]:
    if entry is None:
        return {}
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise BadFileError(sentence("safetensors.metadata"))
    return entry


def _rows(entries: Mapping[str, Any], file: str) -> list[Row]:
    """Return each tensor with the start of its data; dtypes and shapes seen before are not checked
    again."""
    known: dict[tuple[Any, ...], tuple[DType, tuple[int, ...], int]] = {}
    rows: list[Row] = []
    for name, entry in entries.items():
        try:
            begin, end = entry["data_offsets"]
            stored_shape = entry["shape"]
            dtype, shape, nbytes = known[(entry["dtype"], *stored_shape)]
        except (TypeError, KeyError, ValueError):
            rows.append(_row(name, entry, file))
            tensor = rows[-1][0]
            known[(entry["dtype"], *tensor.shape)] = tensor.dtype, tensor.shape, tensor.nbytes
            continue
        plain = type(begin) is type(end) is int and type(stored_shape) is list
        plain = plain and set(map(type, stored_shape)) <= WHOLE  # True and 1.0 are equal to 1
        if plain and begin >= 0 and end < MAX_COUNT and end - begin == nbytes:
            rows.append((new(CheckpointTensor, (name, dtype, shape, nbytes, file)), begin))
        else:
            rows.append(_row(name, entry, file))
    return rows


def _row(name: str, entry: Any, file: str) -> Row:
    try:
        dtype, shape = SAFETENSORS[entry["dtype"]], entry["shape"]
        begin, end = entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _broken(name, entry) from None
    if type(shape) is not list or len(shape) > MAX_RANK:
        raise BadFileError(sentence("safetensors.shape", name=short(name), most=MAX_RANK))
    for number in (begin, end, *shape):
        if type(number) is not int or not 0 <= number < MAX_COUNT:
            raise BadFileError(
                sentence("safetensors.no_size", name=short(name), value=short(number))
            )
    nbytes = end - begin
    count = prod(shape)
    if nbytes * dtype.block != count * dtype.nbytes:
        raise _wrong_size(name, dtype, shape, nbytes)
    return CheckpointTensor(name, dtype, tuple(shape), nbytes, file), begin


def _wrong_size(name: str, dtype: DType, shape: list[int], nbytes: int) -> BadFileError:
    count = prod(shape)
    sizes = "x".join(map(str, shape))[:60] or sentence("scalar")
    what = sentence("safetensors.shape_of", name=short(name), shape=sizes, dtype=dtype.name)
    if count % dtype.block:
        return BadFileError(sentence("safetensors.part_byte", what=what))
    if count >= MAX_COUNT:
        return BadFileError(sentence("safetensors.far_more", what=what, stored=nbytes))
    return BadFileError(
        sentence("safetensors.takes", what=what, takes=dtype.size(count), stored=nbytes)
    )


def _broken(name: str, entry: Any) -> BadFileError:
    """Return an error that says why an entry cannot be read."""
    if not isinstance(entry, dict):
        return BadFileError(sentence("object_expected", key=short(name), value=short(entry)))
    missing = [key for key in ("dtype", "shape", "data_offsets") if key not in entry]
    if missing:
        return BadFileError(sentence("safetensors.lacks", name=short(name), key=missing[0]))
    dtype = entry["dtype"]
    if not isinstance(dtype, str) or dtype not in SAFETENSORS:
        known = ", ".join(SAFETENSORS)
        return BadFileError(
            sentence("safetensors.dtype", name=short(name), dtype=short(dtype), known=known)
        )
    return BadFileError(sentence("safetensors.two_offsets", name=short(name)))


def _check_cover(rows: list[Row]) -> int:
    """Return the size of the data in bytes. Raises BadFileError unless the tensors cover it without
    holes or overlaps."""
    position = 0
    if any(begin >= after for (_, begin), (_, after) in pairwise(rows)):
        rows = sorted(rows, key=_place)
    for tensor, begin in rows:
        if begin != position:
            key = "safetensors.overlaps" if begin < position else "safetensors.hole"
            values = {"name": short(tensor.name), "begin": begin, "position": position}
            raise BadFileError(sentence(key, **values))
        position += tensor.nbytes
    return position


def _place(row: Row) -> tuple[int, int]:
    return row[1], row[0].nbytes

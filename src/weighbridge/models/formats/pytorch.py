"""Tensors of a .bin, .pt, .pth or .ckpt file, in either format of torch.save.

    zip, since PyTorch 1.6   <root>/data.pkl, <root>/data/0, <root>/data/1, ..., directory,
                             [zip64 end], end
    legacy, before           magic number, protocol version, system, THE VALUE, storage keys,
                             (u64 count, data)...

A zip takes three reads at most, for a usual model two: the end of the file with its directory, and
data.pkl. Entries are stored, not compressed, so that they can be mapped.

Source: PKWARE APPNOTE.TXT 6.3.9, sections 4.3 and 4.5; caffe2/serialize/inline_container.cc and
torch/serialization.py (fn _save, _legacy_save, _legacy_load), torch 2.13.
"""

from collections.abc import Mapping
from struct import Struct
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.formats import ByteRange, Plan, Prefix
from weighbridge.models.formats.checkpoint import Checkpoint, Storages, checkpoint, known
from weighbridge.models.formats.strict_json import short
from weighbridge.models.formats.unpickle import Sequence, unpickle

FIRST_READ = 1 << 16  # of a zip, this is data.pkl of about 400 tensors
ZIP = b"PK\x03\x04"
PICKLE = (b"\x80", b"L")  # since protocol 2; before, the magic number as text
TAR = b"ustar"  # at byte 257, POSIX.1-1988


def pytorch(size: int | None = None, *, file: str = "") -> Plan[Checkpoint]:
    """Return the tensors of a file in either format; `file` is a name for them."""
    head = yield ByteRange(0, FIRST_READ)
    if head.startswith(ZIP):
        return (yield from torch_zip(size, head=head, file=file))
    if head.startswith(TAR, 257):
        raise BadFileError(sentence("torch.tar"))
    for magic, name in ((b"GGUF", "a GGUF"), (b"\x89HDF", "an HDF5 (Keras)")):
        if head.startswith(magic):
            raise BadFileError(sentence("torch.other_file", name=name))
    if head[:1] not in PICKLE:
        raise BadFileError(sentence("torch.begins", head=head[:4]))
    return (yield from torch_legacy(size, head=head, file=file))


# ---- The zip

TAIL = 22 + 65_535  # the end record with the longest comment; also a directory of 600 entries
MAX_DIRECTORY = 1 << 26
MAX_ENTRIES = 1 << 19
MAX_PICKLE = 1 << 26
PADDING = 512  # extra field of a local header, with which torch aligns data to 64 bytes

END = Struct("<4sHHHHIIH")
END64 = Struct("<4sQHHIIQQQQ")
LOCATOR64 = Struct("<4sIQI")
ENTRY = Struct("<4sHHHHHHIIIHHHHHII")
LOCAL = Struct("<4sHHHHHIIIHH")
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF  # the number is in the zip64 record


class _ZipEntry(NamedTuple):
    method: int
    encrypted: bool
    packed: int
    size: int
    offset: int


class _Directory(NamedTuple):
    offset: int
    size: int
    entries: int
    behind: int  # bytes from its end to the end of the file


def torch_zip(size: int | None = None, *, head: bytes = b"", file: str = "") -> Plan[Checkpoint]:
    """Return the tensors of a zip. `head`: the file's beginning, if already read; `file`: a name
    for the tensors."""
    tail = yield ByteRange(-TAIL, 0)
    place = _find_directory(tail)
    file_bytes = place.offset + place.size + place.behind
    if size is not None and size != file_bytes:
        raise BadFileError(sentence("zip.size", size=size, described=file_bytes))
    start = len(tail) - place.behind - place.size
    if start >= 0:
        raw = tail[start : start + place.size]
    else:
        raw = yield ByteRange(place.offset, place.offset + place.size)
    entries = _entries(raw, place)
    root = _root_folder(entries)
    data = yield from _content(f"{root}/data.pkl", entries, place, head)
    storages = Storages()
    prefix = Prefix(len(data), first_read=1, limit=MAX_PICKLE, data=data, what="data.pkl")
    value = yield from prefix.whole(lambda p: unpickle(p, known, storages.persistent))
    for key, nbytes in storages.nbytes.items():
        _check_storage(entries.get(f"{root}/data/{key}"), key, nbytes)
    return checkpoint(value, storages, file_bytes=file_bytes, file=file)


def _find_directory(tail: bytes) -> _Directory:
    """Return the place of the zip's directory, from the end record or the zip64 record before
    it."""
    end_record = tail.rfind(b"PK\x05\x06")
    if end_record < 0 or len(tail) < end_record + END.size:
        raise BadFileError(sentence("zip.no_directory"))
    _, _, _, _, count, size, offset, comment = END.unpack_from(tail, end_record)
    if end_record + END.size + comment != len(tail):
        raise BadFileError(sentence("zip.follows"))
    behind = len(tail) - end_record
    locator = end_record - LOCATOR64.size
    if locator >= 0 and tail.startswith(b"PK\x06\x07", locator):
        record = locator - END64.size
        if record < 0 or not tail.startswith(b"PK\x06\x06", record):
            raise BadFileError(sentence("zip.record_place"))
        *_, count, size, offset = END64.unpack_from(tail, record)
        behind = len(tail) - record
    elif count == FULL16 or FULL32 in (size, offset):
        raise BadFileError(sentence("zip.no_record"))
    if size > MAX_DIRECTORY or count > MAX_ENTRIES or count * ENTRY.size > size:
        raise BadFileError(sentence("zip.claims", size=size, count=count))
    return _Directory(offset, size, count, behind)


def _entries(raw: bytes, place: _Directory) -> dict[str, _ZipEntry]:
    entries: dict[str, _ZipEntry] = {}
    position = 0
    for _ in range(place.entries):
        if not raw.startswith(b"PK\x01\x02", position) or len(raw) < position + ENTRY.size:
            raise BadFileError(sentence("zip.broken_entry", count=len(entries)))
        fields = ENTRY.unpack_from(raw, position)
        flags, method, packed, size = fields[3], fields[4], fields[8], fields[9]
        name_size, extra_size, comment_size, offset = *fields[10:13], fields[16]
        position += ENTRY.size
        name = raw[position : position + name_size].decode(errors="replace")
        extra = raw[position + name_size : position + name_size + extra_size]
        position += name_size + extra_size + comment_size
        if FULL32 in (size, packed, offset):
            size, packed, offset = _zip64(extra, (size, packed, offset), name)
        if name in entries:
            raise BadFileError(sentence("zip.twice", name=short(name)))
        entries[name] = _ZipEntry(method, bool(flags & 1), packed, size, offset)
    _check_places(entries, place)
    return entries


def _zip64(extra: bytes, small: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Return the values of `small` (size, packed size, offset) with those that do not fit into 32
    bits replaced from the extra field (APPNOTE 4.5.3)."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = (
            extra[position] + 256 * extra[position + 1],
            extra[position + 2] + 256 * extra[position + 3],
        )
        body = extra[position + 4 : position + 4 + length]
        position += 4 + length
        if kind == 1 and len(body) >= 8 * sum(n == FULL32 for n in small):
            wide = (int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body), 8))
            return tuple(next(wide) if n == FULL32 else n for n in small)
    raise BadFileError(sentence("zip.no_sizes", name=short(name)))


def _check_places(entries: Mapping[str, _ZipEntry], place: _Directory) -> None:
    """Raise BadFileError for entries that overlap the directory or each other."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        if entry.offset < end:
            raise BadFileError(sentence("zip.within", name=short(name)))
        end = entry.offset + LOCAL.size + entry.packed
        if end > place.offset:
            raise BadFileError(sentence("zip.beyond", name=short(name)))


def _root_folder(entries: Mapping[str, _ZipEntry]) -> str:
    """Return the root folder in the zip, which torch names after the file."""
    pickles = [n for n in entries if n.endswith("/data.pkl") and n.count("/") == 1]
    if len(pickles) != 1:
        raise BadFileError(sentence("zip.not_torch"))
    return pickles[0].removesuffix("/data.pkl")


def _content(
    name: str, entries: Mapping[str, _ZipEntry], place: _Directory, head: bytes
) -> Plan[bytes]:
    """Return the bytes of an uncompressed entry; `head`: the file's beginning, if already read."""
    entry = entries[name]
    if entry.method or entry.encrypted or entry.packed != entry.size:
        raise BadFileError(sentence("zip.packed", name=short(name)))
    if entry.size > MAX_PICKLE:
        raise BadFileError(sentence("zip.large", name=short(name), most=MAX_PICKLE))
    length = LOCAL.size + len(name.encode()) + PADDING + entry.size
    stop = min(place.offset, entry.offset + length)
    data = head[entry.offset : stop]
    if len(data) < stop - entry.offset:
        data += yield ByteRange(entry.offset + len(data), stop)
    if len(data) < LOCAL.size or not data.startswith(b"PK\x03\x04"):
        raise BadFileError(sentence("zip.no_entry", name=short(name)))
    *_, name_size, extra_size = LOCAL.unpack_from(data)
    start = LOCAL.size + name_size + extra_size
    if len(data) < start + entry.size:
        data += yield ByteRange(entry.offset + len(data), entry.offset + start + entry.size)
    if len(data) < start + entry.size:
        raise BadFileError(f"ends within {short(name)}")
    return data[start : start + entry.size]


def _check_storage(entry: _ZipEntry | None, key: str, nbytes: int) -> None:
    if entry is None:
        raise BadFileError(sentence("zip.no_storage", key=short(key)))
    if entry.method or entry.encrypted:
        raise BadFileError(sentence("zip.packed_storage", key=short(key)))
    if entry.size != nbytes:
        raise BadFileError(
            sentence("zip.storage_size", size=entry.size, key=short(key), expected=nbytes)
        )


# ---- The row of pickles

MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
PROTOCOL = 1001
FIRST_PICKLES = 1 << 17  # pickles of 700 tensors
MAX_READ = 1 << 26


def torch_legacy(
    size: int | None = None, *, head: bytes = b"", first_read: int = FIRST_PICKLES, file: str = ""
) -> Plan[Checkpoint]:
    """Return the tensors of a legacy file. `head`: the file's beginning, if already read; `file`: a
    name for the tensors."""
    prefix = Prefix(size, first_read=first_read, limit=MAX_READ, data=head, what="pickles")
    magic = yield from prefix.whole(unpickle)
    if not _is(magic, MAGIC):
        raise BadFileError(sentence("pickle.not_torch"))
    protocol = yield from prefix.whole(unpickle)
    if not _is(protocol, PROTOCOL):
        raise BadFileError(sentence("torch.protocol", protocol=short(protocol), known=PROTOCOL))
    yield from prefix.whole(unpickle)  # byte order and sizes of C types, beside the point
    value, storages = yield from prefix.whole(_value)
    keys = yield from prefix.whole(unpickle)
    data = sum(8 + storages.size_of(key) for key in _keys(keys))
    file_bytes = prefix.position + data
    if size is not None and size < file_bytes:
        raise BadFileError(sentence("torch.size", size=size, end=file_bytes))
    return checkpoint(value, storages, file_bytes=file_bytes, file=file)


def _is(value: Any, number: int) -> bool:
    return type(value) is int and value == number


def _value(prefix: Prefix) -> tuple[Any, Storages]:
    """Return the unpickled value, and the storages that it refers to."""
    storages = Storages()
    return unpickle(prefix, known, storages.persistent), storages


def _keys(value: Any) -> list[str]:
    keys = value if isinstance(value, Sequence) else [value]
    if not all(isinstance(key, str | int) for key in keys):
        raise BadFileError(sentence("torch.no_keys"))
    names = [str(key) for key in keys]
    if len(set(names)) != len(names):
        raise BadFileError(sentence("torch.twice"))
    return names

"""Which tensors does a torch.save file hold (since PyTorch 1.6)? A zip of a pickle and storages.

    archive = <root>/data.pkl, <root>/data/0, <root>/data/1, ..., directory, [zip64 end], end

Three reads at most, for a usual model two: the end of the file with its directory, and data.pkl.
Entries are stored, not compressed, so that they can be mapped. Source: PKWARE APPNOTE.TXT 6.3.9,
sections 4.3 and 4.5; caffe2/serialize/inline_container.cc and torch/serialization.py (fn _save),
torch 2.13.
"""

from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple

from weighbridge.errors import BadFileError
from weighbridge.formats import ByteRange, Plan
from weighbridge.formats.checkpoint import Checkpoint, Storages, checkpoint, known
from weighbridge.formats.prefix import Prefix
from weighbridge.formats.strict_json import short
from weighbridge.formats.unpickle import unpickle

TAIL = 22 + 65_535  # the end record with the longest comment; also a directory of 600 entries
MAX_DIRECTORY = 1 << 26
MAX_ENTRIES = 1 << 19
MAX_PICKLE = 1 << 26
PADDING = 512  # extra field of a local header: torch aligns data to 64 bytes with it

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
    """`head` is what was read already of the beginning; `file` goes into the tensors."""
    tail = yield ByteRange(-TAIL, 0)
    place = _find_directory(tail)
    file_bytes = place.offset + place.size + place.behind
    if size is not None and size != file_bytes:
        raise BadFileError(f"has {size:,} bytes where its zip directory describes {file_bytes:,}")
    start = len(tail) - place.behind - place.size
    if start >= 0:
        raw = tail[start : start + place.size]
    else:
        raw = yield ByteRange(place.offset, place.offset + place.size)
    entries = _entries(raw, place)
    root = _root(entries)
    data = yield from _content(f"{root}/data.pkl", entries, place, head)
    storages = Storages()
    prefix = Prefix(len(data), first_read=1, limit=MAX_PICKLE, data=data, what="data.pkl")
    value = yield from prefix.whole(lambda p: unpickle(p, known, storages.persistent))
    for key, nbytes in storages.nbytes.items():
        _check_storage(entries.get(f"{root}/data/{key}"), key, nbytes)
    return checkpoint(value, storages, file_bytes=file_bytes, file=file)


def _find_directory(tail: bytes) -> _Directory:
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + END.size:
        raise BadFileError("is not a whole zip archive: it has no directory at its end")
    _, _, _, _, count, size, offset, comment = END.unpack_from(tail, at)
    if at + END.size + comment != len(tail):
        raise BadFileError("is not a whole zip archive: something follows its directory")
    behind = len(tail) - at
    locator = at - LOCATOR64.size
    if locator >= 0 and tail.startswith(b"PK\x06\x07", locator):
        record = locator - END64.size
        if record < 0 or not tail.startswith(b"PK\x06\x06", record):
            raise BadFileError("is a broken zip archive: its zip64 record is not before its end")
        *_, count, size, offset = END64.unpack_from(tail, record)
        behind = len(tail) - record
    elif count == FULL16 or FULL32 in (size, offset):
        raise BadFileError("is a broken zip archive: it needs a zip64 record and has none")
    if size > MAX_DIRECTORY or count > MAX_ENTRIES or count * ENTRY.size > size:
        raise BadFileError(f"claims a zip directory of {size:,} bytes for {count:,} entries")
    return _Directory(offset, size, count, behind)


def _entries(raw: bytes, place: _Directory) -> dict[str, _ZipEntry]:
    entries: dict[str, _ZipEntry] = {}
    at = 0
    for _ in range(place.entries):
        if not raw.startswith(b"PK\x01\x02", at) or len(raw) < at + ENTRY.size:
            raise BadFileError(f"has a broken zip directory at entry {len(entries):,}")
        fields = ENTRY.unpack_from(raw, at)
        flags, method, packed, size = fields[3], fields[4], fields[8], fields[9]
        name_size, extra_size, comment_size, offset = *fields[10:13], fields[16]
        at += ENTRY.size
        name = raw[at : at + name_size].decode(errors="replace")
        extra = raw[at + name_size : at + name_size + extra_size]
        at += name_size + extra_size + comment_size
        if FULL32 in (size, packed, offset):
            size, packed, offset = _zip64(extra, (size, packed, offset), name)
        if name in entries:
            raise BadFileError(f"has the zip entry {short(name)} twice")
        entries[name] = _ZipEntry(method, bool(flags & 1), packed, size, offset)
    _check_places(entries, place)
    return entries


def _zip64(extra: bytes, small: tuple[int, ...], name: str) -> tuple[int, ...]:
    """APPNOTE 4.5.3: of size, packed size and offset those that did not fit, in this order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = extra[at] + 256 * extra[at + 1], extra[at + 2] + 256 * extra[at + 3]
        body = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 1 and len(body) >= 8 * sum(n == FULL32 for n in small):
            wide = (int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body), 8))
            return tuple(next(wide) if n == FULL32 else n for n in small)
    raise BadFileError(f"has the zip entry {short(name)} without its zip64 sizes")


def _check_places(entries: Mapping[str, _ZipEntry], place: _Directory) -> None:
    """Entries lie before the directory, and not in one another."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        if entry.offset < end:
            raise BadFileError(f"has the zip entry {short(name)} within another")
        end = entry.offset + LOCAL.size + entry.packed
        if end > place.offset:
            raise BadFileError(f"has the zip entry {short(name)} beyond its directory")


def _root(entries: Mapping[str, _ZipEntry]) -> str:
    """torch names the folder inside after the file, so it can be anything."""
    found = [n for n in entries if n.endswith("/data.pkl") and n.count("/") == 1]
    if len(found) != 1:
        raise BadFileError("is a zip archive but not of PyTorch: it has no <name>/data.pkl")
    return found[0].removesuffix("/data.pkl")


def _content(
    name: str, entries: Mapping[str, _ZipEntry], place: _Directory, head: bytes
) -> Plan[bytes]:
    entry = entries[name]
    if entry.method or entry.encrypted or entry.packed != entry.size:
        raise BadFileError(f"has {short(name)} compressed or encrypted; PyTorch stores it plainly")
    if entry.size > MAX_PICKLE:
        raise BadFileError(f"has {short(name)} of more than {MAX_PICKLE:,} bytes, our limit")
    length = LOCAL.size + len(name.encode()) + PADDING + entry.size
    stop = min(place.offset, entry.offset + length)
    data = head[entry.offset : stop]
    if len(data) < stop - entry.offset:
        data += yield ByteRange(entry.offset + len(data), stop)
    if len(data) < LOCAL.size or not data.startswith(b"PK\x03\x04"):
        raise BadFileError(f"has no zip entry where {short(name)} should begin")
    *_, name_size, extra_size = LOCAL.unpack_from(data)
    start = LOCAL.size + name_size + extra_size
    if len(data) < start + entry.size:
        data += yield ByteRange(entry.offset + len(data), entry.offset + start + entry.size)
    if len(data) < start + entry.size:
        raise BadFileError(f"ends within {short(name)}")
    return data[start : start + entry.size]


def _check_storage(entry: _ZipEntry | None, key: str, nbytes: int) -> None:
    if entry is None:
        raise BadFileError(f"refers to the storage {short(key)}, which it does not hold")
    if entry.method or entry.encrypted:
        raise BadFileError(f"has storage {short(key)} compressed or encrypted; PyTorch does not")
    if entry.size != nbytes:
        raise BadFileError(f"holds {entry.size:,} bytes of storage {short(key)}, not {nbytes:,}")

"""Which tensors does a torch.save file of PyTorch before 1.6 hold? Five pickles, then storages.

    file = magic number, protocol version, system, THE VALUE, storage keys, (u64 count, data)...

Source: torch/serialization.py (fn _legacy_save, _legacy_load), torch 2.13.
"""

from typing import Any

from weighbridge.errors import BadFileError
from weighbridge.formats import Plan
from weighbridge.formats.checkpoint import Checkpoint, Storages, checkpoint, known
from weighbridge.formats.prefix import Prefix
from weighbridge.formats.strict_json import short
from weighbridge.formats.unpickle import Sequence, unpickle

MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
PROTOCOL = 1001
FIRST_READ = 1 << 17  # pickles of 700 tensors
MAX_READ = 1 << 26


def torch_legacy(
    size: int | None = None, *, head: bytes = b"", first_read: int = FIRST_READ, file: str = ""
) -> Plan[Checkpoint]:
    """`head` is what was read already of the beginning; `file` goes into the tensors."""
    prefix = Prefix(size, first_read=first_read, limit=MAX_READ, data=head, what="pickles")
    magic = yield from prefix.whole(unpickle)
    if not _is(magic, MAGIC):
        raise BadFileError("is a pickle, but not one that torch.save wrote")
    protocol = yield from prefix.whole(unpickle)
    if not _is(protocol, PROTOCOL):
        raise BadFileError(f"has protocol {short(protocol)} of torch.save; known: {PROTOCOL}")
    yield from prefix.whole(unpickle)  # byte order and sizes of C types, beside the point
    value, storages = yield from prefix.whole(_value)
    keys = yield from prefix.whole(unpickle)
    data = sum(8 + storages.size_of(key) for key in _keys(keys))
    file_bytes = prefix.at + data
    if size is not None and size < file_bytes:
        raise BadFileError(f"has {size:,} bytes where its storages end at {file_bytes:,}")
    return checkpoint(value, storages, file_bytes=file_bytes, file=file)


def _is(found: Any, number: int) -> bool:
    return type(found) is int and found == number


def _value(prefix: Prefix) -> tuple[Any, Storages]:
    storages = Storages()
    return unpickle(prefix, known, storages.persistent), storages


def _keys(found: Any) -> list[str]:
    keys = found if isinstance(found, Sequence) else [found]
    if not all(isinstance(key, str | int) for key in keys):
        raise BadFileError("has a list of storage keys that are no keys")
    names = [str(key) for key in keys]
    if len(set(names)) != len(names):
        raise BadFileError("lists a storage twice")
    return names

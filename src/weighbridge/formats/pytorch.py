"""A .bin, .pt, .pth or .ckpt file: which of PyTorch's formats is it?"""

from weighbridge.errors import BadFileError
from weighbridge.formats import ByteRange, Plan
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.torch_legacy import torch_legacy
from weighbridge.formats.torch_zip import torch_zip

FIRST_READ = 1 << 16  # of a zip, this is data.pkl of about 400 tensors
ZIP = b"PK\x03\x04"
PICKLE = (b"\x80", b"L")  # since protocol 2; before, the magic number as text
TAR = b"ustar"  # at byte 257, POSIX.1-1988


def pytorch(size: int | None = None, *, file: str = "") -> Plan[Checkpoint]:
    head = yield ByteRange(0, FIRST_READ)
    if head.startswith(ZIP):
        return (yield from torch_zip(size, head=head, file=file))
    if head.startswith(TAR, 257):
        raise BadFileError("is a tar checkpoint of PyTorch 0.1; load it in PyTorch and save it")
    for magic, name in ((b"GGUF", "a GGUF"), (b"\x89HDF", "an HDF5 (Keras)")):
        if head.startswith(magic):
            raise BadFileError(f"is {name} file under the name of a PyTorch checkpoint")
    if head[:1] not in PICKLE:
        raise BadFileError(f"begins with {head[:4]!r}: neither a zip archive nor a pickle")
    return (yield from torch_legacy(size, head=head, file=file))

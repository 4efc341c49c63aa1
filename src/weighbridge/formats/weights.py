"""Which parser reads this file of weights? Each is imported when its first file is met."""

from weighbridge.formats import Plan
from weighbridge.tensors import CheckpointTensor

PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def weights_file(
    path: str, size: int | None, first_read: int | None = None
) -> Plan[tuple[CheckpointTensor, ...]]:
    """The tensors of one file, ties once; `first_read` is what a header is likely to take."""
    if path.endswith(PICKLES):
        return (yield from _pickled(path, size))
    from weighbridge.formats import safetensors

    first = safetensors.FIRST_READ if first_read is None else first_read
    found = yield from safetensors.header(size, first_read=first, file=path)
    return found.tensors


def _pickled(path: str, size: int | None) -> Plan[tuple[CheckpointTensor, ...]]:
    from weighbridge.formats.pytorch import pytorch

    found = yield from pytorch(size, file=path)
    tied = found.ties()
    return tuple(s.tensor for s in found.tensors if s.tensor.name not in tied)

"""Which parser reads this file of weights? Each is imported when its first file is met."""

from collections.abc import Collection

from weighbridge.formats import Plan
from weighbridge.tensors import Tensor

PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def weights_file(
    path: str, size: int | None, names: Collection[str] | None = None
) -> Plan[tuple[Tensor, ...]]:
    """The tensors of one file, ties once; `names` are those that an index promises."""
    if path.endswith(PICKLES):
        return (yield from _pickled(path, size))
    from weighbridge.formats import safetensors

    first = safetensors.FIRST_READ if names is None else safetensors.expected(names)
    found = yield from safetensors.header(size, first_read=first, file=path)
    return found.tensors


def _pickled(path: str, size: int | None) -> Plan[tuple[Tensor, ...]]:
    from weighbridge.formats.pytorch import pytorch

    found = yield from pytorch(size, file=path)
    tied = found.ties()
    return tuple(s.tensor for s in found.tensors if s.tensor.name not in tied)

"""A live `nn.Module` (on any device, the meta device included) as a blueprint.

Nothing here imports torch: whoever has a module has torch already. Kinds come from the classes of
the modules that hold the parameters; ties from identity.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from weighbridge.arch.blueprint import Blueprint, Buffer, Param, ParamKind

# Class name of the holding module -> kind of its weight. Subclasses count as what they extend.
KINDS: dict[str, ParamKind] = {
    "Embedding": "embedding",
    "Conv1D": "conv1d",
    "Conv1d": "conv",
    "Conv2d": "conv",
    "Conv3d": "conv",
    "ConvTranspose1d": "conv",
    "ConvTranspose2d": "conv",
    "Linear": "linear",
}


def from_module(module: Any, *, dtype: str = "") -> Blueprint:
    """Every parameter and buffer of `module`. A tied parameter names its owner.

    With `dtype`, the module's own, parameters in another one are marked with theirs.
    """
    holders = dict(module.named_modules())
    return Blueprint(
        cls=type(module).__name__,
        params=tuple(_params(module, holders, dtype)),
        buffers=tuple(_buffers(module, holders)),
        blocks=tuple(_blocks(module, holders)),
    )


def own_dtype(module: Any) -> str:
    """The dtype that most values of `module` have; "" where it has no parameters."""
    counts: Counter[str] = Counter()
    for tensor in module.parameters():
        counts[_dtype(tensor)] += tensor.numel()
    return max(counts, key=counts.__getitem__, default="")


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _params(module: Any, holders: dict[str, Any], dtype: str) -> Iterator[Param]:
    owners: dict[int, str] = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        owner = owners.setdefault(id(tensor), name)
        path, _, leaf = name.rpartition(".")
        yield Param(
            name,
            tuple(tensor.shape),
            _kind(holders[path], leaf, tensor.dim()),
            dtype="" if not dtype or _dtype(tensor) == dtype else _dtype(tensor),
            tied="" if owner == name else owner,
        )


def _kind(holder: Any, leaf: str, dimensions: int) -> ParamKind:
    if leaf.endswith("bias"):
        return "bias"
    classes = [cls.__name__ for cls in type(holder).__mro__]
    if any("Norm" in name for name in classes):
        return "norm"
    if leaf == "weight":
        for name in classes:
            if name in KINDS:
                return KINDS[name]
    if dimensions == 3 and "Experts" in classes[0]:
        return "experts"
    return "other"


def _buffers(module: Any, holders: dict[str, Any]) -> Iterator[Buffer]:
    for name, tensor in module.named_buffers():
        path, _, leaf = name.rpartition(".")
        yield Buffer(
            name,
            tuple(tensor.shape),
            _dtype(tensor),
            persistent=leaf not in holders[path]._non_persistent_buffers_set,
        )


def _blocks(module: Any, holders: dict[str, Any]) -> Iterator[str]:
    """Paths of the modules that device_map="auto" keeps whole."""
    whole = set(getattr(module, "_no_split_modules", None) or ())
    return (path for path, holder in holders.items() if type(holder).__name__ in whole)

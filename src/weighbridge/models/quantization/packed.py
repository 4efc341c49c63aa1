"""Parameters behind stored tensors: the inverse of `schemes`.

    logical(tensors, quantization) -> parameters with their true shapes, and notes

Scales, zero points, maps and indices are no parameters; they are counted in the bytes of the one
they serve. Tensors that look packed and fit no layout are counted as stored, and a note says so;
whether they agree with a config is for checkpoint/agreement.py.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from math import prod
from typing import Any

from weighbridge.base.dtypes import TORCH
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.quantization.layouts import (
    ALONE,
    EXTRAS,
    LAYOUTS,
    Layout,
    Packed,
    Shape,
    beside,
)
from weighbridge.models.tensors import CheckpointTensor


class Logical(NamedTuple):
    """A parameter: its true shape (flat, or rows of groups, if only a blob in the file has it), and
    its tensors' names and bytes."""

    name: str
    shape: Shape
    stored: tuple[str, ...]
    format: str  # a layout's name, or the dtype if not quantized
    nbytes: int

    @property
    def numel(self) -> int:
        return prod(self.shape)


class Unpacked(NamedTuple):
    params: tuple[Logical, ...]
    notes: tuple[str, ...]


INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32"})


def logical(
    tensors: Iterable[CheckpointTensor], quantization: Mapping[str, Any] | None
) -> Unpacked:
    """Return the parameters behind `tensors`, in order, and notes. `quantization`: the config's
    settings unchanged (`quantization_config`, hf_quant_config.json, MLX's `quantization`), or
    None."""
    index = {tensor.name: tensor for tensor in tensors}
    raw = flat(quantization or {})
    ends = {name.rpartition(".")[2] for name in index}
    files = PackedFiles(index, raw, _candidates(ends))
    likely = (tensor for tensor in index.values() if tensor.dtype.name in files.candidates)
    packed = {tensor.name: parameter for tensor in likely if (parameter := _packed(tensor, files))}
    helpers = {
        name for main, parameter in packed.items() for name in parameter.stored if name != main
    }
    whole = [tensor for tensor in index.values() if tensor.name not in helpers]
    plain = [
        tensor for tensor in whole if tensor.name not in packed and not tensor.name.endswith(ALONE)
    ]
    params = packed | {
        tensor.name: (
            Logical(tensor.name, tensor.shape, (tensor.name,), tensor.dtype.name, tensor.nbytes)
        )
        for tensor in plain
    }
    notes = (*_guessed_bits_note(params.values(), raw), *_unknown_layout_notes(plain))
    return Unpacked(tuple(params[tensor.name] for tensor in whole if tensor.name in params), notes)


def flat(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the quantization settings, which modelopt's hf_quant_config.json nests one level
    deeper."""
    inner = raw.get("quantization")
    return inner if isinstance(inner, Mapping) else raw


class Candidate(NamedTuple):
    layout: Layout
    needs: frozenset[str]
    companions: tuple[str, ...]  # those that it needs, and those of EXTRAS that end any name here


class PackedFiles(NamedTuple):
    tensors: Mapping[str, CheckpointTensor]
    raw: Mapping[str, Any]
    candidates: Mapping[str, tuple[Candidate, ...]]  # by dtype, where there are any


def _candidates(ends: Iterable[str]) -> dict[str, tuple[Candidate, ...]]:
    """Return the possible layouts by dtype for tensors with these name `ends`; most files have
    none."""

    def present(part: str) -> bool:
        return any(end.endswith(part.rpartition(".")[2].lstrip("/")) for end in ends)

    extras = [extra for extra in EXTRAS if present(extra)]
    possible = {
        layout: Candidate(
            layout, frozenset(layout.needs), tuple(dict.fromkeys((*layout.needs, *extras)))
        )
        for layout in LAYOUTS
        if all(map(present, (layout.end, *layout.needs)))
    }
    by_dtype = {
        dtype: tuple(possible[layout] for layout in layouts if layout in possible)
        for dtype, layouts in BY_DTYPE.items()
    }
    return {dtype: candidates for dtype, candidates in by_dtype.items() if candidates}


def _packed(tensor: CheckpointTensor, files: PackedFiles) -> Logical | None:
    tensors, raw, candidates = files
    for layout, needs, companions in candidates[tensor.dtype.name]:
        if not tensor.name.endswith(layout.end):
            continue
        name = tensor.name.removesuffix(layout.end) + layout.to
        others = _companions(name, tensor, companions, tensors)
        if not others.keys() >= needs:
            continue
        shape = _shape(layout, Packed(name, tensor, others, raw))
        if shape is not None:
            sizes = {tensor.name: tensor.nbytes}
            for other in others.values():
                sizes[other.name] = other.nbytes
            return Logical(name, shape, tuple(sizes), layout.format, sum(sizes.values()))
    return None


def _companions(
    name: str,
    main: CheckpointTensor,
    companions: Iterable[str],
    tensors: Mapping[str, CheckpointTensor],
) -> dict[str, CheckpointTensor]:
    """Return the existing companions of the parameter `name`, apart from its `main` tensor."""
    companions_found = {}
    for other in companions:
        tensor = tensors.get(beside(name, other))
        if tensor is not None and tensor is not main:
            companions_found[other] = tensor
    return companions_found


def _shape(layout: Layout, packed: Packed) -> Shape | None:
    """Return the weight's true shape; None if the tensors' dimensions do not fit the layout."""
    try:
        return layout.shape(packed)
    except (ValueError, IndexError, ZeroDivisionError):
        return None


def _unknown_layout_notes(plain: Iterable[CheckpointTensor]) -> Iterator[str]:
    """Yield a note per kind of tensor that looks quantized but has no known layout."""
    odd = Counter(
        (tensor.name.rpartition(".")[2], tensor.dtype.name)
        for tensor in plain
        if tensor.dtype.name in INTEGERS and len(tensor.shape) > 1
    )
    for (end, dtype), count in odd.items():
        yield (sentence("unknown_layout", count=count, end=end, dtype=dtype))


def _guessed_bits_note(params: Iterable[Logical], raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield a note on quantized weights whose bits are guessed from the shapes of their scales."""
    known = "bits" in raw or "config_groups" in raw
    count = 0 if known else sum(parameter.format in UNSURE for parameter in params)
    if count:
        yield (sentence("likeliest_bits", count=count))


UNSURE = frozenset(layout.format for layout in LAYOUTS if layout.unsure)
BY_DTYPE: dict[str, tuple[Layout, ...]] = {
    dtype: tuple(layout for layout in LAYOUTS if not layout.dtypes or dtype in layout.dtypes)
    for dtype in TORCH
}


# ---- Agreement of files and config

# Dtypes of plain tensors: floats of a model, counters and masks
WHOLE = frozenset({"float64", "float32", "float16", "bfloat16", "int64", "bool"})
PACKED_ALONE = frozenset(layout.format for layout in LAYOUTS if not layout.needs)
ALL_INTEGERS = INTEGERS | {"int64", "uint64", "bool"}


def unpacked(tensors: Collection[CheckpointTensor]) -> bool:
    """Return whether no tensor of a checkpoint is quantized."""
    return bool(tensors) and all(tensor.dtype.name in WHOLE for tensor in tensors)


def is_packed(parameter: Logical) -> bool:
    """Return whether a parameter is quantized, so that its loader must know the format."""
    return len(parameter.stored) > 1 or parameter.format in PACKED_ALONE

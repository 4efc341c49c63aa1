"""Which parameters are behind stored tensors: the inverse of `schemes`.

    logical(tensors, quantization) -> parameters with their true shapes, and notes

Scales, zero points, maps and indices are no parameters; they are counted in the bytes of the one
they serve. What looks packed and fits no layout is counted as stored, and a note says so.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

from weighbridge.dtypes import TORCH
from weighbridge.quantization.layouts import ALONE, EXTRAS, LAYOUTS, Layout, Packed, Shape, beside
from weighbridge.tensors import CheckpointTensor


class Logical(NamedTuple):
    """A parameter: its true shape (flat, or rows of groups, where only a blob in the file knows
    it), the names of its tensors, and the bytes of them all."""

    name: str
    shape: Shape
    stored: tuple[str, ...]
    format: str  # a layout's name, or the dtype when it is plain
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
    """Parameters in the order of `tensors`. `quantization` is what the config says, as it is
    (`quantization_config`, hf_quant_config.json, MLX's `quantization`), or None."""
    index = {t.name: t for t in tensors}
    raw = flat(quantization or {})
    ends = {name.rpartition(".")[2] for name in index}
    files = PackedFiles(index, raw, _candidates(ends))
    likely = (t for t in index.values() if t.dtype.name in files.candidates)
    found = {t.name: p for t in likely if (p := _packed(t, files))}
    helpers = {name for main, p in found.items() for name in p.stored if name != main}
    kept = [t for t in index.values() if t.name not in helpers]
    plain = [t for t in kept if t.name not in found and not t.name.endswith(ALONE)]
    params = found | {t.name: _plain(t) for t in plain}
    notes = (*_unsure(params.values(), raw), *_odd(plain))
    return Unpacked(tuple(params[t.name] for t in kept if t.name in params), notes)


def flat(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """modelopt's hf_quant_config.json keeps its settings one level down."""
    inner = raw.get("quantization")
    return inner if isinstance(inner, Mapping) else raw


def _plain(t: CheckpointTensor) -> Logical:
    return Logical(t.name, t.shape, (t.name,), t.dtype.name, t.nbytes)


class Candidate(NamedTuple):
    layout: Layout
    needs: frozenset[str]
    companions: tuple[str, ...]  # those that it needs, and those of EXTRAS that end any name here


class PackedFiles(NamedTuple):
    tensors: Mapping[str, CheckpointTensor]
    raw: Mapping[str, Any]
    candidates: Mapping[str, tuple[Candidate, ...]]  # by dtype, where there are any


def _candidates(ends: Iterable[str]) -> dict[str, tuple[Candidate, ...]]:
    """What names with these `ends` can be; most files are plain, and hold nothing."""

    def present(part: str) -> bool:
        return any(end.endswith(_last(part)) for end in ends)

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
    return {dtype: found for dtype, found in by_dtype.items() if found}


def _last(part: str) -> str:
    return part.rpartition(".")[2].lstrip("/")


def _packed(t: CheckpointTensor, files: PackedFiles) -> Logical | None:
    tensors, raw, candidates = files
    for layout, needs, companions in candidates[t.dtype.name]:
        if not t.name.endswith(layout.end):
            continue
        name = t.name.removesuffix(layout.end) + layout.to
        others = _others(name, t, companions, tensors)
        if not others.keys() >= needs:
            continue
        shape = _shape(layout, Packed(name, t, others, raw))
        if shape is not None:
            sizes = {t.name: t.nbytes}
            for other in others.values():
                sizes[other.name] = other.nbytes
            return Logical(name, shape, tuple(sizes), layout.format, sum(sizes.values()))
    return None


def _others(
    name: str,
    main: CheckpointTensor,
    companions: Iterable[str],
    tensors: Mapping[str, CheckpointTensor],
) -> dict[str, CheckpointTensor]:
    """The companions of the parameter `name` that are there, apart from `main` itself."""
    found = {}
    for other in companions:
        t = tensors.get(beside(name, other))
        if t is not None and t is not main:
            found[other] = t
    return found


def _shape(layout: Layout, packed: Packed) -> Shape | None:
    """The true shape; None where the tensors have not even the dimensions of the layout."""
    try:
        return layout.shape(packed)
    except (ValueError, IndexError, ZeroDivisionError):
        return None


def _odd(plain: Iterable[CheckpointTensor]) -> Iterator[str]:
    """A note for each kind of tensor that looks packed and was not understood."""
    odd = Counter(
        (t.name.rpartition(".")[2], t.dtype.name)
        for t in plain
        if t.dtype.name in INTEGERS and len(t.shape) > 1
    )
    for (end, dtype), count in odd.items():
        yield (
            f"{count:,} tensors named {end!r} are {dtype} and fit no packed layout that we know: "
            "their elements are counted as they are stored"
        )


def _unsure(params: Iterable[Logical], raw: Mapping[str, Any]) -> Iterator[str]:
    known = "bits" in raw or "config_groups" in raw
    count = 0 if known else sum(p.format in UNSURE for p in params)
    if count:
        yield (
            f"{count:,} packed weights come without a config that says how many bits they have: "
            "the likeliest that fits their scales is taken"
        )


UNSURE = frozenset(layout.format for layout in LAYOUTS if layout.unsure)
BY_DTYPE: dict[str, tuple[Layout, ...]] = {
    dtype: tuple(layout for layout in LAYOUTS if not layout.dtypes or dtype in layout.dtypes)
    for dtype in TORCH
}

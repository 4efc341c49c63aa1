"""Weights: what a class's parameters and buffers take in a format, tensor by tensor.

    plain dtype     numel x itemsize, every parameter alike (parameters that the class keeps in
                    float32 stay so when the model is loaded, not in the table's divisions)
    real format     weights, scales, zero points and maps as the format's loader holds them; what
                    the loader leaves alone is in the model's own dtype
    as stored       a packed checkpoint: its tensors, byte for byte

Every tensor is apart, since the allocator rounds each of them; those of like experts are counted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import NamedTuple

from weighbridge.arch.blueprint import Blueprint, Buffer, expert_path, held
from weighbridge.dtypes import FLOAT16, FLOAT32, TORCH, DType
from weighbridge.model import ModelPart
from weighbridge.quantization.schemes import Scheme, counted

# The contract's plain divisions, in the order of its table.
DIVISIONS: dict[str, DType] = {
    "float32": FLOAT32,
    "float16": FLOAT16,
    "bfloat16": TORCH["bfloat16"],
    "fp8": TORCH["float8_e4m3fn"],
    "int8": TORCH["int8"],
    "int4": TORCH["int4"],
}
FLOATING = ("float", "bfloat")


class Placed(NamedTuple):
    """One tensor on the device, and the module that owns it; of like experts the first one's."""

    module: str
    nbytes: int
    component: str  # "weights" or "buffers"
    copies: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The format that weights are loaded in. `scheme` None and `as_stored` False: plain `dtype`."""

    dtype: DType  # of all that a scheme leaves alone; of everything without one
    scheme: Scheme | None = None
    as_stored: bool = False

    @property
    def name(self) -> str:
        if self.as_stored:
            return "the checkpoint's own formats"
        return self.scheme.name if self.scheme else self.dtype.name


def placed(part: ModelPart, choice: Choice, *, major: int) -> Iterator[Placed]:
    """Every tensor that one part puts on the device, parameters first; ties once."""
    prefix = f"{part.name}." if part.name else ""
    for name, nbytes, count in _weights(part, choice, major):
        yield Placed(prefix + name.rpartition(".")[0], nbytes, "weights", count)
    for buffer in alive(part.blueprint, major):
        nbytes = buffer_size(buffer, choice.dtype)
        yield Placed(prefix + buffer.name.rpartition(".")[0], nbytes, "buffers")


def together(tensors: Iterable[Placed]) -> Iterator[tuple[int, tuple[Placed, ...]]]:
    """(how often, tensors): what all experts of a layer have, one expert's after the other's; all
    else once and alone."""
    for (path, count), group in groupby(tensors, _experts_of):
        if path:
            yield count, tuple(group)
        else:
            yield from ((1, (t,)) for t in group)


def apart(tensors: Iterable[Placed]) -> Iterator[Placed]:
    """Every tensor by itself."""
    for count, group in together(tensors):
        found = [(expert_path(t.module), t) for t in group]
        for i in range(count):
            for path, t in found:
                tail = t.module[len(path) + 1 :]
                yield t if count == 1 else Placed(f"{path}{i}{tail}", t.nbytes, t.component)


def _experts_of(t: Placed) -> tuple[str, int]:
    return ("", 1) if t.copies == 1 else (expert_path(t.module), t.copies)


def _weights(part: ModelPart, choice: Choice, major: int) -> Iterator[tuple[str, int, int]]:
    """(name of the parameter, bytes, how many such): scales and maps are under the parameter that
    they serve."""
    plan = part.blueprint
    if choice.as_stored:
        return ((t.name, t.nbytes, 1) for t in part.stored)
    if choice.scheme is None:
        return (
            (p.name, held(p, choice.dtype).size(p.numel), p.copies)
            for p in plan.counted
            if not p.tied
        )
    found = counted(plan, choice.scheme, dtype=choice.dtype, transformers=major)
    return ((s.source, s.nbytes, count) for s, count in found)


def alive(plan: Blueprint, major: int) -> Iterator[Buffer]:
    """Buffers that this major version of transformers registers."""
    return (b for b in plan.buffers if b.until is None or major < b.until)


def buffer_size(buffer: Buffer, dtype: DType) -> int:
    return (TORCH[buffer.dtype] if buffer.dtype else dtype).size(prod(buffer.shape))


def divided(plan: Blueprint, parameters: int, dtype: DType) -> int:
    """Parameters and persistent buffers, every floating value in `dtype`: a plain division."""
    buffers = [b for b in plan.buffers if b.persistent]
    floating = sum(prod(b.shape) for b in buffers if _follows(b))
    fixed = sum(buffer_size(b, dtype) for b in buffers if not _follows(b))
    return dtype.size(parameters + floating) + fixed


def persistent_bytes(part: ModelPart, dtype: DType) -> int:
    return sum(buffer_size(b, dtype) for b in part.blueprint.buffers if b.persistent)


def volatile_bytes(part: ModelPart, major: int) -> int:
    """Buffers that are made anew and never stored: positions, masks, rotary frequencies."""
    alone = (b for b in alive(part.blueprint, major) if not b.persistent)
    return sum(buffer_size(b, FLOAT32) for b in alone)


def _follows(buffer: Buffer) -> bool:
    """Whether a conversion of the model's dtype reaches the buffer (integers stay)."""
    return not buffer.dtype or buffer.dtype.startswith(FLOATING)


def total(tensors: Iterable[Placed], component: str) -> int:
    return sum(t.nbytes * t.copies for t in tensors if t.component == component)

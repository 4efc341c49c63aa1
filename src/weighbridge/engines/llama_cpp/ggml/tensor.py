"""A tensor of a ggml graph: shape, strides, what it is made from, and where it has to live.

    bytes of a view or a permuted tensor     from the first to the last element
    bytes of any other                       rows of whole blocks

Source: llama.cpp 0c1e57098 ggml/src/ggml.c (ggml_nbytes, ggml_new_tensor_impl).
"""

from collections.abc import Sequence
from math import prod

from weighbridge.dtypes import GGML_BY_NAME, DType

F32, F16, I32, I64 = (GGML_BY_NAME[name] for name in ("F32", "F16", "I32", "I64"))
Shape = tuple[int, int, int, int]


class GgmlTensor:
    """`base` is the tensor that a view looks into, `dev` the device of what is stored already: a
    weight, or a cache. The rest belongs to the scheduler and the allocator."""

    __slots__ = (
        "backend",
        "base",
        "dev",
        "dtype",
        "held",
        "input",
        "kept",
        "nb",
        "ne",
        "offset",
        "op",
        "place",
        "pools",
        "reached",
        "size",
        "src",
        "users",
        "views",
        "weight",
    )  # fmt: skip

    def __init__(self, op: str, dtype: DType, ne: Shape, src: Sequence["GgmlTensor"] = ()) -> None:
        self.op = op
        self.dtype = dtype
        self.ne = ne
        first = dtype.nbytes  # as of `strides`
        second = first * (ne[0] // dtype.block)
        third = second * ne[1]
        self.nb = (first, second, third, third * ne[2])
        self.src = list(src)
        self.base: GgmlTensor | None = None
        self.dev: int | None = None
        self.weight = self.input = self.kept = self.reached = self.held = False
        self.backend = -1
        self.users = self.views = self.place = self.offset = self.pools = 0
        self.size = -1

    @property
    def nbytes(self) -> int:
        if self.size < 0:
            self.size = extent(self)
        return self.size

    @property
    def stored(self) -> int | None:
        """The device on which its memory is before the graph runs."""
        return self.dev if self.base is None else self.base.dev


def strides(dtype: DType, ne: Shape) -> Shape:
    first = dtype.nbytes
    second = first * (ne[0] // dtype.block)
    third = second * ne[1]
    return first, second, third, third * ne[2]


def extent(t: GgmlTensor) -> int:
    if 0 in t.ne:
        return 0
    if t.dtype.block == 1:
        return t.dtype.nbytes + sum((n - 1) * b for n, b in zip(t.ne, t.nb, strict=True))
    rest = sum((n - 1) * b for n, b in zip(t.ne[1:], t.nb[1:], strict=True))
    return t.ne[0] * t.nb[0] // t.dtype.block + rest


def shape(*ne: int) -> Shape:
    full = (*ne, 1, 1, 1, 1)
    return full[0], full[1], full[2], full[3]


def elements(t: GgmlTensor) -> int:
    return prod(t.ne)


def same_layout(a: GgmlTensor, b: GgmlTensor) -> bool:
    return a.ne == b.ne and a.nb == b.nb and a.dtype is b.dtype

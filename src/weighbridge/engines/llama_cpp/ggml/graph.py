"""ggml's operations on shapes: each makes a node, and `expand` orders it after what it needs.

A node is visited after its sources, left to right; inputs and weights are leaves. Views share the
memory of their tensor. Source: llama.cpp 0c1e57098 ggml/src/ggml.c (ggml_visit_parents and the
constructors of operations).

A tensor of a ggml graph: shape, strides, its sources, and the device it has to be on.

    bytes of a view or a permuted tensor     from the first to the last element
    bytes of any other                       rows of whole blocks

Source: llama.cpp 0c1e57098 ggml/src/ggml.c (ggml_nbytes, ggml_new_tensor_impl).
"""

from collections.abc import Sequence
from math import prod

from weighbridge.base.dtypes import GGML_BY_NAME, DType

VIEWS = frozenset(("view", "reshape", "permute", "transpose"))
F32, F16, I32, I64 = (GGML_BY_NAME[name] for name in ("F32", "F16", "I32", "I64"))
Shape = tuple[int, int, int, int]


class GgmlTensor:
    """A tensor of a graph. `base` is the tensor that a view is of, `dev` the device of a stored
    weight or cache. The rest belongs to the scheduler and the allocator."""

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
        """Return the device that has it before the graph runs, None for what the graph computes."""
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
    strides = sum((n - 1) * b for n, b in zip(t.ne[1:], t.nb[1:], strict=True))
    return t.ne[0] * t.nb[0] // t.dtype.block + strides


def shape(*ne: int) -> Shape:
    full = (*ne, 1, 1, 1, 1)
    return full[0], full[1], full[2], full[3]


def elements(t: GgmlTensor) -> int:
    return prod(t.ne)


def same_layout(a: GgmlTensor, b: GgmlTensor) -> bool:
    return a.ne == b.ne and a.nb == b.nb and a.dtype is b.dtype


class Graph:
    def __init__(self) -> None:
        self.nodes: list[GgmlTensor] = []
        self.leaves: list[GgmlTensor] = []
        self.kept: dict[
            int, tuple[GgmlTensor, ...]
        ] = {}  # id of a node -> what stays allocated until it is done

    def expand(self, *tensors: GgmlTensor) -> None:
        for t in tensors:
            self._visit(t)

    def keep(self, tensors: Sequence[GgmlTensor], until: GgmlTensor) -> None:
        """Keep `tensors` until a node is done: a fused operation reads its first node's sources."""
        self.kept[id(until)] = tuple(tensors)

    def _visit(self, t: GgmlTensor) -> None:
        if t.reached:
            return
        t.reached = True
        for s in t.src:
            if not s.reached:
                self._visit(s)
        (self.leaves if t.op == "none" else self.nodes).append(t)


# Tensors that exist before the graph runs


def weight(dtype: DType, ne: Sequence[int], dev: int) -> GgmlTensor:
    t = GgmlTensor("none", dtype, shape(*ne))
    t.dev, t.weight = dev, True
    return t


def cache(dtype: DType, ne: Sequence[int], dev: int) -> GgmlTensor:
    t = GgmlTensor("none", dtype, shape(*ne))
    t.dev = dev
    return t


def entry(dtype: DType, *ne: int) -> GgmlTensor:
    """Return an input tensor, which the host fills before each step."""
    t = GgmlTensor("none", dtype, shape(*ne))
    t.input = True
    return t


# Views


def view(t: GgmlTensor, ne: Sequence[int], nb: Sequence[int] = (), op: str = "view") -> GgmlTensor:
    """Return a view of `t`; `nb` are the strides from the second on, by default contiguous."""
    v = GgmlTensor(op, t.dtype, shape(*ne), (t,))
    if nb:
        strides = (t.dtype.nbytes, *nb)
        full = list(strides)
        while len(full) < 4:
            full.append(full[-1] * v.ne[len(full) - 1])
        v.nb = (full[0], full[1], full[2], full[3])
    v.base = t.base or t
    return v


def reshape(t: GgmlTensor, *ne: int) -> GgmlTensor:
    return view(t, ne, op="reshape")


def permute(t: GgmlTensor, *axes: int) -> GgmlTensor:
    """Return a view of `t` in which its axis i is axis axes[i]."""
    v = GgmlTensor("permute", t.dtype, t.ne, (t,))
    ne, nb = [0] * 4, [0] * 4
    for i, to in enumerate(axes):
        ne[to], nb[to] = t.ne[i], t.nb[i]
    v.ne, v.nb = (ne[0], ne[1], ne[2], ne[3]), (nb[0], nb[1], nb[2], nb[3])
    v.base = t.base or t
    return v


def transpose(t: GgmlTensor) -> GgmlTensor:
    v = permute(t, 1, 0, 2, 3)
    v.op = "transpose"
    return v


def into(t: GgmlTensor, target: GgmlTensor, op: str = "cpy", *more: GgmlTensor) -> GgmlTensor:
    """Return a node that writes `t` to the memory of `target`: a cache, or another tensor."""
    v = GgmlTensor(op, target.dtype, target.ne, (t, target) if op == "cpy" else (target, t, *more))
    v.nb = target.nb
    v.base = target.base or target
    return v


def into_self(op: str, t: GgmlTensor) -> GgmlTensor:
    """Return a node that changes `t` in place."""
    v = GgmlTensor(op, t.dtype, t.ne, (t,))
    v.nb = t.nb
    v.base = t.base or t
    return v


def set_rows(target: GgmlTensor, rows: GgmlTensor, ids: GgmlTensor) -> GgmlTensor:
    v = GgmlTensor("set_rows", target.dtype, target.ne, (rows, ids, target))
    v.nb = target.nb
    v.base = target.base or target
    return v


# Nodes with memory of their own


def like(op: str, t: GgmlTensor, *others: GgmlTensor, dtype: DType | None = None) -> GgmlTensor:
    """Return a tensor of the shape of `t`: additions, norms, activations, rotations."""
    return GgmlTensor(op, dtype or t.dtype, t.ne, (t, *others))


def mul_mat(weight: GgmlTensor, x: GgmlTensor) -> GgmlTensor:
    return GgmlTensor("mul_mat", F32, (weight.ne[1], x.ne[1], x.ne[2], x.ne[3]), (weight, x))


def mul_mat_id(weight: GgmlTensor, x: GgmlTensor, ids: GgmlTensor) -> GgmlTensor:
    return GgmlTensor("mul_mat_id", F32, (weight.ne[1], ids.ne[0], x.ne[2], 1), (weight, x, ids))


def get_rows(t: GgmlTensor, ids: GgmlTensor) -> GgmlTensor:
    kind = I32 if t.dtype is I32 else F32
    return GgmlTensor("get_rows", kind, (t.ne[0], ids.ne[0], ids.ne[1], ids.ne[2]), (t, ids))


def cont(t: GgmlTensor, *ne: int) -> GgmlTensor:
    return GgmlTensor("cont", t.dtype, shape(*ne) if ne else t.ne, (t,))


def cast(t: GgmlTensor, dtype: DType) -> GgmlTensor:
    """Return a copy of `t` in another type, in its own memory, as ggml_cast makes it."""
    return GgmlTensor("cpy", dtype, t.ne, (t,))


def half(op: str, t: GgmlTensor) -> GgmlTensor:
    """Return the gated activation of rows that hold gate and value: half of their width."""
    return GgmlTensor(op, t.dtype, (t.ne[0] // 2, *t.ne[1:]), (t,))


def sum_rows(t: GgmlTensor) -> GgmlTensor:
    return GgmlTensor("sum_rows", t.dtype, (1, *t.ne[1:]), (t,))


def top_k(t: GgmlTensor, count: int) -> GgmlTensor:
    """Return the indices of the `count` largest of each row: a view of all indices, sorted."""
    ordered = GgmlTensor("argsort", I32, t.ne, (t,))
    return view(ordered, (count, *t.ne[1:]), ordered.nb[1:])


def concat(a: GgmlTensor, b: GgmlTensor, axis: int) -> GgmlTensor:
    ne = list(a.ne)
    ne[axis] += b.ne[axis]
    return GgmlTensor("concat", a.dtype, (ne[0], ne[1], ne[2], ne[3]), (a, b))


def repeat(t: GgmlTensor, *ne: int) -> GgmlTensor:
    return GgmlTensor("repeat", t.dtype, shape(*ne), (t,))


def made(op: str, ne: Sequence[int], *src: GgmlTensor, dtype: DType = F32) -> GgmlTensor:
    """Return the node of any other operation, by the shape of its result."""
    return GgmlTensor(op, dtype, shape(*ne), src)


def flash(q: GgmlTensor, k: GgmlTensor, v: GgmlTensor, *others: GgmlTensor) -> GgmlTensor:
    ne: Shape = (v.ne[0], q.ne[2], q.ne[1], q.ne[3])
    return GgmlTensor("flash_attn", F32, ne, (q, k, v, *others))


def merged(t: GgmlTensor) -> bool:
    """Return whether a row of all heads is contiguous in memory."""
    return t.nb[2] == strides(t.dtype, t.ne)[2]


__all__ = [
    "VIEWS", "Graph", "cache", "cast", "concat", "cont", "elements", "entry", "flash",
    "get_rows", "half", "into", "into_self", "like", "made", "merged", "mul_mat", "mul_mat_id",
    "permute", "repeat", "reshape", "set_rows", "sum_rows", "top_k", "transpose", "view", "weight",
]  # fmt: skip

"""Places of a program that reads its sizes from a tree that is known: a checkpoint's, or a class's.

So one program is all networks of a kind, whatever their widths and depths. A tensor that a program
did not meet is an operator that it does not know of.
"""

from collections.abc import Callable, Mapping, Sequence

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import ProgramRun, Value
from weighbridge.training.forward.ops import pointwise
from weighbridge.training.forward.tensors import Shape

Shapes = Mapping[str, Shape]


class Tree:
    """The modules below one path, with the tensor shapes of the whole tree. `frozen`: batch norms
    stay as loaded and are not trained."""

    __slots__ = ("_frozen", "_modules", "place", "shapes")

    def __init__(
        self,
        place: NetPlace,
        shapes: Shapes,
        modules: frozenset[str] | None = None,
        *,
        frozen: bool = False,
    ) -> None:
        self.place, self.shapes, self._frozen = place, shapes, frozen
        self._modules = _modules(shapes) if modules is None else modules

    def __truediv__(self, name: str | int) -> "Tree":
        return Tree(self.place / name, self.shapes, self._modules, frozen=self._frozen)

    @property
    def run(self) -> ProgramRun:
        return self.place.run

    def has(self, name: str | int) -> bool:
        """Return whether the tree has a module or parameter of that name here."""
        return f"{self.place.path}{name}" in self._modules

    def shape(self, name: str) -> Shape:
        return self.shapes[self.place.path + name]

    def each(self, name: str) -> "list[Tree]":
        """Return the modules of a sequence that have parameters, in order."""
        return (self / name).children()

    def children(self, prefix: str = "", first: int = 0) -> "list[Tree]":
        """Return the modules named by `prefix` and successive numbers from `first` on."""
        beyond = first
        while self.has(f"{prefix}{beyond}"):
            beyond += 1
        return [self / f"{prefix}{number}" for number in range(first, beyond)]

    # ---- operators

    def conv(
        self, name: str, x: Value, stride: int = 1, *, pad: int | None = None, last: bool = False
    ) -> Value:
        """Return a convolution; if its stride is its width, it has no padding. TensorFlow pads a
        copy of its input if the stride is above 1."""
        out, inside, kernel, _ = self.shape(f"{name}.weight")
        if pad is None:
            pad = 0 if kernel == stride else kernel // 2
        if self.run.pads_copies and stride > 1 and pad:
            x, pad = _padded(x, kernel, stride), 0
        groups, bias = x.shape[1] // inside, self.has(f"{name}.bias")
        return self.place.conv(
            name, x, out, kernel, stride, pad, bias=bias, groups=groups, last=last
        )

    def linear(self, name: str, x: Value) -> Value:
        out = self.shape(f"{name}.weight")[0]
        return self.place.linear(name, x, out, bias=self.has(f"{name}.bias"))

    def batch_norm(self, name: str, x: Value) -> Value:
        return self.place.batch_norm(name, x, frozen=self._frozen)

    def layer_norm(self, name: str, x: Value, *, dense: bool = True) -> Value:
        return self.place.layer_norm(name, x, dense=dense)

    def parameter(self, name: str, *shape: int) -> Value:
        return self.place.value(name, *(shape or self.shape(name)))


def _modules(shapes: Shapes) -> frozenset[str]:
    prefixes: set[str] = set()
    for name in shapes:
        while name and name not in prefixes:
            prefixes.add(name)
            name = name.rpartition(".")[0]
    return frozenset(prefixes)


def _padded(x: Value, kernel: int, stride: int) -> Value:
    """Return `x` padded as timm's pad_same does: as much as the strides need, more after than
    before."""
    sides = ((-(-side // stride) - 1) * stride + kernel for side in x.shape[2:])
    return x.resized(*x.shape[:2], *(max(a, b) for a, b in zip(sides, x.shape[2:], strict=True)))


def in_place(x: Value, keeps: str) -> Value:
    """Return an in-place activation of `x`. If backward needs the input, it is copied first (torch
    tools/autograd/derivatives.yaml)."""
    kind = pointwise.of_result_ if keeps == "result" else pointwise.of_input_
    return Value(x.run, kind(x.run.m, x.tensor))


def pooled(x: Value) -> Value:
    """Return the mean of each channel, [batch, channels, 1, 1]."""
    return x.resized(*x.shape[:2], *[1] * len(x.shape[2:]))


def grown(x: Value, *shape: int) -> Value:
    """Return `x` interpolated to `shape`; autocast computes it in float32."""
    return (x if x.run.m.autocast is None else x.float()).resized(*shape)


def doubled(x: Value) -> Value:
    """Return `x` interpolated to twice the height and width."""
    batch, width, height, breadth = x.shape
    return grown(x, batch, width, 2 * height, 2 * breadth)


def sequence(x: Value, blocks: Sequence[Tree], call: Callable[..., Value], *first: int) -> Value:
    """Return nn.Sequential of `x`: the caller holds the first block's input until the last returns;
    `first` are further arguments of the first block."""
    y = x
    for number, block in enumerate(blocks):
        y = call(block, y) if number else call(block, y, *first)
    return y


def complete(run: ProgramRun, shapes: Shapes) -> None:
    """Raise UnsupportedError if the program did not declare a tensor of the tree, or declared it
    with another shape."""
    for name, shape in shapes.items():
        declared = run.declared.get(name)
        if declared is None or declared.shape != shape:
            raise UnsupportedError(sentence("images.not_met", tensor=name))

"""Places in the tree of modules, which declare what they hold as a program passes through them.

    n / "blocks" / 0                 a place below another
    n.linear("proj", x, 64)          declares proj.weight and proj.bias, and makes the output

So one text is the tree of a class and the memory of its step. Names and shapes are those of
checkpoints.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import MAX_TENSORS, Buffer, Param, ParamKind
from weighbridge.pictures.values import NORMS_WIDE, Block, ProgramRun, Value
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops import matrix, norms
from weighbridge.training.forward.ops.matrix import ConvForm
from weighbridge.training.forward.tensors import LeafTensor

Side = int | tuple[int, ...]  # of all sides, or per side: (time,) height, width


class NetPlace:
    """The modules below one path; its operations declare their parameters."""

    __slots__ = ("path", "run")

    def __init__(self, run: ProgramRun, path: str = "") -> None:
        self.run, self.path = run, path

    def __truediv__(self, name: str | int) -> "NetPlace":
        return NetPlace(self.run, f"{self.path}{name}.")

    def each(self, name: str, count: int) -> "Iterable[NetPlace]":
        """Return the blocks of a module list in order; blocks that repeat earlier ones are
        skipped."""
        places = [self / name / number for number in range(count)]
        return places if self.run.kinds is None else _unlike(places, self.run.kinds, self.run.m)

    @property
    def number(self) -> int:
        """Return the number of the block at the end of this path."""
        return int(self.path.split(".")[-2])

    def block(self, call: Block, *values: Value) -> Any:
        """Run a block through the run's hook, since checkpointing, offloading and swapping act on
        whole blocks."""
        run = self.run
        return call(self, *values) if run.block is None else run.block(call, self, values)

    # ---- parameters

    def param(self, name: str, *shape: int, kind: ParamKind = "other") -> LeafTensor:
        """Return a parameter of this module, declared if it is new."""
        full, run = self.path + name, self.run
        leaf = run.params.get(full)
        if leaf is None:
            if len(run.declared) >= MAX_TENSORS:
                raise UnsupportedError(sentence("too_many_tensors", most=MAX_TENSORS))
            leaf = LeafTensor(full, shape, run.dtype, None, trainable=False, kind=kind)
            run.params[full] = leaf
        if full not in run.declared:
            run.declared[full] = Param(full, shape, kind)
        return leaf

    def value(self, name: str, *shape: int, kind: ParamKind = "other") -> Value:
        """Return a parameter as a tensor for the program, declared if it is new."""
        return Value(self.run, self.param(name, *shape, kind=kind))

    def buffer(self, name: str, *shape: int, dtype: str = "", persistent: bool = True) -> Value:
        """Return a buffer, which a module holds and does not train, declared if it is new."""
        full = self.path + name
        self.run.buffers.setdefault(full, Buffer(full, shape, dtype, persistent))
        return self.run.constant(*shape)

    # ---- products

    def linear(self, name: str, x: Value, out: int, bias: bool = True) -> Value:
        m, weight = self.run.m, self.param(f"{name}.weight", out, x.shape[-1], kind="linear")
        shift = self.param(f"{name}.bias", out, kind="bias") if bias else None
        wrap = self.run.wraps.get(self.path + name)
        if wrap is not None:
            return Value(self.run, wrap(m, x.tensor))
        return Value(self.run, matrix.linear(m, x.tensor, weight, shift))

    def conv(  # noqa: PLR0913  as torch has them
        self,
        name: str,
        x: Value,
        out: int,
        kernel: Side = 3,
        stride: Side = 1,
        pad: Side | None = None,
        *,
        bias: bool = True,
        groups: int = 1,
        last: bool = False,
    ) -> Value:
        """Convolve x [batch, channels, (frames,) height, width]. `pad` None keeps the size at
        stride 1. `last`: channels_last memory format, for tensor cores."""
        sides, m = x.shape[2:], self.run.m
        kernels, strides = _each(kernel, len(sides)), _each(stride, len(sides))
        pads = [k // 2 for k in kernels] if pad is None else _each(pad, len(sides))
        shape = (
            (side + 2 * p - k) // step + 1
            for side, p, k, step in zip(sides, pads, kernels, strides, strict=True)
        )
        holds = out, x.shape[1] // groups, *kernels
        weight = self.param(f"{name}.weight", *holds, kind="conv")
        shift = self.param(f"{name}.bias", out, kind="bias") if bias else None
        depthwise = groups == x.shape[1] > 1
        wide = not (depthwise or last) and matrix.rearranges(x.tensor, m)
        form = ConvForm((x.shape[0], out, *shape), rearranged=wide)
        wrap = self.run.conv_wraps.get(self.path + name)
        if wrap is not None:
            return Value(self.run, wrap.convolved(m, x.tensor, form))
        return Value(self.run, matrix.conv(m, x.tensor, weight, shift, form))

    def transposed(self, name: str, x: Value, out: int, kernel: int) -> Value:
        """Return a transposed convolution whose stride is its kernel's width."""
        m, (batch, inside, height, width) = self.run.m, x.shape
        weight = self.param(f"{name}.weight", inside, out, kernel, kernel, kind="conv")
        shift = self.param(f"{name}.bias", out, kind="bias")
        form = ConvForm((batch, out, kernel * height, kernel * width))
        return Value(self.run, matrix.conv(m, x.tensor, weight, shift, form))

    def embedding(self, name: str, batch: int, tokens: int, rows: int, width: int) -> Value:
        """Return embeddings [batch, tokens, width] from a table of `rows`."""
        self.param(f"{name}.weight", rows, width, kind="embedding")
        return self.run.new(batch, tokens, width)

    # ---- norms

    def layer_norm(
        self,
        name: str,
        x: Value,
        *,
        affine: bool = True,
        bias: bool = True,
        wide: bool = False,
        dense: bool = True,
    ) -> Value:
        """Return a LayerNorm. `wide`: diffusers' FP32LayerNorm; `dense`: the input is
        contiguous."""
        width = x.shape[-1]
        weight = self.param(f"{name}.weight", width, kind="norm") if affine else None
        shift = self.param(f"{name}.bias", width, kind="norm") if affine and bias else None
        read = x.float() if wide else x
        y = Value(self.run, norms.layer_norm(self.run.m, read.tensor, weight, shift, dense=dense))
        return y.like(x) if wide else y

    def rms_norm(
        self, name: str, x: Value, *, affine: bool = True, how: str = "diffusers"
    ) -> Value:
        """Return an RMSNorm. `how`: "diffusers", with a float32 product; "torch", one kernel, on a
        float32 copy under autocast since torch 2.12; "float", always on such a copy. Source:
        pytorch 2.12 aten/src/ATen/autocast_mode.h (AT_FORALL_FP32), pytorch#188955."""
        run, m = self.run, self.run.m
        weight = self.value(f"{name}.weight", x.shape[-1], kind="norm") if affine else None
        if how == "diffusers":
            spread = (x.float().power().mean() + 0.0).rsqrt()
            y = x * spread
            del spread
            y = y.like(x)
            return y if weight is None else y * weight
        casts = m.autocast is not None and run.torch >= NORMS_WIDE
        run.unsettled |= m.autocast is not None and how == "torch" and not casts
        read = x.float() if how == "float" or casts else x
        leaf = None if weight is None else weight.tensor
        return Value(run, norms.fused_rms_norm(m, read.tensor, leaf)).like(x)

    def batch_norm(self, name: str, x: Value, *, frozen: bool = False) -> Value:
        """Return a BatchNorm of `x`. `frozen`: all four tensors are buffers, used as a scale and a
        shift."""
        n, width = self / name, x.shape[1]
        for one in ("running_mean", "running_var"):
            n.buffer(one, width)
        if frozen:
            scale, shift = (n.buffer(one, width).view(width, 1, 1) for one in ("weight", "bias"))
            return x * scale + shift
        n.buffer("num_batches_tracked", dtype="int64")
        weight, bias = (n.param(one, width, kind="norm") for one in ("weight", "bias"))
        return Value(self.run, norms.batch_norm(self.run.m, x.tensor, weight, bias))

    def group_norm(self, name: str, x: Value, groups: int = 32) -> Value:
        weight = self.param(f"{name}.weight", x.shape[1], kind="norm")
        shift = self.param(f"{name}.bias", x.shape[1], kind="norm")
        out = norms.group_norm(self.run.m, x.tensor, weight, shift, groups)
        return Value(self.run, out)


def _each(side: Side, count: int) -> tuple[int, ...]:
    return side if isinstance(side, tuple) else (side,) * count


PERIODS = 1, 2, 3, 4  # blocks after which the allocator's state repeats


def _unlike(places: Sequence[NetPlace], kinds: Mapping[str, int], m: Machine) -> Iterator[NetPlace]:
    """Yield blocks, skipping those that repeat earlier blocks of their kind: from the same
    allocator state they use memory alike, so no peak changes."""
    states: list[Any] = []
    number = 0
    while number < len(places):
        place = places[number]
        yield place
        kind = kinds.get(place.path)
        number += 1
        left = _of_kind(places[number:], kinds, kind)
        states = [*states, m.heap.state] if left else []
        period = next((n for n in PERIODS if _repeats(states, n)), 0)
        if period:
            number += left // period * period


def _repeats(states: Sequence[Any], period: int) -> bool:
    """Return whether the last two allocator states equal those `period` blocks before."""
    last, before = states[-2:], states[-2 - period : -period]
    return len(before) == len(last) and before == last


def _of_kind(places: Sequence[NetPlace], kinds: Mapping[str, int], kind: int | None) -> int:
    """Return how many places come before the first of another kind."""
    if kind is None:
        return 0
    return next((i for i, one in enumerate(places) if kinds.get(one.path) != kind), len(places))


def kinds_of(params: Iterable[Param]) -> dict[str, int]:
    """Return block path -> a number that is equal for blocks with equal tensors. Classes of
    transformers prefix the path that an encoder's program uses."""
    kinds: dict[str, int] = {}
    for param in params:
        words = param.name.split(".")
        for place, word in enumerate(words):
            if word.isdigit():
                inside = hash((*words[place + 1 :], param.shape, param.kind))
                for first in range(min(2, place)):
                    path = ".".join([*words[first : place + 1], ""])
                    kinds[path] = kinds.get(path, 0) + inside
    return kinds

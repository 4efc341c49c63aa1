"""Adapters on the linears and convolutions of a denoiser, which its program then multiplies by.

    lora    y + B(A(x)) scaling;  dora, the same with a magnitude (training/forward/adapters.py).
            Beside a convolution A is one of its kernel and B one of 1 x 1
    loha    a matrix as large as the weight, the product of two low ranks, number by number
    lokr    kron(W1, W2). Rebuilt, it is added to the weight in every forward; bypassed, x is
            multiplied by W2 in groups, and then by W1

W1 [a, b] is the smaller: a x c outputs, b x d inputs, a and b the largest divisors up to the
factor. Of a convolution the matrix is [out, in x height x width of the kernel].
Source: PEFT 0.21 tuners/lora/layer.py (Linear, Conv2d); lycoris_lora 3.2 modules/lokr.py
(bypass_forward_diff), functional/general.py (factorization), modules/loha.py, kohya.py; sd-scripts
@ 48d368fa networks/lora.py (create_modules: 192 modules of SD 1.5's UNet, 278 with conv_dim).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from math import isqrt, prod

from weighbridge.base.dtypes import BFLOAT16, DType
from weighbridge.base.memo import memo
from weighbridge.base.records import NamedTuple, field, frozen_record, replace
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.training.adapters import ALL, matched
from weighbridge.training.forward.adapters import LoraLinear, Plain
from weighbridge.training.forward.deltas import Hadamard, Kronecker, WithDelta
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import ParameterSpec, Wrap
from weighbridge.training.forward.ops.matrix import ConvForm, conv, linear
from weighbridge.training.forward.ops.pointwise import add, cast, dropout, mul, scale, shift
from weighbridge.training.forward.ops.shaping import copied, shaped
from weighbridge.training.forward.step import Around, Unshared
from weighbridge.training.forward.tensors import LeafTensor, Tensor

IN_BLOCK = re.compile(r"\.\d+\.")
# LyCORIS's names for classes of modules (module_algo_map) -> the paths of their linears
CLASSES = {
    "Attention": re.compile(r"attn|attention"),
    "FeedForward": re.compile(r"(?:^|\.)(?:ff|ffn|mlp|feed_forward|ff_context)\."),
}
RESNETS = re.compile(r"\.(?:resnets|downsamplers|upsamplers)\.")  # UNet modules around transformers
ANY = "*"  # marks a pattern
EVERY = "all-layers"  # every linear and convolution of the denoiser
LAYERS = ("linear", "conv")
POINT = (1, 1)  # a 1 x 1 kernel, whose rank is that of linears
WITH_DELTA = 3  # matrices as large as a kernel: the product, scaled, and added to the weight
SIDES = (2, 4)  # dimensions of a linear's weight, of a convolution's


@frozen_record
class PictureAdapters:
    """Settings of a denoiser's adapters. `targets`: names, patterns (*attn*) or classes of modules,
    or all linears of blocks; `conv_rank`: rank for kernels larger than 1 x 1; 0 means `rank` for
    named ones, and none with all linears; `casts`: inputs are cast as in PEFT's layers; `factors`:
    LoKr's by class of module, `factor` for others."""

    method: str
    rank: int
    targets: tuple[str, ...]
    dtype: DType
    dropout: float = 0.0
    casts: bool = True
    bypassed: bool = False
    factor: int = 0
    factors: Mapping[str, int] = field(default_factory=dict)
    conv_rank: int = 0

    def factor_of(self, path: str) -> int:
        named = (n for kind, n in self.factors.items() if CLASSES[kind].search(f"{path}."))
        return next(named, self.factor)


class LokrBypassed:
    """Replaces the linear `base` by LoKr's bypass: two products of the input, in groups, are added
    to its output."""

    __slots__ = ("base", "first", "second")

    def __init__(self, base: Wrap, first: LeafTensor, second: LeafTensor) -> None:
        self.base, self.first, self.second = base, first, second

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        y = self.base(m, x)
        (outer, groups), (inner, width) = self.first.shape, self.second.shape
        low = linear(m, x.view(*x.shape[:-1], groups, width), self.second)
        low = copied(m, low).view(*x.shape[:-1], inner, groups)
        low = linear(m, low, self.first)
        low = copied(m, low).view(*x.shape[:-1], outer * inner)
        return add(m, y, scale(m, low))


class Rebuilt:
    """Replaces a linear or a convolution: each forward adds the trained matrix to its weight."""

    __slots__ = ("bias", "delta", "weight")

    def __init__(self, plain: Plain, delta: Hadamard | Kronecker) -> None:
        self.weight, self.bias, self.delta = plain.weight, plain.bias, delta

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        return linear(m, x, self._sum(m), self.bias)

    def convolved(self, m: Machine, x: Tensor, form: ConvForm) -> Tensor:
        return conv(m, x, self._sum(m), self.bias, form)

    def _sum(self, m: Machine) -> Tensor:
        delta = self.delta(m)
        if delta.shape != self.weight.shape:
            delta = shaped(m, delta, *self.weight.shape)
        return add(m, self.weight, cast(m, delta, self.weight.dtype))


class LoraConv:
    """Replaces a convolution: adds a low-channel one with its kernel, A [r, in, height, width], and
    B [out, r, 1, 1]. DoRA's magnitude is [1, out, 1, 1]."""

    __slots__ = ("a", "b", "casts", "magnitude", "plain", "rate")

    def __init__(
        self, plain: Plain, a: LeafTensor, b: LeafTensor, rate: float, *, casts: bool
    ) -> None:
        self.plain, self.a, self.b, self.rate, self.casts = plain, a, b, rate, casts
        self.magnitude: LeafTensor | None = None

    def convolved(self, m: Machine, x: Tensor, form: ConvForm) -> Tensor:
        y = conv(m, x, self.plain.weight, self.plain.bias, form)
        dtype = y.dtype
        casts = self.casts or m.autocast is None
        low = dropout(m, cast(m, x, self.a.dtype) if casts else x, self.rate)
        batch, _, *places = form.shape
        narrow = form._replace(shape=(batch, self.a.shape[0], *places))
        share = None if self.magnitude is None else self._share(m, self.magnitude)
        low = conv(m, conv(m, low, self.a, None, narrow), self.b, None, form)
        if share is not None:  # DoraConv2dLayer
            low = add(m, mul(m, shift(m, share), y), mul(m, share, low))
        low = scale(m, low)
        if self.casts:
            return cast(m, add(m, y, low), dtype)
        return add(m, y, cast(m, low, dtype) if casts else low)

    def _share(self, m: Machine, magnitude: LeafTensor) -> Tensor:
        """Return DoRA's magnitude divided by the adapted weight's norm; both are new tensors."""
        matrices = [m.new(self.plain.weight.shape, self.a.dtype) for _ in range(WITH_DELTA)]
        norm = m.new(magnitude.shape, self.a.dtype)
        matrices.clear()
        return mul(m, magnitude, norm)


ConvAdapter = Rebuilt | LoraConv
Maker = Callable[..., LeafTensor]  # (path, sides of a matrix) -> trained tensor


def targeted(params: Iterable[Param], how: PictureAdapters) -> list[str]:
    """Return the paths of layers that get adapters. Raises UsageError if no layer matches."""
    targets = how.targets
    layers = {
        p.name.removesuffix(".weight"): p
        for p in params
        if p.kind in LAYERS and len(p.shape) in SIDES and p.name.endswith(".weight")
    }
    kinds = [CLASSES[target] for target in targets if target in CLASSES]
    if not kinds and targets not in ((ALL,), (EVERY,)) and ANY not in "".join(targets):
        return matched([ParameterSpec(p.name, p.shape, "linear") for p in layers.values()], targets)
    wide = {path for path, p in layers.items() if p.shape[2:] not in ((), POINT)}
    paths = [path for path in layers if how.conv_rank or path not in wide]
    if targets == (EVERY,):
        return paths
    if any(ANY in target for target in targets):
        return [path for path in paths if any(fnmatchcase(path, target) for target in targets)]
    paths = [path for path in paths if IN_BLOCK.search(f"{path}.")]
    if kinds:
        linears = (path for path in paths if len(layers[path].shape) == 2)
        return [path for path in linears if any(kind.search(f"{path}.") for kind in kinds)]
    return [path for path in paths if how.conv_rank or not RESNETS.search(path)]


class AdaptedLayers(NamedTuple):
    """Replacements of layers with adapters, by path, and the trained tensors."""

    linears: dict[str, Wrap]
    convs: dict[str, ConvAdapter]
    trained: list[LeafTensor]


def put_on(
    m: Machine,
    how: PictureAdapters,
    paths: Iterable[str],
    params: Mapping[str, LeafTensor],
    packed: Mapping[str, Wrap],
    shares: Around | None = None,
) -> AdaptedLayers:
    """Return adapters on the layers `paths`; `packed` are replacements of quantized layers.
    `shares`: the rank's sharding of parameters."""
    layers = AdaptedLayers(dict(packed), {}, [])

    def make(path: str, *sides: int) -> LeafTensor:
        spec = ParameterSpec(path, sides, "linear")
        leaf = (shares or Unshared()).adapter(m, spec, how.dtype)
        layers.trained.append(leaf)
        return leaf

    for path in paths:
        plain = Plain(params[f"{path}.weight"], params.get(f"{path}.bias"))
        if len(plain.weight.shape) == len(SIDES):
            layers.linears[path] = _adapted(how, make, path, packed.get(path), plain)
        else:
            layers.convs[path] = _beside_kernel(how, make, path, plain)
    return layers


def _beside_kernel(how: PictureAdapters, make: Maker, path: str, plain: Plain) -> ConvAdapter:
    outside, inside, *kernel = plain.weight.shape
    rank = how.rank if tuple(kernel) == POINT else how.conv_rank or how.rank
    if how.method in ("lora", "dora"):
        a = make(f"{path}.lora_A", rank, inside, *kernel)
        b = make(f"{path}.lora_B", outside, rank, *POINT)
        wrap = LoraConv(plain, a, b, how.dropout, casts=how.casts)
        if how.method == "dora":
            wrap.magnitude = make(f"{path}.magnitude", 1, outside, *POINT)
        return wrap
    return Rebuilt(
        plain, _delta(replace(how, rank=rank), make, path, outside, inside, prod(kernel))
    )


HALF = 2  # of the larger side: below that rank LyCORIS splits W2 in two


def _adapted(
    how: PictureAdapters, make: Maker, path: str, packed: Wrap | None, plain: Plain
) -> Wrap:
    outside, inside = plain.weight.shape
    if how.method in ("lora", "dora"):
        a = make(f"{path}.lora_A", how.rank, inside)
        wrap = LoraLinear(
            packed or plain, plain.weight, a, make(f"{path}.lora_B", outside, how.rank), how.dropout
        )
        wrap.packed = wrap.packed or not how.casts
        if how.method == "dora":
            wrap.magnitude = make(f"{path}.magnitude", 1, outside)
            wrap.biased = plain.bias is not None
        return wrap
    if how.method == "lokr" and (how.bypassed or packed is not None):
        factor = how.factor_of(path)  # nothing is added to a weight that is packed
        (rows, c), (columns, d) = factored(outside, factor), factored(inside, factor)
        first = make(f"{path}.lokr_w1", rows, columns)
        return LokrBypassed(packed or plain, first, make(f"{path}.lokr_w2", c, d))
    delta = _delta(how, make, path, outside, inside)
    return Rebuilt(plain, delta) if packed is None else WithDelta(packed, delta)


def _delta(
    how: PictureAdapters, make: Maker, path: str, outside: int, inside: int, kernel: int = 1
) -> Hadamard | Kronecker:
    """Return the trained factors of a LoHa or LoKr matrix as large as a weight."""
    if how.method == "loha":
        sides = ((outside, how.rank), (how.rank, inside * kernel)) * 2
        return Hadamard(*(make(f"{path}.hada_{i}", *side) for i, side in enumerate(sides)))
    factor = how.factor_of(path)
    (rows, c), (columns, d) = factored(outside, factor), factored(inside, factor)
    first = make(f"{path}.lokr_w1", rows, columns)
    matrix, width = (outside, inside * kernel), d * kernel
    if HALF * how.rank < max(c, d):
        low = make(f"{path}.lokr_w2_a", c, how.rank), make(f"{path}.lokr_w2_b", how.rank, width)
        return Kronecker(matrix, first, low)
    return Kronecker(matrix, first, (make(f"{path}.lokr_w2", c, width),))


def factored(size: int, factor: int) -> tuple[int, int]:
    """Return two factors of a side, the smaller first: the largest divisor up to `factor`, or up to
    the square root if it is 0."""
    most = min(factor or isqrt(size), size)
    small = next(number for number in range(most, 0, -1) if size % number == 0)
    return min(small, size // small), max(small, size // small)


# ---- files that are loaded beside a denoiser


def files(part: ModelPart, count: int, rank: int, dtype: DType) -> tuple[int, ...]:
    """Return the bytes of each matrix of `count` LoRAs on all linears of a component's blocks."""
    shapes = {p.name.removesuffix(".weight"): p.shape for p in part.blueprint.params}
    sides = (side for path in _all_linears(part) for side in shapes[path])
    return tuple(dtype.size(rank * side) for side in sides) * count


def loaded(part: ModelPart, count: int, rank: int, dtype: DType) -> dict[str, Wrap]:
    """Return the replacement of each linear with LoRAs, by path; the memory of their matrices is
    counted elsewhere."""
    params = {p.name: p for p in part.blueprint.params}

    def leaf(name: str, *shape: int) -> LeafTensor:
        return LeafTensor(name, shape, dtype, None, trainable=False)

    wraps: dict[str, Wrap] = {}
    for path in _all_linears(part):
        outside, inside = params[f"{path}.weight"].shape
        weight, bias = leaf(path, outside, inside), f"{path}.bias"
        wrap: Wrap = Plain(weight, leaf(bias, outside) if bias in params else None)
        for _ in range(count):
            wrap = LoraLinear(wrap, weight, leaf(path, rank, inside), leaf(path, outside, rank), 0)
        wraps[path] = wrap
    return wraps


def _all_linears(part: ModelPart) -> list[str]:
    how = PictureAdapters(method="lora", rank=1, targets=(ALL,), dtype=BFLOAT16)
    linears = (p for p in part.blueprint.params if len(p.shape) == 2)
    return memo(part, ("linears of blocks",), lambda: targeted(linears, how))

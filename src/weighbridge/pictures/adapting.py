"""Adapters on the linears of a denoiser, which its program then multiplies by.

    lora    y + B(A(x)) scaling;  dora, the same with a magnitude (training/forward/adapters.py)
    loha    a matrix as large as the weight, the product of two low ranks, number by number
    lokr    kron(W1, W2). Rebuilt, it is added to the weight in every forward; bypassed, x is
            multiplied by W2 in groups, and then by W1

W1 [a, b] is the smaller: a x c outputs, b x d inputs, a and b the largest divisors up to the
factor.
Source: PEFT 0.21 tuners/lora/layer.py; lycoris_lora 3.2 modules/lokr.py (bypass_forward_diff),
functional/general.py (factorization), modules/loha.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from math import isqrt

from weighbridge.base.dtypes import DType
from weighbridge.base.memo import memo
from weighbridge.base.records import dataclass, field
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.training.adapters import ALL, matched
from weighbridge.training.forward.adapters import LoraLinear, Plain
from weighbridge.training.forward.deltas import Hadamard, Kronecker, WithDelta
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import ParameterSpec, Wrap
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import add, cast, scale
from weighbridge.training.forward.ops.shaping import copied
from weighbridge.training.forward.tensors import LeafTensor, Tensor

IN_BLOCK = re.compile(r"\.\d+\.")
# LyCORIS's words for classes of modules (module_algo_map), by the paths of their linears
CLASSES = {
    "Attention": re.compile(r"attn|attention"),
    "FeedForward": re.compile(r"(?:^|\.)(?:ff|ffn|mlp|feed_forward|ff_context)\."),
}
RESNETS = ".resnets."  # of UNets: kohya and the like adapt the transformers between them


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureAdapters:
    """`targets` names or classes of modules, or all linears of blocks; `casts` as PEFT's layers do;
    `factors` of LoKr by the class of a module, `factor` of others."""

    method: str
    rank: int
    targets: tuple[str, ...]
    dtype: DType
    dropout: float = 0.0
    casts: bool = True
    bypassed: bool = False
    factor: int = 0
    factors: Mapping[str, int] = field(default_factory=dict)

    def factor_of(self, path: str) -> int:
        named = (n for kind, n in self.factors.items() if CLASSES[kind].search(f"{path}."))
        return next(named, self.factor)


class LokrBypassed:
    """Stands in for the linear `base`: two products beside it, in groups of what it is given."""

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
    """Stands in for a linear: its weight and what is trained are added in every forward."""

    __slots__ = ("bias", "delta", "weight")

    def __init__(self, plain: Plain, delta: Hadamard | Kronecker) -> None:
        self.weight, self.bias, self.delta = plain.weight, plain.bias, delta

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        weight = add(m, self.weight, cast(m, self.delta(m), self.weight.dtype))
        return linear(m, x, weight, self.bias)


Maker = Callable[[str, int, int], LeafTensor]  # a path and the sides of a matrix


def targeted(params: Iterable[Param], targets: tuple[str, ...]) -> list[str]:
    """Return paths of the linears that have adapters. Raises UsageError where there are none."""
    specs = [ParameterSpec(p.name, p.shape, p.kind) for p in params if len(p.shape) == 2]
    kinds = [CLASSES[target] for target in targets if target in CLASSES]
    if not kinds and targets != (ALL,):
        return matched(specs, targets)
    paths = (path for path in matched(specs, (ALL,)) if IN_BLOCK.search(f"{path}."))
    if not kinds:
        return [path for path in paths if RESNETS not in path]
    return [path for path in paths if any(kind.search(f"{path}.") for kind in kinds)]


def put_on(
    m: Machine,
    how: PictureAdapters,
    paths: Iterable[str],
    params: Mapping[str, LeafTensor],
    wraps: dict[str, Wrap],
) -> list[LeafTensor]:
    """Put adapters on linears. Return what is trained."""
    trained: list[LeafTensor] = []

    def make(path: str, rows: int, columns: int) -> LeafTensor:
        leaf = m.param(path, (rows, columns), how.dtype, component="adapters")
        trained.append(leaf)
        return leaf

    for path in paths:
        plain = Plain(params[f"{path}.weight"], params.get(f"{path}.bias"))
        wraps[path] = _adapted(how, make, path, wraps.get(path), plain)
    return trained


HALF = 2  # of the larger side: LyCORIS cuts W2 in two below that rank


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
    if how.method == "loha":
        sides = ((outside, how.rank), (how.rank, inside)) * 2
        delta = Hadamard(*(make(f"{path}.hada_{i}", *side) for i, side in enumerate(sides)))
        return Rebuilt(plain, delta) if packed is None else WithDelta(packed, delta)
    factor = how.factor_of(path)
    (rows, c), (columns, d) = factored(outside, factor), factored(inside, factor)
    first = make(f"{path}.lokr_w1", rows, columns)
    if how.bypassed or packed is not None:  # nothing is added to a weight that is packed
        return LokrBypassed(packed or plain, first, make(f"{path}.lokr_w2", c, d))
    if HALF * how.rank < max(c, d):
        low = make(f"{path}.lokr_w2_a", c, how.rank), make(f"{path}.lokr_w2_b", how.rank, d)
        return Rebuilt(plain, Kronecker((outside, inside), first, low))
    whole = make(f"{path}.lokr_w2", c, d)
    return Rebuilt(plain, Kronecker((outside, inside), first, (whole,)))


def factored(size: int, factor: int) -> tuple[int, int]:
    """Return two factors of a side, the smaller first: the largest divisor up to `factor`, or up to
    the root where that is 0."""
    most = min(factor or isqrt(size), size)
    small = next(number for number in range(most, 0, -1) if size % number == 0)
    return min(small, size // small), max(small, size // small)


# ---- files that are loaded beside a denoiser


def files(part: ModelPart, count: int, rank: int, dtype: DType) -> tuple[int, ...]:
    """Return the bytes of the matrices of so many LoRAs, on all linears of a component's blocks."""
    shapes = {p.name.removesuffix(".weight"): p.shape for p in part.blueprint.params}
    sides = (side for path in _all_linears(part) for side in shapes[path])
    return tuple(dtype.size(rank * side) for side in sides) * count


def loaded(part: ModelPart, count: int, rank: int, dtype: DType) -> dict[str, Wrap]:
    """Return what stands in for each linear that has LoRAs beside it, without their memory."""
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
    return memo(part, ("linears of blocks",), lambda: targeted(part.blueprint.params, (ALL,)))

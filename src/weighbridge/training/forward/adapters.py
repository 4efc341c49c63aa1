"""Linears with a LoRA adapter: a low-rank product added to the base.

    y = base(x) + B(A(dropout(x))) * scaling        A [r, in], B [out, r]

    DoRA    y = base(x) + (s - 1) base(x) + s B(A(x)) * scaling,  s = magnitude / |W + B A|
    fused   y = base(x);  y += x A B * scaling: Unsloth's LoRA_W, LoRA_QKV and LoRA_MLP

PEFT casts the input to the adapter's dtype first, again for every adapter. DoRA makes B A from an
identity matrix, and adds it to the weights, in every forward. The output of a 4-bit linear of
bitsandbytes is cloned.

Unsloth casts A and B to the dtype of x, and makes nothing as wide as x except the base's output. x
is kept once, whatever reads it; the input of an MLP's last linear is not kept but recomputed in
backward. Dropout keeps a mask. This holds if all linears of one kernel have adapters and none a
bias: other linears, and DoRA, run as PEFT's, and the MLP with them as transformers'.

Source: PEFT 0.21 tuners/lora/layer.py (Linear.forward), bnb.py, dora.py; unsloth 2026.10.9
kernels/fast_lora.py, kernels/utils.py (matmul_lora), models/llama.py (patch_peft_model).
"""

from collections.abc import Collection, Mapping
from typing import Any

from weighbridge.base.dtypes import UINT8, DType
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops.experts import adapted
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.packed import Dequantized, Linear4, Linear8
from weighbridge.training.forward.ops.pointwise import add, cast, dropout, mul, scale, shift
from weighbridge.training.forward.ops.shaping import copied
from weighbridge.training.forward.tensors import Computed, LeafTensor, Tensor


class LoraLinear:
    """Replaces the linear `base` by LoRA's. `packed`: `base` is a linear of bitsandbytes or casts
    like one; PEFT's own layer around it casts inputs only without autocast."""

    __slots__ = ("a", "b", "base", "biased", "magnitude", "p", "packed", "weight")

    def __init__(
        self, base: Wrap, weight: LeafTensor, a: LeafTensor, b: LeafTensor, rate: float
    ) -> None:
        self.base = base
        self.weight = weight
        self.a = a
        self.b = b
        self.p = rate
        self.magnitude: LeafTensor | None = None
        self.biased = False  # DoRA subtracts the bias from the base's output
        converting = isinstance(base, Dequantized) and base.kernel.keeps == "input"
        self.packed = converting or isinstance(base, (Linear4, Linear8))

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        result = self.base(m, x)
        dtype = result.dtype
        if isinstance(self.base, Linear4):
            result = copied(m, result)
        converts = not self.packed or m.autocast is None
        if converts:
            x = cast(m, x, self.a.dtype)
        if self.magnitude is not None:
            result = self._dora(m, x, result)
        else:
            result = add(m, result, self._low(m, dropout(m, x, self.p), dtype, converts=converts))
        return cast(m, result, dtype) if converts else result

    def _low(self, m: Machine, x: Tensor, dtype: DType, *, converts: bool) -> Tensor:
        out = scale(m, linear(m, linear(m, x, self.a), self.b))
        return cast(m, out, dtype) if self.packed and converts else out

    def _dora(self, m: Machine, x: Tensor, result: Tensor) -> Tensor:
        """DoraLinearLayer.forward; its local variables live until it returns."""
        base_result = result
        if self.p and m.training:
            x = dropout(m, x, self.p)
        low = self._product(m, x)
        weight = cast(m, self.weight, x.dtype)
        if weight is self.weight and self.packed:
            weight = m.new(self.weight.shape, x.dtype, "temporaries")
        norm = self._norm(m, weight, low)
        assert self.magnitude is not None
        share = mul(m, self.magnitude, norm)
        lora_result = linear(m, linear(m, x, self.a), self.b)
        if self.p and m.training:
            base_result = linear(m, x, weight)
        elif self.biased:
            base_result = shift(m, base_result)
        inner = add(m, mul(m, shift(m, share), base_result), scale(m, mul(m, share, lora_result)))
        del low, weight
        return add(m, result, inner)

    def _product(self, m: Machine, x: Tensor) -> Tensor:
        """get_lora_weight"""
        inside = self.a.shape[1]
        eye = m.new((inside, inside), self.a.dtype)
        out = linear(m, linear(m, eye, self.a), self.b)
        return cast(m, out, x.dtype)

    def _norm(self, m: Machine, weight: Tensor, low: Tensor) -> Tensor:
        """get_weight_norm"""
        scaled = m.new(low.shape, low.dtype)
        whole = m.new(weight.shape, weight.dtype)
        del scaled
        norm = m.new((self.b.shape[0],), weight.dtype)  # one per output, in any layout of weight
        del whole
        return norm


class Stacked:
    """Replaces the stacked weights of all experts, or a router's weight (ParamWrapper)."""

    __slots__ = ("a", "b", "base")

    def __init__(self, a: LeafTensor, b: LeafTensor, base: Wrap | None = None) -> None:
        self.a = a
        self.b = b
        self.base = base  # dequantizes the weights

    def __call__(self, m: Machine, weight: Tensor) -> Tensor:
        return adapted(m, weight if self.base is None else self.base(m, weight), self.a, self.b)


class Plain:
    """A linear as the class has it: no adapter, unquantized weights."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: LeafTensor, bias: LeafTensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        return linear(m, x, self.weight, self.bias)


# ---- Unsloth's


MADE_AGAIN = "down_proj"
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj", MADE_AGAIN))


def fuses(name: str, adapted: Collection[str], params: Mapping[str, LeafTensor]) -> bool:
    """Return whether one of Unsloth's kernels runs the linear `name`: all linears of that kernel
    have adapters, and none a bias."""
    path, _, last = name.rpartition(".")
    beside = [f"{path}.{x}" for names in TOGETHER if last in names for x in names]
    return bool(beside) and all(x in adapted and f"{x}.bias" not in params for x in beside)


class FusedLora:
    """Replaces the linear `base` at `path` by Unsloth's LoRA kernel."""

    __slots__ = ("a", "b", "base", "keeps", "p")

    def __init__(self, path: str, base: Wrap, a: LeafTensor, b: LeafTensor, rate: float) -> None:
        self.base = base
        self.a = a
        self.b = b
        self.p = rate
        self.keeps = not path.endswith(MADE_AGAIN)

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        result = self.base(m, x)
        dropped = bool(self.p) and m.training
        mask = m.new(x.shape, UINT8) if dropped else None
        rank, dtype = self.a.shape[0], result.dtype
        beside = x.nbytes if dropped else 0
        low = dtype.size(x.rows * rank)
        m.hidden(beside, dtype.size(self.a.numel), low, dtype.size(self.b.numel))
        out = Computed(result.shape, dtype, result.storage)
        shapes = [(t.shape, t.dtype) for t in (self.a, self.b)]

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            m.hidden(beside, low)
            first, second = (m.new(shape, dtype) for shape, dtype in shapes)
            return [grads[0], first, second]

        to_save = [x.detach() if self.keeps else None, self.a, self.b, mask]
        record(m, back, [result, self.a, self.b], to_save, out)
        return out

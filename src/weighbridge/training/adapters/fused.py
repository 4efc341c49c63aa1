"""A linear with an adapter that is added in place: Unsloth's LoRA_W, LoRA_QKV and LoRA_MLP.

    y = base(x);  y += x A B * scaling        A and B cast to the dtype of x

Nothing as wide as x is made but what the base gives. x is kept once, whatever reads it; what the
last linear of a feed-forward reads is not, for it is made again in backward. Dropout keeps a mask.

It is so where all linears that one kernel runs have adapters and none of them a bias: others, and
DoRA, run as PEFT's (adapters/lora.py), the feed-forward among them as transformers'.
Source: unsloth 2026.10.9 kernels/fast_lora.py, kernels/utils.py (matmul_lora), models/llama.py
(patch_peft_model).
"""

from collections.abc import Collection, Mapping
from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.tensors import Computed, LeafTensor, Tensor
from weighbridge.dtypes import UINT8
from weighbridge.training.modules import Wrap

MADE_AGAIN = "down_proj"
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj", MADE_AGAIN))


def fuses(name: str, adapted: Collection[str], params: Mapping[str, LeafTensor]) -> bool:
    """Whether one of Unsloth's kernels runs the linear `name`."""
    path, _, last = name.rpartition(".")
    beside = [f"{path}.{x}" for names in TOGETHER if last in names for x in names]
    return bool(beside) and all(x in adapted and f"{x}.bias" not in params for x in beside)


class FusedLora:
    """Stands in for the linear `base` at `path`."""

    __slots__ = ("a", "b", "base", "keeps", "p")

    def __init__(self, path: str, base: Wrap, a: LeafTensor, b: LeafTensor, p: float) -> None:
        self.base = base
        self.a = a
        self.b = b
        self.p = p
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

        kept = [x.detach() if self.keeps else None, self.a, self.b, mask]
        record(m, back, [result, self.a, self.b], kept, out)
        return out

"""torchtitan: Llama's layers as torchtune has them, with sdpa; all logits, and float32 of them.

Source: torchtitan models/llama/model.py (Attention, TransformerBlock), train.py (loss_fn; pred
lives until the loss is there), of December 2024 (9dec370).
"""

from weighbridge.autograd.ops.attention import Heads
from weighbridge.autograd.ops.losses import cross_entropy
from weighbridge.autograd.ops.pointwise import cast
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.training.attend import attend
from weighbridge.training.losses import head
from weighbridge.training.nets.torchtune import decoded
from weighbridge.training.step import Step


def forward(s: Step) -> Tensor:
    """Transformer.forward up to the head"""
    return decoded(s, _sdpa)


def _sdpa(s: Step, q: Tensor, k: Tensor, v: Tensor, h: Heads) -> Tensor:
    return attend(s, q, k, v, h)


def loss(s: Step, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        pred = head(s, hidden)
        made = cross_entropy(m, cast(m, pred, FLOAT32), labels)
        del pred
    return made, None

"""What encoders share: attention in which all see all, and heads that give a label an input.

Source: transformers 5.23 models/bert/modeling_bert.py, models/vit/modeling_vit.py,
masking_utils.py (create_bidirectional_mask), loss/loss_utils.py (ForSequenceClassificationLoss).
"""

from typing import Any

from weighbridge.arch.body import Body
from weighbridge.arch.mixers import Attention
from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.attention import AttentionHeads
from weighbridge.autograd.ops.losses import cross_entropy
from weighbridge.autograd.ops.shaping import cut
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import BOOL, INT64
from weighbridge.errors import UsageError
from weighbridge.training.attend import attended
from weighbridge.training.modules import Module
from weighbridge.training.step import TrainingStep

Names = tuple[str, str, str]


def never_checkpointed(s: TrainingStep) -> None:
    """Refuse gradient checkpointing for classes whose gradient_checkpointing_enable raises."""
    if s.checkpointing != "none":
        raise UsageError(
            f"{s.built.kind}: its class cannot checkpoint its layers; leave --checkpointing out"
        )


def heads_of(s: TrainingStep, body: Body, length: int) -> AttentionHeads:
    """Return the heads of an encoder, or of the decoder that reads it; all layers have the same."""
    found = next(x for x in body.blocks[0].mixers if isinstance(x, Attention))
    return AttentionHeads(
        batch=s.batch,
        length=length,
        seen=length,
        heads=found.heads,
        kv_heads=found.heads,
        key_dim=found.key_dim,
        value_dim=found.value_dim,
    )


def mask(s: TrainingStep, length: int) -> Tensor | None:
    """Make the mask of padding; None where nothing is padded, eager attention or not."""
    if not s.padded or s.kernel == "flash":
        return None
    whole = (s.batch, 1, length, length)
    return s.m.new(whole, s.dtype if s.kernel == "eager" else BOOL)


def self_attention(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    h: AttentionHeads,
    names: Names,
    /,
    **more: Any,
) -> tuple[Tensor, Tensor | None]:
    """Queries, keys and values of three linears, as they are; what is attended to, as rows. `more`
    is for attend.How."""
    m, width = s.m, h.heads * h.key_dim
    query, key, value = (
        p.linear(m, x, name).view(h.batch, h.length, h.heads, h.key_dim) for name in names
    )
    out, weights = attended(s, query, key, value, h, causal=False, views=True, **more)
    return out.view(h.batch, h.length, width), weights


def first_token(m: Machine, x: Tensor) -> Tensor:
    """x[:, 0]: a view, whose gradient is zeros of the whole."""
    batch, _, width = x.shape
    return cut(m, x.view(batch, x.numel // batch), width)


def classified(s: TrainingStep, logits: Tensor) -> tuple[Tensor, Tensor]:
    """One label an input; cross-entropy in the dtype of the logits."""
    labels = s.m.new((s.batch,), INT64)
    return cross_entropy(s.m, logits, labels), logits


def by_token(s: TrainingStep, logits: Tensor) -> tuple[Tensor, Tensor]:
    """One label a token, none of them shifted."""
    labels = s.m.new((s.batch, s.length), INT64)
    rows = logits.view(labels.numel, logits.shape[-1])
    return cross_entropy(s.m, rows, labels), logits

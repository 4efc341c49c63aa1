"""torchtitan: Llama's layers as torchtune has them, with sdpa; and its losses, by date.

    to April 2025    all logits, and float32 of them; pred lives until the loss is there
    2025-04-02 on    the same, and with --compile the cast is in the loss's kernel (bbb1b616)
    2026-04-27 on    eight chunks of the sequence: of each the head, the loss and its backward at
                     once; the gradient of the hidden states is summed in float32 (786e26f8)

Tensor ranks share the tokens between their layers, and the outputs of the loss (loss_parallel).
Source: torchtitan models/llama/model.py (Attention, TransformerBlock), train.py (loss_fn) of
December 2024 (9dec370); components/loss.py (ChunkedLossWrapper, GradAccumulator) of August 2026
(b5bcd76).
"""

from typing import Any

from weighbridge.dtypes import FLOAT32, INT64, DType
from weighbridge.forward.losses import cross_entropy, head, in_forward, weight_of
from weighbridge.forward.machine import Grads, Machine, Needs, lower, record
from weighbridge.forward.nets import torchtune
from weighbridge.forward.nets.torchtune import CHUNKS, compiled_loss, decoded
from weighbridge.forward.ops.attention import AttentionHeads
from weighbridge.forward.ops.pointwise import cast
from weighbridge.forward.parts.attention import attend
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor
from weighbridge.units import ceil_div

COMPILES, CHUNKED = (2025, 4, 2), (2026, 4, 27)


def forward(s: TrainingStep) -> Tensor:
    """Transformer.forward up to the head"""
    return decoded(s, _sdpa)


def _sdpa(s: TrainingStep, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads) -> Tensor:
    return attend(s, q, k, v, heads)


def since(release: tuple[int, ...] | None, date: tuple[int, ...]) -> bool:
    """Tell whether a release is of `date` or newer; None is the newest."""
    return release is None or release >= date


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    if since(s.release, CHUNKED):
        return _chunks(s, hidden), None
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        pred = head(s, torchtune.whole(s, hidden))
        if s.compiled and since(s.release, COMPILES):
            out = compiled_loss(m, pred, labels)
        else:
            entropy = loss_parallel if s.token_ranks > 1 else cross_entropy
            out = entropy(m, cast(m, pred, FLOAT32), labels)
        del pred
    return out, None


def loss_parallel(m: Machine, logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of a part of the outputs. In backward one sum and one product are made of the
    softmax and of what is less at the labels, each a tensor of its own (torch
    distributed/tensor/parallel/loss.py, _log_softmax, _nll_loss_and_log_softmax_backward)."""
    shape = logits.shape
    shifted = m.new(shape, FLOAT32)
    m.hidden(shifted.nbytes)
    soft, loss = m.new(shape, FLOAT32), m.new((), FLOAT32)
    del shifted

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        less, exp = m.new(shape, FLOAT32), m.new(shape, FLOAT32)
        summed = m.new(shape, FLOAT32)
        del exp
        gradient = m.new(shape, FLOAT32)
        del less, summed
        return [gradient]

    record(m, back, [logits], [soft, labels], loss)
    return loss


def _chunks(s: TrainingStep, hidden: Tensor) -> Tensor:
    """Chunks are alike, so that one is run. The head's gradient is summed in float32, too."""
    m, weight = s.m, weight_of(s)
    hidden, used = lower(m, hidden), lower(m, weight)
    rows = s.batch * ceil_div(s.length, CHUNKS)
    first = second = None
    with m.making("logits"):
        m.new((s.batch, s.length), INT64)
        summed = m.new(hidden.shape, FLOAT32) if m.grad else None
        if m.grad and weight.trainable:
            second = m.new(weight.shape, FLOAT32)
        if s.token_ranks > 1:  # the chunk's states of all tokens
            m.hidden(hidden.dtype.size(rows * hidden.shape[-1]))
        grad = _chunk(s, (rows, weight.shape[0]), hidden.dtype)
        if m.grad:
            parts = [m.new((rows, hidden.shape[-1]), hidden.dtype)]
            if second is not None:
                parts.append(m.new(used.shape, used.dtype))
            del parts
            first = m.new(hidden.shape, hidden.dtype)
        del grad, summed
        total = m.new((), FLOAT32)
    return in_forward(m, (hidden, weight), (first, second), total)


def _chunk(s: TrainingStep, shape: tuple[int, int], dtype: DType) -> Tensor:
    """The gradient of a chunk's logits: of a compiled loss there are these two alone, else float32
    of the logits, their log_softmax and its gradient."""
    m = s.m
    logits = m.new(shape, dtype)
    m.product()
    if not s.compiled:
        copies = m.new(shape, FLOAT32), m.new(shape, FLOAT32)
        out = m.new(shape, FLOAT32)
        del copies, out
    grad = m.new(shape, dtype)
    del logits
    return grad

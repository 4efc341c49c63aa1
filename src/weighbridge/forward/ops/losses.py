"""Embeddings, and the loss of language models as transformers takes it.

    logits.float()    4 N V     log_softmax, saved    4 N V
    backward          nll gradient 4 N V, log_softmax gradient 4 N V, then as the logits are

Source: transformers 5.23, 4.49 and 4.48.3 loss/loss_utils.py (ForCausalLMLoss,
fixed_cross_entropy), 4.45.2 models/*/modeling_*.py.
"""

from typing import Any

from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.forward.machine import Grads, Machine, Needs, record
from weighbridge.forward.ops.pointwise import cast, wider
from weighbridge.forward.ops.shaping import copied, part
from weighbridge.forward.tensors import Computed, LeafTensor, Tensor, absent
from weighbridge.kernels.reductions import segments, sorted_bytes, sorts

INDEX = INT64.nbytes


def embedding(m: Machine, ids: Tensor, weight: Tensor) -> Tensor:
    """Look up token vectors. A later pipeline stage has no table: it returns what the stage before
    sends, and sends the gradient back."""
    if absent(weight):
        sent = m.new((*ids.shape, weight.shape[-1]), weight.dtype)
        return LeafTensor("received", sent.shape, sent.dtype, sent.storage)
    out = m.new((*ids.shape, weight.shape[-1]), weight.dtype)
    whole, count = weight.shape, ids.numel

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradient = m.new(whole, grads[0].dtype)
        if sorts(count):
            sums = whole[1] * max(gradient.dtype.nbytes, FLOAT32.nbytes)
            m.hidden(*sorted_bytes(count, INDEX), *segments(count, INDEX, whole[0], sums))
        return [gradient]

    record(m, back, [weight], [ids], out)
    return out


def cross_entropy(m: Machine, logits: Tensor, targets: Tensor) -> Tensor:
    """F.cross_entropy of [rows, vocab]: log_softmax in the dtype of the logits, and nll_loss, which
    autocast has in float32."""
    soft = m.new(logits.shape, logits.dtype)
    shape, dtype = logits.shape, logits.dtype

    def unsoft(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, dtype)]

    to_save = [Computed(soft.shape, soft.dtype, soft.storage)]
    record(m, unsoft, [logits], [*to_save, logits] if m.softmax_keeps else to_save, soft)
    if m.autocast is not None:
        soft = cast(m, soft, FLOAT32)
    loss, weight = m.new((), soft.dtype), m.new((), soft.dtype)
    wide = soft.dtype

    def unpicked(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, wide)]

    record(m, unpicked, [soft], [soft.detach(), targets, weight], loss)
    return loss


def binary_cross_entropy(m: Machine, logits: Tensor, targets: Tensor) -> Tensor:
    """F.binary_cross_entropy_with_logits, which autocast has in float32."""
    if m.autocast is not None:
        logits = cast(m, logits, FLOAT32)
    dtype = wider(logits, targets)
    rest, sigmoid = m.new(logits.shape, dtype), m.new(logits.shape, logits.dtype)
    loss = m.new((), dtype)
    del rest, sigmoid
    shape, own = logits.shape, logits.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        sigmoid = m.new(shape, own)
        gradient = m.new(shape, dtype)
        del sigmoid
        return [gradient if dtype == own else m.new(shape, own)]

    record(m, back, [logits], [logits, targets], loss)
    return loss


def causal_loss(m: Machine, logits: Tensor, labels: Tensor) -> Tensor:
    """Labels are padded and shifted, logits are not copied but for their float32 form."""
    wide = cast(m, logits, FLOAT32)
    padded = m.new((labels.shape[0], labels.shape[1] + 1), INT64)
    one = labels.shape[0] == 1  # what is cut off is in one piece then, and not copied
    shifted = Computed(labels.shape, INT64, padded.storage) if one else m.new(labels.shape, INT64)
    del padded
    return cross_entropy(m, wide.view(labels.numel, logits.shape[-1]), shifted)


def shifted_loss(m: Machine, logits: Tensor, labels: Tensor, *, plain: bool = False) -> Tensor:
    """Logits lose their last position, labels their first: copies, but of one sequence. `plain`:
    logits stay in their own dtype, but under autocast (transformers up to 4.48)."""
    batch, length, vocab = logits.shape
    wide = logits if plain else cast(m, logits, FLOAT32)
    shift_logits = part(m, wide, batch, length - 1, vocab)
    shift_labels = part(m, labels, batch, length - 1)
    if batch > 1:
        shift_logits = copied(m, shift_logits)
        shift_labels = m.new(shift_labels.shape, INT64)
    taken = cast(m, shift_logits, FLOAT32) if m.autocast is not None else shift_logits
    return cross_entropy(m, taken.view(shift_labels.numel, vocab), shift_labels)

"""The head and the loss, by the kernels that people use. N tokens, V outputs, D hidden.

    standard    logits of all tokens, a float32 copy, log_softmax: transformers ForCausalLMLoss
    liger       a chunk of logits at a time, forward and gradients at once: D / V of the tokens
    trl         tiles of 4,096 tokens and 32,768 outputs; gradients in float32
    trl-chunked 256 tokens of float32 logits at a time, checkpointed, with a head in float32
    unsloth     chunks whose 16 bytes a token and output are at most 4 GB, or half of what is free

Source: transformers 5.23 loss/loss_utils.py; liger_kernel 0.6
ops/fused_linear_cross_entropy.py; trl 1.16 kernels/chunked_logprob.py, 1.7
trainer/sft_trainer.py (_chunk, _chunked_cross_entropy_loss); unsloth_zoo
fused_losses/cross_entropy_loss.py. torchtune's chunks are in nets/torchtune.py.
"""

from collections.abc import Callable, Mapping
from typing import Any

from weighbridge.arch.model_types import differs, facts
from weighbridge.arch.roles import role
from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.errors import UnsupportedError
from weighbridge.forward.checkpoint import checkpoint
from weighbridge.forward.machine import Grads, Machine, Needs, lower, record
from weighbridge.forward.ops.losses import causal_loss, cross_entropy, shifted_loss
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.pointwise import add, cast, of_result, scale
from weighbridge.forward.ops.shaping import copied, part
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Computed, LeafTensor, Tensor
from weighbridge.units import ceil_div

Loss = Callable[
    [TrainingStep, Tensor], "tuple[Tensor, Tensor | None]"
]  # (loss, logits that are kept)
TILE = (4096, 32768)  # tokens, outputs
PADDED_SINCE = (4, 49)  # transformers loss/loss_utils.py
MOST = 4_000_000_000  # bytes of Unsloth's chunks
EACH = 16
CHUNK = 256  # valid tokens of TRL's chunks (_CHUNKED_LM_HEAD_CHUNK_SIZE)


def standard(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """The outputs hold the logits until the caller drops them. Three functions by release:

    to 4.45         the class makes its logits float32, and copies them without the last position
    4.46 to 4.48    the same in a function of its own: logits in 16 bits are there besides
    from 4.49       labels are padded instead; nothing is copied

    Some classes changed later. Before they did, GPT-2 and its time took the loss of logits as they
    are; others still make them float32 first.
    """
    m, kind = s.m, s.built.kind.removesuffix("_text")
    labels = m.new((s.batch, s.length), INT64)
    plain = s.transformers < facts(kind).transformers.plain_loss
    with m.making("logits"):
        logits = head(s, hidden)
        if s.transformers < facts(kind).transformers.wide_loss and not plain:
            logits = cast(m, logits, FLOAT32)
        if s.transformers < PADDED_SINCE or plain:
            loss = shifted_loss(m, logits, labels, plain=plain)
        else:
            loss = causal_loss(m, logits, labels)
    return loss, logits


def liger(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Chunks are a power of two, so that a chunk's logits are about as large as the hidden
    states."""
    weight = weight_of(s)
    outputs, width = _shape(weight, hidden)
    rows = hidden.rows
    parts = ceil_div(outputs, width)
    chunk = min(rows, 1 << (ceil_div(rows, parts) - 1).bit_length())
    return _fused(s, hidden, weight, tile=(chunk, outputs), wide=False), None


def trl(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    weight = weight_of(s)
    outputs, _ = _shape(weight, hidden)
    tile = min(hidden.rows, TILE[0]), min(outputs, TILE[1])
    return _fused(s, hidden, weight, tile=tile, wide=True), None


def trl_chunked(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Every token counts: those without a label would be left out."""
    m, weight = s.m, weight_of(s)
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        rows = copied(m, hidden).view(hidden.rows, hidden.shape[-1])
        loss: Tensor | None = None
        for start in range(0, rows.shape[0], CHUNK):
            piece = part(m, rows, min(CHUNK, rows.shape[0] - start), rows.shape[-1])
            one = checkpoint(m, _chunk, piece, m, weight, labels)
            loss = one if loss is None else add(m, loss, one)
    assert loss is not None
    return loss, None


def _chunk(x: Tensor, m: Machine, weight: Tensor, labels: Tensor) -> Tensor:
    """h.float() @ w.float().t(): a head that is turned round is no leaf, and autocast casts it for
    each chunk anew. Beside the loss there is the entropy: exp(log_p) and its product with it."""
    turned = Computed(weight.shape, weight.dtype, weight.storage)
    record(m, _passed, [weight], [], turned)
    logits = cast(m, linear(m, cast(m, x, FLOAT32), cast(m, turned, FLOAT32)), FLOAT32)
    loss = cross_entropy(m, logits, labels)
    m.hidden(logits.nbytes, logits.nbytes, name="logits")
    return loss


def _passed(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
    return [grads[0]]


def unsloth(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    weight = weight_of(s)
    outputs, _ = _shape(weight, hidden)
    rows = min(hidden.rows, max(1, MOST // (EACH * outputs)))
    return _fused(s, hidden, weight, tile=(rows, outputs), wide=False), None


def _fused(
    s: TrainingStep, hidden: Tensor, weight: LeafTensor, *, tile: tuple[int, int], wide: bool
) -> Tensor:
    """One node: gradients are made in forward, a tile of logits at a time, and kept for
    backward."""
    m = s.m
    hidden, used = lower(m, hidden), lower(m, weight)
    grad_dtype = FLOAT32 if wide else hidden.dtype
    with m.making("logits"):
        m.new((s.batch, s.length), INT64)
        logits = m.new(tile, hidden.dtype)
        m.product()
        first = m.new(hidden.shape, grad_dtype) if hidden.requires_grad else None
        second = m.new(weight.shape, FLOAT32 if wide else used.dtype) if weight.trainable else None
        loss = m.new((), FLOAT32)
        del logits
    dtypes = hidden.dtype, weight.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [
            None if g is None or not needed else g if g.dtype == d else m.new(g.shape, d)
            for g, needed, d in zip(saved, needs, dtypes, strict=True)
        ]

    record(m, back, [hidden, weight], [first, second], loss)
    return loss


def head(s: TrainingStep, hidden: Tensor) -> Tensor:
    """Compute the logits, [batch, length, vocabulary]. Some classes scale them, or cap them: cap *
    tanh(logits / cap)."""
    name, config = _named(s), s.built.config
    logits = s.built.root.linear(s.m, hidden, name) if name else linear(s.m, hidden, tied(s))
    logits = s.around.logits(s.m, logits)
    if config.get("final_logit_softcapping", "logits_soft_cap"):
        logits = scale(s.m, logits)
        logits = of_result(s.m, logits)
        return scale(s.m, logits)
    scales = differs(s.built.kind, "scaled_logits") or config.get("logits_scaling", "logit_scale")
    return scale(s.m, logits) if scales else logits


def weight_of(s: TrainingStep) -> LeafTensor:
    name = _named(s)
    return s.built.root.weight(name) if name else tied(s)


def _named(s: TrainingStep) -> str:
    """The head's path; "" where the embedding is the head."""
    weights = (n for n in s.built.params if n.endswith(".weight") and role(n) == "head")
    return next(weights, "").removesuffix(".weight")


def _shape(weight: LeafTensor, hidden: Tensor) -> tuple[int, int]:
    """(outputs, width) of the head."""
    width = hidden.shape[-1]
    return weight.numel // width, width


def tied(s: TrainingStep) -> LeafTensor:
    """The embedding that is the head, too; of decoders that share it with an encoder, elsewhere."""
    words = [(n, p) for n, p in s.built.params.items() if p.kind == "embedding"]
    if not words:
        raise UnsupportedError(
            f"{s.built.kind}: the class has neither a head nor an embedding, and predicts no next "
            "token; leave --loss out"
        )
    own = (p for n, p in words if s.built.base.path in n)
    return next(own, None) or words[0][1]


LOSSES: Mapping[str, Loss] = {
    "standard": standard,
    "liger": liger,
    "trl": trl,
    "trl-chunked": trl_chunked,
    "unsloth": unsloth,
}

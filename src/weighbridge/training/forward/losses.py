"""The head and the loss, by the kernels that people use. N tokens, V outputs, D hidden.

    standard    logits of all tokens, a float32 copy, log_softmax: transformers ForCausalLMLoss.
                logits.float() 4 N V; log_softmax, saved, 4 N V; in backward the gradients of nll
                and of log_softmax, 4 N V each, then in the dtype of the logits
    liger       a chunk of logits at a time, forward and gradients at once: D / V of the tokens
    cce         no logits: a sum of exponentials per token, gradients in backward (Apple's)
    trl         tiles of 4,096 tokens and 32,768 outputs, recomputed in backward; float32 gradients
    trl-chunked 256 tokens of float32 logits at a time, checkpointed, with a head in float32
    unsloth     chunks of at most 4 GB, or half of the free memory, at 16 bytes per token and output

Source: transformers 5.23, 4.49 and 4.48.3 loss/loss_utils.py (ForCausalLMLoss,
fixed_cross_entropy), 4.45.2 models/*/modeling_*.py; liger_kernel 0.6
ops/fused_linear_cross_entropy.py; trl 1.16 kernels/chunked_logprob.py, 1.7 trainer/sft_trainer.py
(_chunk, _chunked_cross_entropy_loss); unsloth_zoo fused_losses/cross_entropy_loss.py;
cut_cross_entropy (apple/ml-cross-entropy d42911f, axolotl's fork 5f0c7a7) cce.py,
cce_lse_forward.py, cce_backward.py, utils.py. torchtune's chunks are in nets/torchtune.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, INT32, INT64, DType
from weighbridge.base.errors import TriedError, UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.model_types import differs, facts
from weighbridge.models.arch.roles import role
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, record
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import add, cast, of_result, scale, wider
from weighbridge.training.forward.ops.shaping import copied, part
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, LeafTensor, Shape, Tensor

Loss = Callable[
    [TrainingStep, Tensor], "tuple[Tensor, Tensor | None]"
]  # (loss, logits that the caller keeps)
TILE = (4096, 32768)  # tokens and outputs per tile
PADDED_SINCE = (4, 49)  # transformers loss/loss_utils.py
MOST = 4_000_000_000  # bytes of Unsloth's chunks, at EACH bytes per token and output
EACH = 16
TILES = (128, 64)  # (tokens or outputs, hidden elements) per lock of Apple's kernel
SCORE = "score.weight"  # name of the single-output head of a reward or value model
CHUNK = 256  # labelled tokens per chunk in TRL (_CHUNKED_LM_HEAD_CHUNK_SIZE)


def standard(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return transformers' loss and the logits, which the outputs hold until the caller drops them:

    to 4.45         the class makes its logits float32, and copies them without the last position
    4.46 to 4.48    the same in a separate function: logits in 16 bits are alive, too
    from 4.49       labels are padded instead; nothing is copied

    Some classes changed later. Before they did (4.48.3), GPT-2 and classes of its time took the
    loss of logits in their own dtype; others still make them float32 first.
    """
    m, kind = s.m, s.built.kind.removesuffix("_text")
    labels = m.new((s.batch, s.length), INT64)
    plain = (*s.transformers, s.patch) < facts(kind).transformers.plain_loss
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
    """Return Liger's loss. Chunks are a power of two, so that a chunk's logits are about as large
    as the hidden states."""
    weight = weight_of(s)
    outputs, width = _shape(weight, hidden)
    rows = hidden.rows
    parts = ceil_div(outputs, width)
    chunk = min(rows, 1 << (ceil_div(rows, parts) - 1).bit_length())
    return _fused(s, hidden, weight, tile=(chunk, outputs)), None


def cce(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return Cut Cross Entropy's loss: a kernel reads the head tile by tile. It is a function of
    its own, so that autocast's casts are copies in it, and kept. Every token but a sequence's last
    counts. Raises UsageError in float32, for which its kernel would stop."""
    m, weight = s.m, weight_of(s)
    rows = s.batch * (s.length - 1)
    dtype = s.computing
    if dtype == FLOAT32:
        raise TriedError(
            sentence("cce_float32"),
            seen="cut_cross_entropy cce_backward: Backwards requires embeddings to be bf16 or fp16",
        )
    outputs, width = _shape(weight, hidden)
    with m.making("logits"):
        targets = m.new((s.batch, s.length), INT64)
        numbers = _places(m, rows)
        with m.no_grad():
            states, used = cast(m, hidden, dtype), cast(m, weight, dtype)
        sums, mean = m.new((rows,), FLOAT32), m.new((outputs,), FLOAT32)
        picked = m.new((rows,), FLOAT32)
        loss = m.new((), FLOAT32)
        del picked
    forms = [(hidden.shape, hidden.dtype), (weight.shape, weight.dtype)]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        order = _sorted(m, outputs)
        made = [m.new(f[0], dtype) if n else None for f, n in zip(forms, needs, strict=True)]
        m.hidden(*(4 * ceil_div(n, TILES[0]) * ceil_div(width, TILES[1]) for n in (rows, outputs)))
        del order
        wholes = zip(forms, made, strict=True)
        return [g if g is None or g.dtype == f[1] else m.new(*f) for f, g in wholes]

    to_save = [states.detach(), used.detach(), sums, targets, numbers, mean]
    record(m, back, [hidden, weight], to_save, loss)
    return loss, None


def _places(m: Machine, rows: int) -> Tensor:
    """Return the indices of the tokens that have a label (_build_flat_valids)."""
    found = m.new((rows,), BOOL)
    wide = m.new((rows, 2), INT64)
    narrow = m.new((rows, 2), INT32)
    numbers = m.new((rows,), INT64)
    del found, wide, narrow
    return numbers


def _sorted(m: Machine, outputs: int) -> Tensor:
    """Return the output indices sorted by mean logit (argsort, then in 32 bits)."""
    values, places = m.new((outputs,), FLOAT32), m.new((outputs,), INT64)
    order = m.new((outputs,), INT32)
    del values, places
    return order


def trl(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return TRL's loss by tiles. Forward folds one tile after another into sums; backward
    recomputes each, and adds to float32 gradients. Every token but a sequence's last counts. An
    H100 held as much to 0.01 % with TRL 1.16 (Llama 3.2 1B, 4 x 1,024 tokens; our own run)."""
    return tiled(s, hidden, s.batch * (s.length - 1), ()), None


def tiled(s: TrainingStep, hidden: Tensor, rows: int, shape: Shape) -> Tensor:
    """Return the log-probabilities of `rows` tokens computed by TRL's tiles, or, with the shape (),
    their sum."""
    m, weight = s.m, weight_of(s)
    dtype = s.computing
    with m.making("logits"):
        targets = m.new((s.batch, s.length), INT64)
        states = _counted(m, hidden, rows)
        sums, loss = m.new(states.shape[:1], FLOAT32), m.new(shape, FLOAT32)
        _tiles(m, states.shape, states.dtype, weight, dtype)
    forms = [(states.shape, states.dtype), (weight.shape, weight.dtype)]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        made = [m.new(f[0], FLOAT32) if n else None for f, n in zip(forms, needs, strict=True)]
        buffer = _tiles(m, *forms[0], weight, dtype, again=True)  # until the gradients are cast
        wholes = zip(forms, made, strict=True)
        gradients = [g if g is None or f[1] == FLOAT32 else m.new(*f) for f, g in wholes]
        del buffer
        return gradients

    record(m, back, [states, weight], [states.detach(), targets, sums], loss)
    return loss


def _counted(m: Machine, hidden: Tensor, rows: int) -> Tensor:
    """Return copies of the hidden states of the `rows` tokens that have a label."""
    shape, dtype = hidden.shape, hidden.dtype
    picked = m.new((rows, shape[-1]), dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, dtype)]

    record(m, back, [hidden], [m.new((rows, 2), INT64)], picked)
    return picked


def _tiles(
    m: Machine,
    shape: tuple[int, ...],
    dtype: DType,
    weight: LeafTensor,
    computing: DType,
    *,
    again: bool = False,
) -> Tensor:
    """Allocate a tile's logits and casts; return the logits' buffer, which is as wide with fewer
    outputs. A tile's casts are freed when the next exist; in forward those of the head before."""
    rows, width = shape
    buffer = m.new((min(rows, TILE[0]), TILE[1]), computing)
    states = turned = None
    for start in range(0, rows, TILE[0]):
        if dtype != computing:
            states = m.new((min(TILE[0], rows - start), width), computing)
        for first in range(0, weight.numel // width, TILE[1]):
            if weight.dtype != computing:
                wanted = min(TILE[1], weight.numel // width - first)
                turned = m.new((wanted, width), computing)
            m.product()
            if not again:
                turned = None
    del states, turned
    return buffer


def trl_chunked(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return TRL's loss by checkpointed chunks of tokens. TRL drops tokens without a label; here
    all have one."""
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
    """Return a chunk's loss, h.float() @ w.float().t(): a transposed head is no leaf, so autocast
    casts it again for each chunk. The entropy takes exp(log_p) and its product with log_p."""
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
    return _fused(s, hidden, weight, tile=(rows, outputs)), None


def in_forward(
    m: Machine, inputs: Sequence[Tensor], gradients: Sequence[Tensor | None], loss: Tensor
) -> Tensor:
    """Return `loss`, with gradients of `inputs` computed in forward: backward returns them in the
    dtype of each input."""
    dtypes = [x.dtype for x in inputs]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [
            None if g is None or not needed else g if g.dtype == d else m.new(g.shape, d)
            for g, needed, d in zip(saved, needs, dtypes, strict=True)
        ]

    record(m, back, [*inputs], [*gradients], loss)
    return loss


def _fused(s: TrainingStep, hidden: Tensor, weight: LeafTensor, *, tile: tuple[int, int]) -> Tensor:
    """Return the fused loss as one graph node: gradients are computed in forward, one `tile` of
    logits at a time, and kept for backward."""
    m = s.m
    hidden, used = lower(m, hidden), lower(m, weight)
    with m.making("logits"):
        m.new((s.batch, s.length), INT64)
        logits = m.new(tile, hidden.dtype)
        m.product()
        first = m.new(hidden.shape, hidden.dtype) if hidden.requires_grad else None
        second = m.new(weight.shape, used.dtype) if weight.trainable else None
        loss = m.new((), FLOAT32)
        del logits
    return in_forward(m, (hidden, weight), (first, second), loss)


# ---- operators, as transformers computes the loss


def cross_entropy(m: Machine, logits: Tensor, targets: Tensor) -> Tensor:
    """Return F.cross_entropy of [rows, vocab]: log_softmax in the dtype of the logits, and
    nll_loss, which autocast runs in float32."""
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
    """Return F.binary_cross_entropy_with_logits, which autocast runs in float32."""
    if m.autocast is not None:
        logits = cast(m, logits, FLOAT32)
    dtype = wider(logits, targets)
    term, sigmoid = m.new(logits.shape, dtype), m.new(logits.shape, logits.dtype)
    loss = m.new((), dtype)
    del term, sigmoid
    shape, logits_dtype = logits.shape, logits.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        sigmoid = m.new(shape, logits_dtype)
        gradient = m.new(shape, dtype)
        del sigmoid
        return [gradient if dtype == logits_dtype else m.new(shape, logits_dtype)]

    record(m, back, [logits], [logits, targets], loss)
    return loss


def causal_loss(m: Machine, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss over padded, shifted labels. The only copy of the logits is the float32
    cast."""
    wide = cast(m, logits, FLOAT32)
    padded = m.new((labels.shape[0], labels.shape[1] + 1), INT64)
    one = labels.shape[0] == 1  # a slice of one row is contiguous, and not copied
    shifted = Computed(labels.shape, INT64, padded.storage) if one else m.new(labels.shape, INT64)
    del padded
    return cross_entropy(m, wide.view(labels.numel, logits.shape[-1]), shifted)


def shifted_loss(m: Machine, logits: Tensor, labels: Tensor, *, plain: bool = False) -> Tensor:
    """Return the loss of logits without their last position and labels without their first; slices
    of several sequences are copied. `plain`: logits keep their dtype without autocast (up to
    4.48)."""
    batch, length, vocab = logits.shape
    wide = logits if plain else cast(m, logits, FLOAT32)
    shift_logits = part(m, wide, batch, length - 1, vocab)
    shift_labels = part(m, labels, batch, length - 1)
    if batch > 1:
        shift_logits = copied(m, shift_logits)
        shift_labels = m.new(shift_labels.shape, INT64)
    taken = cast(m, shift_logits, FLOAT32) if m.autocast is not None else shift_logits
    return cross_entropy(m, taken.view(shift_labels.numel, vocab), shift_labels)


# ---- the head


def head(s: TrainingStep, hidden: Tensor) -> Tensor:
    """Return the logits, [batch, length, vocabulary]; some classes scale them, or cap them: cap *
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
    """Return the path of the head's linear; "" if the head is the embedding."""
    named = (n for n in s.built.params if n.endswith(".weight"))
    weights = (n for n in named if role(n) == "head" or n == SCORE)
    return next(weights, "").removesuffix(".weight")


def _shape(weight: LeafTensor, hidden: Tensor) -> tuple[int, int]:
    """Return (outputs, inputs) of the head."""
    width = hidden.shape[-1]
    return weight.numel // width, width


def tied(s: TrainingStep) -> LeafTensor:
    """Return the embedding whose weight is also the head's: the decoder's, or the one it shares."""
    words = [(n, p) for n, p in s.built.params.items() if p.kind == "embedding"]
    if not words:
        raise UnsupportedError(sentence("predicts_none", kind=s.built.kind))
    of_decoder = (p for n, p in words if s.built.base.path in n)
    return next(of_decoder, None) or words[0][1]


LOSSES: Mapping[str, Loss] = {
    "standard": standard,
    "liger": liger,
    "cce": cce,
    "trl": trl,
    "trl-chunked": trl_chunked,
    "unsloth": unsloth,
}

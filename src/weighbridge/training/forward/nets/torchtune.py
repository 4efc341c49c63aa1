"""torchtune: its TransformerDecoder, the same layers for Llama, Mistral, Qwen and Phi-3.

    norms      in float32, times a weight in the model's dtype
    positions  pairs of neighbours, in float32
    attention  keys and values copied for all heads; of packed sequences by flex attention
    compiled   layer by layer: what is computed number by number is one kernel, and what a product
               reads in backward is kept, not computed again (partitioners.py,
               ban_if_materialized_backward); flex attention stays outside
    loss       logits in float32; or in eight chunks, cast one at a time

Tensor ranks may share the tokens wherever no matrix is shared out (sequence parallelism; a step
whose `token_ranks` are 1 passes through):

    own        what norms, sums of residuals and checkpoints see: tokens / ranks
    whole      what attention and feed-forward are given: gathered from all ranks, and put in the
               order of tokens by a copy; in backward their gradient is reduced and cut
    cut        what they give: sums of all ranks, reduced and cut; in backward gathered

Source: torchtune 0.4 modules/{transformer,attention,rms_norm,position_embeddings,feed_forward}.py,
modules/peft/lora.py, modules/loss/ce_chunked_output_loss.py, training/_compile.py; torch 2.5
_functorch/partitioners.py, distributed/_functional_collectives.py (all_gather_tensor,
reduce_scatter_tensor), whose results along tokens are copied for they come one rank after another;
torchtitan 9dec370 and later models/llama/parallelize_llama.py (apply_tp: SequenceParallel,
PrepareModuleInput, RowwiseParallel with Shard(1)).
"""

from collections.abc import Callable
from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div
from weighbridge.training.forward.losses import cross_entropy, head
from weighbridge.training.forward.machine import (
    Grads,
    Machine,
    Needs,
    lower,
    made_like,
    record,
    remade,
)
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import EMBEDDINGS
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.float8 import Casts, LinearFloat8, in_float8
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    mean,
    mul,
    of_input,
    power,
    rsqrt,
    shift,
    sub,
)
from weighbridge.training.forward.ops.shaping import (
    copied,
    cut,
    embedding,
    join,
    repeat,
    split,
    turned,
)
from weighbridge.training.forward.parts.attention import heads
from weighbridge.training.forward.parts.layer import FINAL, run
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, LeafTensor, Shape, Tensor, absent

Kernel = Callable[[TrainingStep, Tensor, Tensor, Tensor, AttentionHeads], Tensor]
CHUNKS = 8  # num_output_chunks


def forward(s: TrainingStep) -> Tensor:
    """Return the hidden states of TransformerDecoder.forward, before the head."""
    return decoded(s, flex)


class OwnLayers(NamedTuple):
    """A decoder of torchtune's shape with other layers; None: torchtune's. `width`: elements of a
    head that have positions, 0 for all."""

    layer: Callable[..., Tensor] | None = None
    norm: Callable[[TrainingStep, Tensor, Module, str], Tensor] | None = None
    width: int = 0


def decoded(s: TrainingStep, kernel: Kernel, own: OwnLayers | None = None) -> Tensor:
    """Return the hidden states of torchtune's decoder, with another attention kernel or layers."""
    own = own or OwnLayers()
    m, built = s.m, s.built
    tokens = m.new((s.batch, s.length), INT64)
    words = built.base.weight(built.base.first(*EMBEDDINGS))
    if absent(words):
        h: Tensor = _received(s, words.shape[-1])
    else:
        h = sequence_cut(s, embedding(m, own_tokens(s, tokens, words), words))
    width = own.width or heads(s, 0).key_dim
    cache = m.new((s.length, width // 2, 2), FLOAT32)
    each = own.layer or (compiled_layer if s.compiled else layer)
    for i, p in enumerate(built.layers):
        h = run(s, each, h, p, i, cache, kernel)
    name = built.base.first(*FINAL)
    return norm(m, h, built.base, name) if own.norm is None else own.norm(s, h, built.base, name)


def _received(s: TrainingStep, width: int) -> Tensor:
    """Return the states received from the previous pipeline stage, of this rank's own tokens."""
    shape = s.batch, ceil_div(s.length, s.token_ranks), width
    place = s.m.new(shape, s.dtype) if s.arrivals is None else s.arrivals
    return LeafTensor("received", shape, s.dtype, place.storage)


def norm(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """RMSNorm.forward"""
    x_fp32 = cast(m, x, FLOAT32)
    x_normed = cast(m, mul(m, x_fp32, rsqrt(m, shift(m, mean(m, power(m, x_fp32))))), x.dtype)
    return mul(m, x_normed, p.weight(name))


def layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, cache: Tensor, kernel: Kernel
) -> Tensor:
    """TransformerSelfAttentionLayer.forward"""
    m = s.m
    h = whole(s, norm(m, x, p, "input_layernorm"))
    attn_out = sequence_cut(s, attention(s, p.at("self_attn"), h, number, cache, kernel))
    h = add(m, attn_out, x)
    normed = whole(s, norm(m, h, p, "post_attention_layernorm"))
    mlp_out = sequence_cut(s, feed_forward(m, p.at("mlp"), normed))
    return add(m, h, mlp_out)


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, cache: Tensor, kernel: Kernel
) -> Tensor:
    """MultiHeadAttention.forward"""
    m, h = s.m, heads(s, number)
    q = p.linear(m, x, "q_proj").view(*h.queries)
    q = turned(m, rope(m, q, cache))
    k = p.linear(m, x, "k_proj")
    v = p.linear(m, x, "v_proj")
    k = rope(m, k.view(*h.keys), cache)
    v = v.view(*h.values)
    k, v = turned(m, k), turned(m, v)
    if h.groups > 1:
        whole = (h.batch, h.heads, h.length, h.key_dim)
        k, v = repeat(m, k, h.groups, whole), repeat(m, v, h.groups, whole)
    output = kernel(s, q, k, v, h.repeated)
    return p.linear(m, output.view(*h.joined), "o_proj")


def rope(m: Machine, x: Tensor, cache: Tensor) -> Tensor:
    """Return RotaryPositionalEmbeddings.forward: four products of halves."""
    xshaped = cast(m, x, FLOAT32)
    half = x.shape[-1] // 2
    rows = Computed((cache.shape[0], 1, half), FLOAT32, cache.storage)
    first, second = cut(m, xshaped, half), cut(m, xshaped, half)
    one = sub(m, mul(m, first, rows), mul(m, second, rows))
    first, second = cut(m, xshaped, half), cut(m, xshaped, half)
    two = add(m, mul(m, second, rows), mul(m, first, rows))
    x_out = join(m, one, two)
    del one, two
    return cast(m, x_out, x.dtype)


def flex(s: TrainingStep, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads) -> Tensor:
    """Return flex attention, run with heads before tokens; the output is copied to be contiguous
    for the output projection."""
    return copied(s.m, flex_attention(s.m, q, k, v, heads))


def flex_attention(m: Machine, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads) -> Tensor:
    """Return compiled flex attention: gradients are in the inputs' dtype, and backward sums the
    output times its gradient per row."""
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    out = m.new((heads.batch, heads.heads, heads.length, heads.value_dim), q.dtype)
    sums = m.new((heads.batch, heads.heads, heads.length), FLOAT32)
    shapes = q.shape, k.shape, v.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        delta = m.new(saved[4].shape, FLOAT32)
        gradients = [m.new(shape, saved[0].dtype) for shape in shapes]
        del delta
        return gradients

    record(m, back, [q, k, v], [q, k, v, Computed(out.shape, out.dtype, out.storage), sums], out)
    return out


def feed_forward(m: Machine, p: Module, x: Tensor) -> Tensor:
    """FeedForward.forward"""
    h = of_input(m, p.linear(m, x, "gate_proj"))
    h = mul(m, h, p.linear(m, x, "up_proj"))
    return p.linear(m, h, "down_proj")


# ---- the same, compiled


def compiled_layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, cache: Tensor, kernel: Kernel
) -> Tensor:
    m = s.m
    mixer, mlp = p.at("self_attn"), p.at("mlp")
    h = whole(s, fused_norm(m, x, p.weight("input_layernorm")), small(mixer, "q_proj"))
    cast_out = small(mixer, "o_proj")
    attn_out = sequence_cut(s, compiled_attention(s, mixer, h, number, kernel), cast_out)
    h = add(m, attn_out, x)
    normed = fused_norm(m, h, p.weight("post_attention_layernorm"))
    normed = whole(s, normed, small(mlp, "gate_proj"))
    product = fused(m, mlp.linear(m, normed, "gate_proj"), mlp.linear(m, normed, "up_proj"))
    return add(m, h, sequence_cut(s, mlp.linear(m, product, "down_proj"), small(mlp, "down_proj")))


def compiled_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, kernel: Kernel
) -> Tensor:
    m, h = s.m, heads(s, number)
    shape = h.queries
    q = one_kernel(m, p.linear(m, x, "q_proj"), shape)
    k = one_kernel(m, p.linear(m, x, "k_proj"), shape)
    v = p.linear(m, x, "v_proj")
    v = one_kernel(m, v, shape) if h.groups > 1 else v.view(*shape)
    output = kernel(s, q, k, v, h.repeated)
    return p.linear(m, output.view(*h.joined), "o_proj")


def fused_norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return the norm in one kernel, which saves its input and an inverse root per row."""
    out = m.new(x.shape, x.dtype)
    root = m.new((*x.shape[:-1], 1), FLOAT32)
    width = weight.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        of_input = m.new(grads[0].shape, dtype) if needs[0] else None
        return [of_input, m.new(width, dtype) if needs[1] else None]

    record(m, back, [x, weight], [x, root, weight], out)
    return out


def fused(m: Machine, gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up."""
    out = m.new(gate.shape, gate.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [
            m.new(t.shape, t.dtype) if needed else None
            for t, needed in zip(saved, needs, strict=True)
        ]

    record(m, back, [gate, up], [gate, up], out)
    return out


def one_kernel(m: Machine, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return `x` rotated, repeated or transposed as `shape`, in one compiled kernel: nothing is
    saved."""
    return remade(m, x, m.new(shape, x.dtype))


# ---- loss


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return CrossEntropyLoss of all logits in float32, which are freed once the loss exists."""
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        logits = cast(m, head(s, hidden), FLOAT32)
        return (compiled_loss if s.compiled else cross_entropy)(m, logits, labels), None


def chunked(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return CEWithChunkedOutputLoss: the head of each chunk first, then each chunk's loss."""
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    width = hidden.shape[-1]
    each = ceil_div(s.length, CHUNKS)
    sizes = [min(each, s.length - start) for start in range(0, s.length, each)]
    with m.making("logits"):
        flat = hidden.view(s.batch, s.length * width)
        pieces = split(m, flat, [n * width for n in sizes])
        rows = [x.view(s.batch, n, width) for x, n in zip(pieces, sizes, strict=True)]
        logits = [head(s, copied(m, x) if s.batch > 1 else x) for x in rows]
        total: Tensor | None = None
        for chunk in logits:
            one = _loss(s, chunk, labels)
            total = one if total is None else add(m, total, one)
        del logits
    assert total is not None
    return total, None


def _loss(s: TrainingStep, chunk: Tensor, labels: Tensor) -> Tensor:
    if s.compiled:
        return compiled_loss(s.m, chunk, labels)
    return cross_entropy(s.m, cast(s.m, chunk, FLOAT32), labels)


def compiled_loss(m: Machine, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the compiled loss. Cast and log_softmax are fused: saved are the logits as they are,
    and two elements per row."""
    largest, sums = m.new((logits.rows, 1), FLOAT32), m.new((logits.rows, 1), FLOAT32)
    out = m.new((), FLOAT32)
    to_save = [Computed(logits.shape, logits.dtype, logits.storage), largest, sums, labels]
    return made_like(m, logits, out, *to_save)


# ---- ranks that share the tokens


def own_tokens(s: TrainingStep, tokens: Tensor, words: Tensor) -> Tensor:
    """Return the tokens that a stage looks up: all; on later stages those of this rank, whose
    states are received."""
    if s.token_ranks == 1 or not absent(words):
        return tokens
    return tokens.view(s.batch, ceil_div(s.length, s.token_ranks))


def small(p: Module, name: str) -> Casts | None:
    """Return how tensor-parallel ranks cast what they gather for a linear; None without a cast."""
    wrap = p.wraps.get(p.path + name)
    casts = wrap.casts if isinstance(wrap, LinearFloat8) else None
    return casts if casts is not None and casts.shared else None


def whole(s: TrainingStep, x: Tensor, casts: Casts | None = None) -> Tensor:
    """Return the states of all tokens, gathered from tensor-parallel ranks; in 8 bits as `casts`
    says, with the gradient in 16."""
    if s.token_ranks == 1:
        return x
    x = x if casts is None else in_float8(s.m, x, casts)
    return _exchanged(s.m, x, (x.shape[0], s.length, *x.shape[2:]))


def sequence_cut(s: TrainingStep, x: Tensor, casts: Casts | None = None) -> Tensor:
    """Return this rank's tokens of a sum over ranks; `x` if tokens are not sharded. `casts`:
    gradients are gathered in 8 bits."""
    own_length = ceil_div(s.length, s.token_ranks)
    if s.token_ranks == 1 or x.shape[1] == own_length:
        return x
    return _exchanged(s.m, x, (x.shape[0], own_length, *x.shape[2:]), casts)


def _exchanged(m: Machine, x: Tensor, shape: Shape, casts: Casts | None = None) -> Tensor:
    """Return the result of a collective, with a copy of the longer of its input and output."""
    before = x.shape
    out = _one(m, x, shape)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradient = grads[0] if casts is None else casts(m, grads[0])
        return [_one(m, gradient, before)]

    record(m, back, [x], [], out)
    return out


def _one(m: Machine, x: Tensor, shape: Shape) -> Tensor:
    """Return the result of a collective; selective checkpoints keep reduced sums."""
    reduces = shape[1] < x.shape[1]
    joined = m.new(x.shape if reduces else shape, x.dtype)
    out = (
        m.result("sum", shape, x.dtype) if reduces and not m.in_backward else m.new(shape, x.dtype)
    )
    del joined
    return out

"""T5: an encoder and a decoder, norms without mean before all parts, relative positions that are
looked up once and added to the scores of every layer, dropouts; no scale.

The decoder's sequences are as long as the encoder's: `seq_len` each.
Source: transformers 5.23 models/t5/modeling_t5.py, integrations/sdpa_attention.py
(create_position_bias_mask).
"""

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple, dataclass, field
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.model_types import differs
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.biases import buckets, where
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    dropout,
    mean,
    mul,
    power,
    rsqrt,
    scale,
    several,
    shift,
)
from weighbridge.training.forward.ops.shaping import copied, embedding
from weighbridge.training.forward.parts import encoder
from weighbridge.training.forward.parts.attention import attended
from weighbridge.training.forward.parts.encoder import heads_of
from weighbridge.training.forward.parts.layer import run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import LeafTensor, Tensor

Weights = Tensor | None


class T5Inputs(NamedTuple):
    """Inputs of a layer besides its states: masks, and position biases from the layers before."""

    mask: Tensor | None
    bias: Tensor | None
    states: Tensor | None = None
    other_mask: Tensor | None = None
    other_bias: Tensor | None = None


@dataclass(slots=True)
class T5Biases:
    """The position biases that the first layer makes, and all others use."""

    biases: list[Tensor] = field(default_factory=list)

    def note(self, m: Machine, *biases: Tensor | None) -> None:
        """Keep the biases of the first layer; a recomputed layer makes its own."""
        if not m.in_backward:
            self.biases = [b for b in biases if b is not None]


def t5_model(s: TrainingStep) -> Tensor:
    """Return the decoder's last hidden states of T5ForConditionalGeneration.forward."""
    m, built, body = s.m, s.built, s.built.body
    if body.encoder is None:
        raise UnsupportedError(sentence("encoder_and_decoder", kind=built.kind))
    ids = m.new((s.batch, s.length), INT64)
    root = built.root.at(built.base.path.removesuffix("decoder.").rstrip("."))
    states = stack(s, root, T5Side("encoder", built.encoder, body.encoder), ids, None)
    s.outputs.append(states)
    shifted = m.new((s.batch, s.length), INT64)
    return stack(s, root, T5Side("decoder", built.layers, body), shifted, states)


class T5Side(NamedTuple):
    """The encoder or the decoder, with its layers."""

    name: str
    layers: list[Module]
    body: Body


def stack(
    s: TrainingStep, root: Module, side: T5Side, ids: Tensor, states: Tensor | None
) -> Tensor:
    """T5Stack.forward"""
    m, rate, p = s.m, s.rate("dropout_rate"), root.at(side.name)
    h = heads_of(s, side.body, s.length)
    inputs_embeds = entered(s, embedding(m, ids, root.weight("shared")))
    causal = states is not None
    mask = encoder.decoder_mask(s) if causal else encoder.mask(s, s.length)
    other = encoder.mask(s, s.length) if causal else None
    x = dropout(m, inputs_embeds, rate)
    out = T5Biases()
    for q in side.layers:
        bias, cross = (*out.biases, None, None)[:2]
        x = run(s, block, x, q, h, T5Inputs(mask, bias, states, other, cross), out)
        del bias, cross
    out.biases.clear()
    x = norm(m, x, p.weight("final_layer_norm"))
    return dropout(m, x, rate)


def norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return T5LayerNorm.forward, which does not cast its input for the product."""
    variance = mean(m, power(m, cast(m, x, FLOAT32)))
    x = mul(m, x, rsqrt(m, shift(m, variance)))
    if weight.dtype.nbytes == 2:
        x = cast(m, x, weight.dtype)
    return mul(m, weight, x)


def block(
    x: Tensor, s: TrainingStep, p: Module, heads: AttentionHeads, inputs: T5Inputs, made: T5Biases
) -> Tensor:
    """T5Block.forward"""
    decoder = inputs.states is not None
    x, bias, _ = attention_layer(s, p.at("layer.0"), x, heads, inputs)
    cross: Tensor | None = None
    if decoder:
        x, cross, _ = cross_layer(s, p.at("layer.1"), x, heads, inputs)
    x = feed(s, p.at("layer.2" if decoder else "layer.1"), x)
    made.note(s.m, bias, cross)
    return x


def attention_layer(
    s: TrainingStep, p: Module, x: Tensor, heads: AttentionHeads, inputs: T5Inputs
) -> tuple[Tensor, Tensor, Weights]:
    """T5LayerSelfAttention.forward"""
    m = s.m
    normed = norm(m, x, p.weight("layer_norm"))
    causal = inputs.states is not None
    to = T5Attended(normed, inputs.mask, inputs.bias, causal)
    out, bias, weights = attention(s, p.at("SelfAttention"), normed, heads, to)
    out = add(m, x, dropout(m, out, s.rate("dropout_rate")))
    return out, bias, weights


def cross_layer(
    s: TrainingStep, p: Module, x: Tensor, heads: AttentionHeads, inputs: T5Inputs
) -> tuple[Tensor, Tensor, Weights]:
    """T5LayerCrossAttention.forward"""
    m = s.m
    assert inputs.states is not None
    normed = norm(m, x, p.weight("layer_norm"))
    to = T5Attended(inputs.states, inputs.other_mask, inputs.other_bias)
    out, bias, weights = attention(s, p.at("EncDecAttention"), normed, heads, to)
    out = add(m, x, dropout(m, out, s.rate("dropout_rate")))
    return out, bias, weights


class T5Attended(NamedTuple):
    """What one attention reads: states, their mask, and position biases."""

    states: Tensor
    mask: Tensor | None
    bias: Tensor | None
    causal: bool = False


def attention(
    s: TrainingStep, p: Module, x: Tensor, heads: AttentionHeads, to: T5Attended
) -> tuple[Tensor, Tensor, Weights]:
    """T5Attention.forward"""
    states, _, bias, causal = to
    m, shape = s.m, heads.queries
    q = p.linear(m, x, "q").view(*shape)
    k, v = p.linear(m, states, "k").view(*shape), p.linear(m, states, "v").view(*shape)
    if bias is None:
        bias = _bias(s, p, heads, q, causal=causal)
    added = bias if s.kernel == "eager" else superposed(s, bias, heads, to, looked_up=states is x)
    rate = s.rate("dropout_rate")
    out, weights = attended(s, q, k, v, heads, mask=added, p=rate, views=True, wide=False, own=True)
    del added
    out = p.linear(m, out.view(heads.batch, heads.length, heads.heads * heads.key_dim), "o")
    return out, bias, weights


def _bias(s: TrainingStep, p: Module, heads: AttentionHeads, q: Tensor, *, causal: bool) -> Tensor:
    """Return position biases, [1, length, seen, heads] in memory; or zeros, which get a gradient
    with checkpoints."""
    m = s.m
    if p.has("relative_attention_bias"):
        numbers = buckets(m, heads.length, heads.seen, causal=causal)
        values = embedding(m, numbers, p.weight("relative_attention_bias"))
        return values.view(1, heads.heads, heads.length, heads.seen)
    zeros = m.new((1, heads.heads, heads.length, heads.seen), q.dtype)
    if s.checkpointing == "none":
        return zeros
    return LeafTensor("position_bias", zeros.shape, zeros.dtype, zeros.storage)


def superposed(
    s: TrainingStep, bias: Tensor, heads: AttentionHeads, to: T5Attended, *, looked_up: bool
) -> Tensor:
    """Return the mask of create_position_bias_mask. Biases from the embedding have heads last, and
    are copied."""
    m, mask = s.m, to.mask
    if mask is not None:
        out = where(m, mask, bias, heads.scores)
        return copied(m, out) if looked_up else out
    if to.causal:
        rows, columns = m.new((heads.length,), INT64), m.new((heads.seen,), INT64)
        seen = m.new((1, 1, heads.length, heads.seen), BOOL)
        del rows, columns
        bias = where(m, seen, bias, bias.shape)
        del seen
        return copied(m, bias)
    return copied(m, bias) if looked_up else bias


def feed(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """T5LayerFF.forward"""
    m = s.m
    forwarded = norm(m, x, p.weight("layer_norm"))
    forwarded = dense(s, p.at("DenseReluDense"), forwarded)
    return add(m, x, dropout(m, forwarded, s.rate("dropout_rate")))


def dense(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """Return T5DenseActDense.forward or T5DenseGatedActDense.forward; the last weight may be in
    float32."""
    m, kind = s.m, str(s.built.config.get("feed_forward_proj") or "relu")
    act = "gelu_new" if kind == "gated-gelu" else kind.removeprefix("gated-")
    if p.has("wi"):
        x = p.linear(m, x, "wi")
        x = several(m, x, act)
    else:
        gelu = several(m, p.linear(m, x, "wi_0"), act)
        hidden_linear = p.linear(m, x, "wi_1")
        x = mul(m, gelu, hidden_linear)
    x = dropout(m, x, s.rate("dropout_rate"))
    if p.has("wo") and x.dtype != p.weight("wo").dtype:
        x = cast(m, x, p.weight("wo").dtype)
    return p.linear(m, x, "wo")


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, logits). A head tied to the embedding scales the states first, except in
    mT5."""
    m, root, config = s.m, s.built.root, s.built.config
    with m.making("logits"):
        unscaled = differs(s.built.kind, "unscaled_head")
        scaled = False if unscaled else config.get("scale_decoder_outputs")
        if scaled or (scaled is None and config.get("tie_word_embeddings") is not False):
            hidden = scale(m, hidden)
        name = root.first("lm_head", "shared")
        return encoder.by_token(s, linear(m, hidden, root.weight(name)))


t5 = Net(t5_model, loss=loss)

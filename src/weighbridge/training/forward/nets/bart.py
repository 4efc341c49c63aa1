"""Encoder-decoders: BART and those built alike (mBART, M2M-100, Marian, Pegasus), and Whisper.

    BART and kin   differ in where norms stand (behind attention and feed-forward in BART and
                   Marian, before them elsewhere) and in their positions: learned; sines that are a
                   frozen parameter; sines in a buffer. The decoder's sequences are as long as the
                   encoder's: `seq_len` each. Layers that are dropped at random (layerdrop) are not:
                   the fullest step has them all
    Whisper        sound of 30 seconds through two convolutions, BART's layers with norms before,
                   queries, keys and values copied to have heads before tokens. Features are in
                   float32, or in the dtype of the weights where nothing casts them; `seq_len` is of
                   the text alone. What the convolutions give has its dimensions in another order
                   and hands that on from layer to layer, so that each norm of the encoder copies
                   its input

Source: transformers 5.23 models/{bart,mbart,m2m_100,marian,pegasus,whisper}/modeling_*.py.
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT16, FLOAT32, INT64
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import about, sentence
from weighbridge.models.arch.model_types import differs
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.matrix import ConvForm, conv, linear, rearranges
from weighbridge.training.forward.ops.norms import layer_norm
from weighbridge.training.forward.ops.pointwise import add, dropout, of_input, scale, several
from weighbridge.training.forward.ops.scans import clamped
from weighbridge.training.forward.ops.shaping import embedding, first, pick
from weighbridge.training.forward.parts import encoder
from weighbridge.training.forward.parts.attention import attended
from weighbridge.training.forward.parts.encoder import heads_of
from weighbridge.training.forward.parts.layer import normed, run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Computed, Tensor


class BartSide(NamedTuple):
    """The encoder or the decoder; `states` are those that the decoder reads, `seen` is their
    length. `dense`: activations are contiguous."""

    name: str
    layers: list[Module]
    h: AttentionHeads
    states: Tensor | None = None
    seen: int = 0
    dense: bool = True


class Masks(NamedTuple):
    own: Tensor | None
    other: Tensor | None


def bart_model(s: TrainingStep) -> Tensor:
    """BartModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    root = halves(s)
    states = read(s, root.at("encoder"), encoder_side(s, s.length), words(s, root, "encoder", ids))
    s.outputs.append(states)
    shifted = m.new((s.batch, s.length), INT64)
    side = BartSide("decoder", built.layers, heads_of(s, built.body, s.length), states, s.length)
    return write(s, root.at("decoder"), side, words(s, root, "decoder", shifted))


def halves(s: TrainingStep) -> Module:
    """Return the module that has encoder and decoder as children."""
    if s.built.body.encoder is None:
        raise UnsupportedError(sentence("encoder_and_decoder", kind=s.built.kind))
    return s.built.root.at(s.built.base.path.removesuffix("decoder.").rstrip("."))


def encoder_side(s: TrainingStep, length: int) -> BartSide:
    assert s.built.body.encoder is not None
    return BartSide("encoder", s.built.encoder, heads_of(s, s.built.body.encoder, length))


def words(s: TrainingStep, root: Module, half: str, ids: Tensor) -> Tensor:
    """BartScaledWordEmbedding.forward"""
    path = f"{half}.embed_tokens"
    embedded = embedding(s.m, ids, root.weight(path if root.has(path) else "shared"))
    return entered(s, scale(s.m, embedded))


def read(s: TrainingStep, p: Module, side: BartSide, inputs_embeds: Tensor) -> Tensor:
    """BartEncoder.forward"""
    embed_pos = positions(s, p, (s.batch, s.length))
    x = placed(s, p, inputs_embeds, embed_pos)
    mask = encoder.mask(s, s.length)
    for q in side.layers:
        x = run(s, layer, x, q, side, Masks(mask, None))
    return side_norm(s, p, "layer_norm", x, side) if p.has("layer_norm") else x


def write(s: TrainingStep, p: Module, side: BartSide, inputs_embeds: Tensor) -> Tensor:
    """Return BartDecoder.forward. Nobody passes a decoder mask, so it makes one of ones."""
    m = s.m
    position_ids = m.new((s.length,), INT64)
    attention_mask = m.new((s.batch, s.length), FLOAT32)
    masks = Masks(encoder.decoder_mask(s), encoder.mask(s, s.length))
    embed_pos = positions(s, p, (1, s.length))
    x = placed(s, p, inputs_embeds, embed_pos)
    for q in side.layers:
        x = run(s, layer, x, q, side, masks)
    del position_ids, attention_mask
    return side_norm(s, p, "layer_norm", x, side) if p.has("layer_norm") else x


def placed(s: TrainingStep, p: Module, inputs_embeds: Tensor, embed_pos: Tensor) -> Tensor:
    m = s.m
    x = add(m, inputs_embeds, embed_pos)
    if p.has("layernorm_embedding"):
        x = normed(m, x, p, "layernorm_embedding")
    return dropout(m, x, s.rate("dropout"))


def positions(s: TrainingStep, p: Module, shape: tuple[int, int]) -> Tensor:
    """BartLearnedPositionalEmbedding, MarianSinusoidalPositionalEmbedding, and
    M2M100SinusoidalPositionalEmbedding, which picks rows of its buffer for every sequence."""
    m = s.m
    if not p.has("embed_positions"):
        return m.new((s.batch, s.length, int(s.built.config.num("d_model"))), s.dtype)
    weight = p.weight("embed_positions")
    ids = m.new(shape if weight.trainable else (s.length,), INT64)
    return embedding(m, ids, weight)


def layer(x: Tensor, s: TrainingStep, p: Module, side: BartSide, masks: Masks) -> Tensor:
    """Return the output of BartEncoderLayer, BartDecoderLayer, or those with norms before."""
    m, h, states = s.m, side.h, side.states
    x, _ = _attended(s, p, "self_attn", x, BartAttended(None, h, masks.own, side))
    if states is not None:
        to = BartAttended(states, replace(h, seen=side.seen), masks.other, side)
        x, _ = _attended(s, p, "encoder_attn", x, to)
    before = not differs(s.built.kind, "norms_behind")
    residual = x
    if before:
        x = side_norm(s, p, "final_layer_norm", x, side)
    kind = str(s.built.config.get("activation_function") or "gelu")
    x = several(m, p.linear(m, x, "fc1"), kind)
    x = dropout(m, x, s.rate("activation_dropout"))
    x = p.linear(m, x, "fc2")
    x = dropout(m, x, s.rate("dropout"))
    x = add(m, residual, x)
    if not before:
        return side_norm(s, p, "final_layer_norm", x, side)
    return clamped(m, x) if states is None and x.dtype == FLOAT16 else x


class BartAttended(NamedTuple):
    """What one attention reads: states (None: its own input) with their mask, and the side it is
    on."""

    states: Tensor | None
    h: AttentionHeads
    mask: Tensor | None
    side: BartSide

    @property
    def causal(self) -> bool:
        return self.states is None and self.side.states is not None


def _attended(
    s: TrainingStep, p: Module, name: str, x: Tensor, to: BartAttended
) -> tuple[Tensor, Tensor | None]:
    """Return (states after an attention, its dropout, residual and norm; attention weights). The
    layer holds the weights until it has the next ones, or until it returns."""
    m, before = s.m, not differs(s.built.kind, "norms_behind")
    residual = x
    if before:
        x = side_norm(s, p, f"{name}_layer_norm", x, to.side)
    x, weights = attention(s, p.at(name), x, to)
    x = dropout(m, x, s.rate("dropout"))
    x = add(m, residual, x)
    return (x if before else side_norm(s, p, f"{name}_layer_norm", x, to.side)), weights


def side_norm(s: TrainingStep, p: Module, name: str, x: Tensor, side: BartSide) -> Tensor:
    return layer_norm(s.m, x, p.weight(name), p.bias(name), dense=side.dense)


def attention(
    s: TrainingStep, p: Module, x: Tensor, to: BartAttended
) -> tuple[Tensor, Tensor | None]:
    """BartAttention.forward, WhisperAttention.forward"""
    m, h, laid = s.m, to.h, differs(s.built.kind, "laid_heads")
    states = x if to.states is None else to.states
    read = h.batch, h.seen, h.heads, h.key_dim
    lay = first if laid else _as_it_is
    q = lay(m, _query(s, p, x)).view(h.batch, h.length, *read[2:])
    k = lay(m, p.linear(m, states, "k_proj")).view(*read)
    v = lay(m, p.linear(m, states, "v_proj")).view(*read)
    more: dict[str, Any] = {"mask": to.mask, "p": s.rate("attention_dropout"), "causal": to.causal}
    more |= {"views": not laid, "first": laid, "wide": False, "own": True}
    out, weights = attended(s, q, k, v, h, **more)
    return p.linear(m, out.view(h.batch, h.length, h.heads * h.key_dim), "out_proj"), weights


def _query(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """Return the queries; Whisper scales them itself, other classes leave that to the kernel."""
    q = p.linear(s.m, x, "q_proj")
    return scale(s.m, q) if differs(s.built.kind, "laid_heads") else q


def _as_it_is(m: Machine, x: Tensor) -> Tensor:
    return x


def head(s: TrainingStep, root: Module) -> Tensor:
    name = s.built.root.first("lm_head", "proj_out")
    tied = root.first("shared", "decoder.embed_tokens")
    return s.built.root.weight(name) if name else root.weight(tied)


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, logits) of BartForConditionalGeneration: the head is the embedding, and a
    buffer is added as bias."""
    m, root = s.m, halves(s)
    if s.built.root.has("classification_head.dense"):
        raise UnsupportedError(sentence("uncovered.classifier", kind=s.built.kind))
    if not root.path:
        s.assume(about(s.built.kind, sentence("no_loss.writes")))
    with m.making("logits"):
        lm_logits = linear(m, hidden, head(s, root))
        if not differs(s.built.kind, "unbiased_logits"):
            bias = Computed((1, lm_logits.shape[-1]), s.dtype, None)
            lm_logits = add(m, lm_logits, bias)
        return encoder.by_token(s, lm_logits)


bart = Net(bart_model, loss=loss)


# ---- Whisper


STRIDE = 2  # of the second convolution


def whisper_model(s: TrainingStep) -> Tensor:
    """WhisperModel.forward"""
    m, built = s.m, s.built
    if not built.root.has("model.encoder.conv1"):
        raise UnsupportedError(sentence("uncovered.encoder", kind=built.kind))
    root = halves(s)
    length = built.config.num("max_source_positions")
    states = whisper_read(s, root.at("encoder"), encoder_side(s, length)._replace(dense=False))
    s.outputs.append(states)
    shifted = m.new((s.batch, s.length), INT64)
    h = heads_of(s, built.body, s.length)
    side = BartSide("decoder", built.layers, h, states, length)
    return whisper_write(s, root.at("decoder"), side, shifted)


def whisper_read(s: TrainingStep, p: Module, side: BartSide) -> Tensor:
    """WhisperEncoder.forward"""
    m, length = s.m, side.h.length
    weight = p.weight("conv1")
    dtype = FLOAT32 if m.autocast else weight.dtype
    input_features = m.new((s.batch, weight.shape[1], STRIDE * length), dtype)
    s.inputs.append(input_features)
    inputs_embeds = of_input(m, entered(s, convolved(s, p, "conv1", input_features, 1)))
    inputs_embeds = of_input(m, convolved(s, p, "conv2", inputs_embeds, STRIDE))
    inputs_embeds = inputs_embeds.view(s.batch, length, inputs_embeds.shape[1])
    all_positions = m.new((length,), INT64)
    x = add(m, inputs_embeds, embedding(m, all_positions, p.weight("embed_positions")))
    x = dropout(m, x, s.rate("dropout"))
    for q in side.layers:
        x = run(s, layer, x, q, side, Masks(None, None))
    return side_norm(s, p, "layer_norm", x, side)


def convolved(s: TrainingStep, p: Module, name: str, x: Tensor, stride: int) -> Tensor:
    """Return torch.nn.Conv1d of kernel 3."""
    w = p.weight(name)
    shape = s.batch, w.shape[0], x.shape[2] // stride
    wide = rearranges(x, s.m)
    return conv(s.m, x, w, p.bias(name), ConvForm(shape, rearranged=wide, turned=stride > 1))


def whisper_write(s: TrainingStep, p: Module, side: BartSide, ids: Tensor) -> Tensor:
    """WhisperDecoder.forward"""
    m = s.m
    inputs_embeds = entered(s, embedding(m, ids, p.weight("embed_tokens")))
    position_ids = m.new((s.batch, s.length), INT64)
    positions = pick(m, p.weight("embed_positions"), s.batch * s.length, position_ids)
    x = add(m, inputs_embeds, positions.view(*inputs_embeds.shape))
    x = dropout(m, x, s.rate("dropout"))
    causal_mask = encoder.decoder_mask(s)
    for q in side.layers:
        x = run(s, layer, x, q, side, Masks(causal_mask, None))
    return side_norm(s, p, "layer_norm", x, side)


whisper = Net(whisper_model, loss=loss)

"""ModernBERT: norms without biases before all parts, rotary positions in float32, gated
feed-forwards from one linear, layers that see a window between those that see all.

What `Wqkv` gives is cut into views, so that queries, keys and values are kept together.
Source: transformers 5.23 models/modernbert/modeling_modernbert.py, loss/loss_utils.py
(ForMaskedLMLoss).
"""

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net, bert
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.norms import layer_norm
from weighbridge.training.forward.ops.pointwise import add, cast, dropout, mul, several
from weighbridge.training.forward.ops.shaping import embedding, split
from weighbridge.training.forward.parts import encoder
from weighbridge.training.forward.parts.attention import attended, heads, window, windows
from weighbridge.training.forward.parts.layer import run
from weighbridge.training.forward.parts.rotary import Rotary, half, rotary_of
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Tensor


def modernbert_model(s: TrainingStep) -> Tensor:
    return encoder.pair(s, encoded) if bert.headless(s) else encoded(s)


def encoded(s: TrainingStep) -> Tensor:
    """ModernBertModel.forward"""
    m, p = s.m, bert.base(s)
    ids = m.new((s.batch, s.length), INT64)
    position_ids = m.new((1, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, p.weight("embeddings.tok_embeddings")))
    x = norm(m, inputs_embeds, p.at("embeddings"), "norm")
    del inputs_embeds
    x = dropout(m, x, s.rate("embedding_dropout"))
    mask_kwargs = x  # held by a dictionary until the function returns
    kinds = windows(s)
    masks = {reach: mask(s, reach) for reach in kinds}
    positions = {reach: rotary_of(s, heads(s, 0).key_dim) for reach in kinds}
    for number, q in enumerate(s.built.layers):
        reach = window(s, number)
        x = run(s, layer, x, q, heads(s, number), masks[reach], positions[reach])
    del position_ids, mask_kwargs
    return norm(m, x, p, "final_norm")


def norm(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    return layer_norm(m, x, p.weight(name), p.bias(name))


def mask(s: TrainingStep, reach: int | None) -> Tensor | None:
    """Return the mask of create_bidirectional_sliding_window_mask: half of the window `reach` is on
    either side."""
    if reach is None or s.length < reach // 2 or s.kernel == "flash":
        return encoder.mask(s, s.length)
    whole = s.batch, 1, s.length, s.length
    if s.kernel == "eager":
        return s.m.new(whole, s.dtype)
    return s.m.new(whole if s.padded else (1, *whole[1:]), BOOL).view(*whole)


def layer(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    heads: AttentionHeads,
    mask: Tensor | None,
    positions: Rotary,
) -> Tensor:
    """ModernBertEncoderLayer.forward"""
    m = s.m
    before = norm(m, x, p, "attn_norm") if p.has("attn_norm") else x
    attn_output, weights = attention(s, p.at("attn"), before, heads, mask, positions)
    del before
    x = add(m, x, attn_output)
    x = add(m, x, mlp(s, p.at("mlp"), norm(m, x, p, "mlp_norm")))
    del attn_output, weights
    return x


def attention(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    heads: AttentionHeads,
    mask: Tensor | None,
    positions: Rotary,
) -> tuple[Tensor, Tensor | None]:
    """ModernBertAttention.forward"""
    m, rate, width = s.m, s.rate("attention_dropout"), heads.heads * heads.key_dim
    qkv = p.linear(m, x, "Wqkv")
    q, k, v = split(m, qkv, [width] * 3)
    shape = heads.queries
    q, k = rotated(m, q.view(*shape), k.view(*shape), positions)
    out, weights = attended(s, q, k, v.view(*shape), heads, mask=mask, p=rate, causal=False)
    out = p.linear(m, out.view(heads.batch, heads.length, width), "Wo")
    return dropout(m, out, rate), weights


def rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """Return rotated queries and keys (apply_rotary_pos_emb, in float32)."""
    q_embed, k_embed = rotated_one(m, q, positions), rotated_one(m, k, positions)
    return cast(m, q_embed, q.dtype), cast(m, k_embed, k.dtype)


def rotated_one(m: Machine, x: Tensor, positions: Rotary) -> Tensor:
    """Return (x.float() * cos) + (rotate_half(x.float()) * sin)."""
    cos, sin = positions
    turned = mul(m, cast(m, x, FLOAT32), cos)
    return add(m, turned, mul(m, half(m, cast(m, x, FLOAT32)), sin))


def mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """ModernBertMLP.forward"""
    m, act = s.m, str(s.built.config.get("hidden_activation") or "gelu")
    both = p.linear(m, x, "Wi")
    inputs, gate = split(m, both, [both.shape[-1] // 2] * 2)
    del both
    product = mul(m, several(m, inputs, act), gate)
    return p.linear(m, dropout(m, product, s.rate("mlp_dropout")), "Wo")


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """ModernBertForMaskedLM, ModernBertForSequenceClassification and
    ModernBertForTokenClassification"""
    m, root, config = s.m, s.built.root, s.built.config
    if bert.headless(s):
        return encoder.loss(s, hidden)
    if config.get("sparse_prediction") or not root.has("head.dense"):
        raise UnsupportedError(sentence("no_known_loss", kind=s.built.kind))
    with m.making("logits"):
        if root.has("classifier"):
            return _labelled(s, hidden)
        words = bert.base(s).weight("embeddings.tok_embeddings")
        weight = root.weight("decoder") if root.has("decoder") else words
        logits = linear(m, predicted(s, hidden), weight, root.bias("decoder"))
        return encoder.by_token(s, cast(m, logits, FLOAT32))[0], logits


def _labelled(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, logits) of sequence classification by the first token, or the mean of all
    tokens."""
    m, root = s.m, s.built.root
    first = encoder.first_token(m, hidden)
    pooled = dropout(m, predicted(s, first), s.rate("classifier_dropout"))
    return encoder.classified(s, root.linear(m, pooled, "classifier"))


def predicted(s: TrainingStep, hidden: Tensor) -> Tensor:
    """ModernBertPredictionHead.forward"""
    m, p = s.m, s.built.root.at("head")
    act = str(s.built.config.get("classifier_activation") or "gelu")
    return norm(m, several(m, p.linear(m, hidden, "dense"), act), p, "norm")


modernbert = Net(modernbert_model, loss=loss)

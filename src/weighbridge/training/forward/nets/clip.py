"""CLIP and SigLIP: a tower of images and one of texts, trained on pairs.

    CLIP      each side is told from the others of its batch by the other side
              (image_text_contrastive_loss)
    SigLIP    texts that see all of themselves, an attention with one learned query in the place of
              the class's token, and a loss of each pair alone

A batch is of pairs; `seq_len` is of the texts, images are of the config's size.
Source: transformers 5.23 models/clip/modeling_clip.py, models/siglip/modeling_siglip.py; torch 2.13
nn/functional.py (multi_head_attention_forward).
"""

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.body import Tower
from weighbridge.models.arch.config import Config
from weighbridge.training.forward.losses import cross_entropy
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net
from weighbridge.training.forward.ops.attention import AttentionHeads, own_softmax
from weighbridge.training.forward.ops.matrix import ConvForm, conv, linear, matmul, rearranges
from weighbridge.training.forward.ops.norms import layer_norm, normalize
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    mean,
    mul,
    of_input,
    of_result,
    power,
    scale,
    several,
)
from weighbridge.training.forward.ops.scans import interleaved
from weighbridge.training.forward.ops.shaping import (
    copied,
    cut,
    embedding,
    expand,
    first,
    pick,
    shaped,
    split,
    stack,
    turned,
)
from weighbridge.training.forward.parts.attention import attended, heads, mask
from weighbridge.training.forward.parts.encoder import first_token
from weighbridge.training.forward.parts.encoder import mask as padding_mask
from weighbridge.training.forward.parts.layer import normed, run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Computed, Tensor


class ClipSide(NamedTuple):
    """The text or the vision encoder. `dense`: activations are contiguous."""

    h: AttentionHeads
    act: str
    rate: float
    mask: Tensor | None = None
    causal: bool = False
    dense: bool = True


def clip_model(s: TrainingStep) -> Tensor:
    """Run CLIPModel.forward through the text encoder; return its last hidden states. The images'
    states and features stay in `s.outputs`."""
    root = s.built.root
    if not root.has("visual_projection") or not root.has("text_projection"):
        raise UnsupportedError(sentence("uncovered.towers", kind=s.built.kind))
    states, image_embeds = seen(s, root.at("vision_model"))
    s.outputs.extend((states, image_embeds))
    return read(s, root.at("text_model"))


def seen(s: TrainingStep, p: Module) -> tuple[Tensor, Tensor]:
    """Return (last hidden states of CLIPVisionModel.forward, projected image features)."""
    m, config = s.m, vision(s)
    hidden_states = normed(m, embeddings(s, p.at("embeddings"), config), p, "pre_layrnorm")
    x = patches_through(s, p, hidden_states, config, "quick_gelu")
    pooled_output = normed(m, first_token(m, x), p, "post_layernorm")
    return x, s.built.root.linear(m, pooled_output, "visual_projection")


def patches_through(s: TrainingStep, p: Module, x: Tensor, config: Config, usual: str) -> Tensor:
    """Return the hidden states of CLIPEncoder.forward for images."""
    tower, act = s.built.body.towers[0], str(config.get("hidden_act") or usual)
    dense = p.has("embeddings.class_embedding")  # what is joined with it
    side = ClipSide(heads_of(s, tower), act, rate(s, config), dense=dense)
    for number in range(tower.layers):
        x = run(s, layer, x, p.at(f"encoder.layers.{number}"), side)
    return x


def vision(s: TrainingStep) -> Config:
    assert s.built.whole is not None
    return s.built.whole.sub("vision_config")


def rate(s: TrainingStep, config: Config) -> float:
    return config.ratio("attention_dropout", default=0.0) if s.dropout else 0.0


def heads_of(s: TrainingStep, tower: Tower) -> AttentionHeads:
    return AttentionHeads(
        batch=s.batch,
        length=tower.positions,
        seen=tower.positions,
        heads=tower.heads,
        kv_heads=tower.heads,
        key_dim=tower.head_dim,
        value_dim=tower.head_dim,
    )


def embeddings(s: TrainingStep, p: Module, config: Config) -> Tensor:
    """CLIPVisionEmbeddings.forward"""
    m, size, weight = s.m, config.num("image_size"), p.weight("patch_embedding")
    pixel_values = m.new((s.batch, weight.shape[1], size, size), FLOAT32)
    s.inputs.append(pixel_values)
    patches = cast(m, pixel_values, weight.dtype)
    side, width = size // weight.shape[2], weight.shape[0]
    wide = rearranges(patches, m)
    form = ConvForm((s.batch, width, side, side), rearranged=wide, turned=True)
    patch_embeds = conv(m, patches, weight, p.bias("patch_embedding"), form)
    del patches
    x = entered(s, patch_embeds.view(s.batch, side**2, width))
    del patch_embeds
    if p.has("class_embedding"):
        x = stack(m, expand(m, p.bare("class_embedding"), s.batch, 1, width), x)
    position_ids = Computed((1, x.shape[1]), INT64, None)  # a view of a buffer
    return add(m, x, embedding(m, position_ids, p.weight("position_embedding")))


def read(s: TrainingStep, p: Module) -> Tensor:
    """Return the last hidden states of CLIPTextModel.forward, before it picks a token."""
    side = ClipSide(
        heads(s, 0),
        str(s.built.config.get("hidden_act") or "quick_gelu"),
        rate(s, s.built.config),
        mask(s, None),
        causal=True,
    )
    return texts_through(s, p, side)


def texts_through(s: TrainingStep, p: Module, side: ClipSide) -> Tensor:
    m = s.m
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, p.weight("embeddings.token_embedding")))
    position_ids = Computed((1, s.length), INT64, None)  # a view of a buffer
    position_embeddings = embedding(m, position_ids, p.weight("embeddings.position_embedding"))
    hidden_states = add(m, inputs_embeds, position_embeddings)
    del inputs_embeds, position_embeddings
    x = hidden_states
    for q in s.built.layers:
        x = run(s, layer, x, q, side)
    return normed(m, x, p, "final_layer_norm")


def layer(x: Tensor, s: TrainingStep, p: Module, side: ClipSide) -> Tensor:
    """CLIPEncoderLayer.forward"""
    m = s.m
    residual = x
    x = norm(m, x, p, "layer_norm1", side)
    x, _ = attention(s, p.at("self_attn"), x, side)
    x = add(m, residual, x)
    residual = x
    x = norm(m, x, p, "layer_norm2", side)
    x = mlp(m, p.at("mlp"), x, side.act)
    return add(m, residual, x)


def norm(m: Machine, x: Tensor, p: Module, name: str, side: ClipSide) -> Tensor:
    return layer_norm(m, x, p.weight(name), p.bias(name), dense=side.dense)


def attention(
    s: TrainingStep, p: Module, x: Tensor, side: ClipSide
) -> tuple[Tensor, Tensor | None]:
    """CLIPAttention.forward"""
    m, h = s.m, side.h
    shape = h.queries
    q, k, v = (p.linear(m, x, name).view(*shape) for name in ("q_proj", "k_proj", "v_proj"))
    out, weights = attended(
        s, q, k, v, h, mask=side.mask, p=side.rate, causal=side.causal, views=True
    )
    return p.linear(m, out.view(h.batch, h.length, h.heads * h.key_dim), "out_proj"), weights


def mlp(m: Machine, p: Module, x: Tensor, act: str) -> Tensor:
    """CLIPMLP.forward"""
    x = p.linear(m, x, "fc1")
    x = several(m, x, act)
    return p.linear(m, x, "fc2")


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, scores of all pairs of the batch). The state of a text's last token is its
    feature."""
    m, root, rows = s.m, s.built.root, s.rows
    _, image_embeds = s.outputs
    s.outputs.append(hidden)
    with m.making("logits"):
        pooled_output = pick(m, hidden.view(rows, hidden.shape[-1]), s.batch)
        text_embeds = root.linear(m, pooled_output, "text_projection")
        image_embeds, text_embeds = _unit(m, image_embeds), _unit(m, text_embeds)
        s.outputs.extend((image_embeds, text_embeds))
        logits_per_text = matmul(m, text_embeds, image_embeds, s.batch)
        logits_per_text = mul(m, logits_per_text, of_result(m, root.bare("logit_scale")))
        caption_loss = cross_entropy(m, logits_per_text, m.new((s.batch,), INT64))
        image_loss = cross_entropy(m, logits_per_text, m.new((s.batch,), INT64))
        return add(m, caption_loss, image_loss), logits_per_text


def _unit(m: Machine, x: Tensor) -> Tensor:
    """x / _get_vector_norm(x)"""
    return mul(m, x, power(m, mean(m, power(m, x))))


clip = Net(clip_model, loss=loss)


# ---- SigLIP


ACT = "gelu_pytorch_tanh"


def siglip_model(s: TrainingStep) -> Tensor:
    """Run SiglipModel.forward through the text encoder; return its last hidden states. The images'
    states and features stay in `s.outputs`."""
    root, config = s.built.root, s.built.config
    if not root.has("vision_model.head.probe") or not root.has("text_model.head"):
        raise UnsupportedError(sentence("uncovered.towers", kind=s.built.kind))
    states, image_embeds = siglip_seen(s, root.at("vision_model"))
    s.outputs.extend((states, image_embeds))
    act = str(config.get("hidden_act") or ACT)
    side = ClipSide(heads(s, 0), act, rate(s, config), padding_mask(s, s.length))
    return texts_through(s, root.at("text_model"), side)


def siglip_seen(s: TrainingStep, p: Module) -> tuple[Tensor, Tensor]:
    """SiglipVisionModel.forward"""
    config = vision(s)
    hidden_states = embeddings(s, p.at("embeddings"), config)
    x = patches_through(s, p, hidden_states, config, ACT)
    x = layer_norm(s.m, x, p.weight("post_layernorm"), p.bias("post_layernorm"), dense=False)
    act = str(config.get("hidden_act") or ACT)
    return x, pooled(s, p.at("head"), x, act)


def pooled(s: TrainingStep, p: Module, hidden_state: Tensor, act: str) -> Tensor:
    """SiglipMultiheadAttentionPoolingHead.forward"""
    m, (batch, _, width) = s.m, hidden_state.shape
    probe = interleaved(m, p.bare("probe"), (batch, 1, width))
    x = probed(s, p.at("attention"), probe, hidden_state)
    residual = x
    x = normed(m, x, p, "layernorm")
    x = add(m, residual, mlp(m, p.at("mlp"), x, act))
    return x.view(batch, width)


def probed(s: TrainingStep, p: Module, probe: Tensor, key: Tensor) -> Tensor:
    """Return multi_head_attention_forward of one query; keys and values come from one linear, and
    are copied separately."""
    m, (batch, tokens, width) = s.m, key.shape
    h = replace(heads_of(s, s.built.body.towers[0]), length=1)
    w_q, w_kv = split(
        m, shaped(m, p.bare("in_proj_weight"), 3 * width**2), (width**2, 2 * width**2)
    )
    b_q, b_kv = split(m, p.bare("in_proj_bias"), (width, 2 * width))
    q = linear(m, probe, w_q, b_q)
    kv_proj = first(m, linear(m, copied(m, key) if batch > 1 else key, w_kv, b_kv))
    k, v = turned(m, cut(m, kv_proj, width)), turned(m, cut(m, kv_proj, width))
    weights = matmul(m, scale(m, q).view(*h.scores[:3], h.key_dim), k, tokens)
    weights = own_softmax(m, weights)
    out = matmul(m, weights, v, h.value_dim).view(batch, 1, width)
    return p.linear(m, out, "out_proj")


def siglip_loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, scores of all pairs). The last token of a text is its feature; each score has a
    sigmoid loss of its own."""
    m, root = s.m, s.built.root
    _, image_embeds = s.outputs
    s.outputs.append(hidden)
    with m.making("logits"):
        text_embeds = root.linear(m, first_token(m, hidden), "text_model.head")
        image_embeds, text_embeds = normalize(m, image_embeds), normalize(m, text_embeds)
        s.outputs.extend((image_embeds, text_embeds))
        logits_per_text = matmul(m, text_embeds, image_embeds, s.batch)
        logits_per_text = mul(m, logits_per_text, of_result(m, root.bare("logit_scale")))
        logits_per_text = add(m, logits_per_text, root.bare("logit_bias"))
        loglik = of_input(m, mul(m, logits_per_text, m.new((s.batch, s.batch), FLOAT32)))
        return mean(m, scale(m, loglik).view(s.batch**2)), logits_per_text


siglip = Net(siglip_model, loss=siglip_loss)

"""SigLIP: CLIP's two towers, texts that see all of themselves, an attention with one learned query
in the place of the class's token, and a loss of each pair alone.

Source: transformers 5.23 models/siglip/modeling_siglip.py; torch 2.13 nn/functional.py
(multi_head_attention_forward).
"""

from dataclasses import replace

from weighbridge.dtypes import FLOAT32
from weighbridge.errors import UnsupportedError
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import UNCOVERED, Net, clip
from weighbridge.forward.ops.attention import own_softmax
from weighbridge.forward.ops.matrix import linear, matmul
from weighbridge.forward.ops.norms import layer_norm, normalize
from weighbridge.forward.ops.pointwise import add, mean, mul, of_input, of_result, scale
from weighbridge.forward.ops.scans import interleaved
from weighbridge.forward.ops.shaping import copied, cut, first, shaped, split, turned
from weighbridge.forward.parts.attention import heads
from weighbridge.forward.parts.encoder import first_token, mask
from weighbridge.forward.parts.layer import normed
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor

ACT = "gelu_pytorch_tanh"


def siglip_model(s: TrainingStep) -> Tensor:
    """SiglipModel.forward up to the last states of the texts; the images' features are kept."""
    root, config = s.built.root, s.built.config
    if not root.has("vision_model.head.probe") or not root.has("text_model.head"):
        raise UnsupportedError(f"{s.built.kind}: its class is not both towers: {UNCOVERED}")
    states, image_embeds = seen(s, root.at("vision_model"))
    s.outputs.extend((states, image_embeds))
    act = str(config.get("hidden_act") or ACT)
    side = clip.ClipSide(heads(s, 0), act, clip.rate(s, config), mask(s, s.length))
    return clip.texts_through(s, root.at("text_model"), side)


def seen(s: TrainingStep, p: Module) -> tuple[Tensor, Tensor]:
    """SiglipVisionModel.forward"""
    config = clip.vision(s)
    hidden_states = clip.embeddings(s, p.at("embeddings"), config)
    x = clip.patches_through(s, p, hidden_states, config, ACT)
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
    x = add(m, residual, clip.mlp(m, p.at("mlp"), x, act))
    return x.view(batch, width)


def probed(s: TrainingStep, p: Module, probe: Tensor, key: Tensor) -> Tensor:
    """multi_head_attention_forward of one query; keys and values come from one linear and are
    copied apart."""
    m, (batch, tokens, width) = s.m, key.shape
    h = replace(clip.heads_of(s, s.built.body.towers[0]), length=1)
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


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The last token of a text stands for it; each score of the batch is told by itself."""
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


siglip = Net(siglip_model, loss=loss)

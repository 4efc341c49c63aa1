"""DINOv2: ViT whose attention and feed-forward are scaled by learned vectors; a classifier reads
the token of the class beside the mean of the patches.

Images are of the config's size (518 pixels a side of the checkpoints), where positions are not
interpolated. Feed-forwards of the giant, in one matrix in its checkpoint, are not covered.
Source: transformers 5.23 models/dinov2/modeling_dinov2.py.
"""

from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net, vit
from weighbridge.forward.ops.pointwise import add, mul, scale, several
from weighbridge.forward.ops.shaping import join, mean_of_tokens, part
from weighbridge.forward.parts.encoder import first_token, self_attention
from weighbridge.forward.parts.layer import normed
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def dinov2_model(s: TrainingStep) -> Tensor:
    """Dinov2Model.forward"""
    return vit.vit_model(s, layer)


def layer(x: Tensor, s: TrainingStep, p: Module, number: int) -> Tensor:
    """Dinov2Layer.forward"""
    m = s.m
    residual = x
    x = normed(m, x, p, "norm1")
    x, _ = attention(s, p.at("attention"), x, number)
    x = mul(m, x, p.bare("layer_scale1.lambda1"))
    x = add(m, drop_path(s, x), residual)
    residual = x
    x = normed(m, x, p, "norm2")
    x = mlp(s, p.at("mlp"), x)
    x = mul(m, x, p.bare("layer_scale2.lambda1"))
    return add(m, drop_path(s, x), residual)


def attention(s: TrainingStep, p: Module, x: Tensor, number: int) -> tuple[Tensor, Tensor | None]:
    """Dinov2Attention.forward"""
    h, rate = vit.heads_of(s, number, x.shape[1]), s.rate("attention_probs_dropout_prob")
    out, weights = self_attention(s, p, x, h, vit.QKV, p=rate, wide=False, own=True)
    return p.linear(s.m, out, "output.dense"), weights


def mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """Dinov2MLP.forward"""
    m = s.m
    x = p.linear(m, x, "fc1")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu"))
    return p.linear(m, x, "fc2")


def drop_path(s: TrainingStep, x: Tensor) -> Tensor:
    """Dinov2DropPath.forward: of whole images."""
    m = s.m
    if not s.rate("drop_path_rate") or not m.training:
        return x
    return mul(m, scale(m, x), m.new((x.shape[0], 1, 1), x.dtype))


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Dinov2ForImageClassification"""
    with s.m.making("logits"):
        return vit.labelled(s, _read(s.m, hidden))


def _read(m: Machine, sequence_output: Tensor) -> Tensor:
    batch, tokens, width = sequence_output.shape
    cls_token = first_token(m, sequence_output)
    patch_tokens = part(m, sequence_output, batch, tokens - 1, width)
    return join(m, cls_token, mean_of_tokens(m, patch_tokens))


dinov2 = Net(dinov2_model, loss=loss)

"""Encoders of images: ViT, and DINOv2.

    ViT      patches through a convolution, a token for the class before them, learned positions,
             norms before attention and feed-forward. Images in float32 are of the size that the
             config names; there are no tokens besides patches, and `seq_len` says nothing
    DINOv2   attention and feed-forward scaled by learned vectors; a classifier reads the token of
             the class beside the mean of the patches. Images are of the config's size (518 pixels a
             side of the checkpoints), where positions are not interpolated. Feed-forwards of the
             giant, in one matrix in its checkpoint, are not covered

Source: transformers 5.23 models/vit/modeling_vit.py, models/dinov2/modeling_dinov2.py.
"""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import about, sentence
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net, rough
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.matrix import ConvForm, conv, linear, rearranges
from weighbridge.training.forward.ops.pointwise import add, cast, dropout, mul, scale, several
from weighbridge.training.forward.ops.shaping import expand, join, mean_of_tokens, part, stack
from weighbridge.training.forward.parts.attention import heads
from weighbridge.training.forward.parts.encoder import classified, first_token, self_attention
from weighbridge.training.forward.parts.layer import Layer, normed, run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import LeafTensor, Tensor

QKV = ("attention.query", "attention.key", "attention.value")
ENCODER = "encoder."


def vit_model(s: TrainingStep, shape: Layer | None = None) -> Tensor:
    """Return the hidden states of ViTModel.forward; `shape` is the layer of classes built alike."""
    m, built = s.m, s.built
    p = built.root.at(built.base.path.removesuffix(ENCODER).rstrip("."))
    pixel_values = m.new(pixels(s), FLOAT32)
    s.inputs.append(pixel_values)
    weight = p.weight("embeddings.patch_embeddings.projection")
    inner_pixels = cast(m, pixel_values, weight.dtype)
    embedding_output = embeddings(s, p.at("embeddings"), inner_pixels)
    x = embedding_output
    for i, layer_module in enumerate(built.layers):
        x = run(s, shape or layer, x, layer_module, i)
    return normed(m, x, p, "layernorm")


def pixels(s: TrainingStep) -> tuple[int, int, int, int]:
    """Return the shape of the images, [batch, channels, height, width]."""
    size = s.image_size or s.built.config.get("image_size")
    height, width = size if isinstance(size, list | tuple) else (size, size)
    patch = s.built.config.get("patch_size")
    least = max(patch) if isinstance(patch, list | tuple) else patch or 1
    if not height or not width or min(int(height), int(width)) < int(least):
        raise UsageError(sentence("no_patch", kind=s.built.kind, size=size, patch=patch))
    return s.batch, s.built.config.num("num_channels", default=0) or 3, int(height), int(width)


def embeddings(s: TrainingStep, p: Module, pixel_values: Tensor) -> Tensor:
    """ViTEmbeddings.forward"""
    m, name = s.m, "patch_embeddings.projection"
    weight, bias = p.weight(name), p.bias(name)
    rows, columns = (a // b for a, b in zip(pixel_values.shape[2:], weight.shape[2:], strict=True))
    shape = s.batch, weight.shape[0], rows, columns
    wide = rearranges(pixel_values, m)
    x = conv(m, pixel_values, weight, bias, ConvForm(shape, rearranged=wide, turned=True))
    x = entered(s, x.view(s.batch, rows * columns, weight.shape[0]))
    cls_tokens = expand(m, p.bare("cls_token"), s.batch, 1, weight.shape[0])
    x = stack(m, cls_tokens, x)
    x = add(m, x, positions(s, p.bare("position_embeddings"), x))
    return dropout(m, x, s.rate("hidden_dropout_prob"))


def positions(s: TrainingStep, table: Tensor, x: Tensor) -> Tensor:
    """Return the position table, interpolated in float32 if images differ in size from the class's
    own."""
    m = s.m
    if table.shape[1] == x.shape[1]:
        return table
    wide = rough.grown(m, [cast(m, table, FLOAT32)], (1, *x.shape[1:]))
    return cast(m, wide, table.dtype)


def heads_of(s: TrainingStep, number: int, length: int) -> AttentionHeads:
    return replace(heads(s, number), length=length, seen=length)


def layer(x: Tensor, s: TrainingStep, p: Module, number: int) -> Tensor:
    """ViTLayer.forward"""
    m, rate = s.m, s.rate("hidden_dropout_prob")
    residual = x
    x = normed(m, x, p, "layernorm_before")
    x, _ = attention(s, p.at("attention"), x, number)
    x = dropout(m, x, rate)
    x = add(m, x, residual)
    residual = x
    x = normed(m, x, p, "layernorm_after")
    x = mlp(s, p, x)
    x = dropout(m, x, rate)
    return add(m, x, residual)


def attention(s: TrainingStep, p: Module, x: Tensor, number: int) -> tuple[Tensor, Tensor | None]:
    """ViTAttention.forward"""
    h, rate = heads_of(s, number, x.shape[1]), s.rate("attention_probs_dropout_prob")
    out, weights = self_attention(s, p, x, h, QKV, p=rate)
    return p.linear(s.m, out, "output.dense"), weights


def mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    m = s.m
    x = p.linear(m, x, "intermediate.dense")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu"))
    return p.linear(m, x, "output.dense")


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """ViTForImageClassification"""
    with s.m.making("logits"):
        return labelled(s, first_token(s.m, hidden))


def labelled(s: TrainingStep, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, logits) of the class's classifier; without one, of two labels."""
    m, root = s.m, s.built.root
    if root.has("classifier"):
        return classified(s, root.linear(m, pooled, "classifier"))
    s.assume(about(s.built.kind, sentence("no_loss.images")))
    weight = LeafTensor("classifier", (2, pooled.shape[-1]), pooled.dtype, None)
    return classified(s, linear(m, pooled, weight))


vit = Net(vit_model, loss=loss)


# ---- DINOv2


def dinov2_model(s: TrainingStep) -> Tensor:
    """Dinov2Model.forward"""
    return vit_model(s, dinov2_layer)


def dinov2_layer(x: Tensor, s: TrainingStep, p: Module, number: int) -> Tensor:
    """Dinov2Layer.forward"""
    m = s.m
    residual = x
    x = normed(m, x, p, "norm1")
    x, _ = dinov2_attention(s, p.at("attention"), x, number)
    x = mul(m, x, p.bare("layer_scale1.lambda1"))
    x = add(m, drop_path(s, x), residual)
    residual = x
    x = normed(m, x, p, "norm2")
    x = dinov2_mlp(s, p.at("mlp"), x)
    x = mul(m, x, p.bare("layer_scale2.lambda1"))
    return add(m, drop_path(s, x), residual)


def dinov2_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int
) -> tuple[Tensor, Tensor | None]:
    """Dinov2Attention.forward"""
    h, rate = heads_of(s, number, x.shape[1]), s.rate("attention_probs_dropout_prob")
    out, weights = self_attention(s, p, x, h, QKV, p=rate, wide=False, own=True)
    return p.linear(s.m, out, "output.dense"), weights


def dinov2_mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """Dinov2MLP.forward"""
    m = s.m
    x = p.linear(m, x, "fc1")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu"))
    return p.linear(m, x, "fc2")


def drop_path(s: TrainingStep, x: Tensor) -> Tensor:
    """Return Dinov2DropPath.forward, which drops whole images."""
    m = s.m
    if not s.rate("drop_path_rate") or not m.training:
        return x
    return mul(m, scale(m, x), m.new((x.shape[0], 1, 1), x.dtype))


def dinov2_loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Dinov2ForImageClassification"""
    with s.m.making("logits"):
        return labelled(s, _read(s.m, hidden))


def _read(m: Machine, sequence_output: Tensor) -> Tensor:
    batch, tokens, width = sequence_output.shape
    cls_token = first_token(m, sequence_output)
    patch_tokens = part(m, sequence_output, batch, tokens - 1, width)
    return join(m, cls_token, mean_of_tokens(m, patch_tokens))


dinov2 = Net(dinov2_model, loss=dinov2_loss)

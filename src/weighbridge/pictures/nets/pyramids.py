"""Image classifiers with stages, as transformers runs them: ResNet, ConvNeXt, Swin, SegFormer.

Names are those of checkpoints, from before transformers 5. An encoder holds its input to its end,
and so does a stage.

Source: transformers 5.23 models/{resnet,convnext,convnextv2,swin,segformer}/modeling_*.py.
"""

from math import isqrt

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.nets.convnets import RELU, halved, norm_2d, turned
from weighbridge.pictures.nets.vits import merged
from weighbridge.pictures.trees import Tree, grown, pooled, sequence
from weighbridge.pictures.values import Value, attend, cat
from weighbridge.training.forward.machine import passed, remade
from weighbridge.training.forward.ops import pointwise
from weighbridge.training.forward.tensors import Computed

ALIGNED = 16  # elements per row of a mask, in torch's kernel (native/transformers/attention.cpp)
DROPPED = 0.1  # dropout before SegFormer's classifier, by default of its config


def body(t: Tree, *names: str) -> Tree:
    """Return the modules below a class's head; `t` itself if it has none."""
    return next((t / name for name in names if t.has(name)), t)


# ---- ResNet


def resnet(t: Tree, x: Value) -> Value:
    b = body(t, "resnet")
    stem = b / "embedder" / "embedder"
    embedded = halved(conv_layer(stem, x, 2))
    y = embedded
    for number, stage in enumerate((b / "encoder").each("stages")):
        y = sequence(y, stage.each("layers"), resnet_layer, 2 if number else 1)
    y = pooled(y)
    return (t / "classifier").linear("1", y.view(*y.shape[:2])) if t.has("classifier") else y


def conv_layer(t: Tree, x: Value, stride: int = 1, *, plain: bool = False) -> Value:
    y = t.conv("convolution", x, stride)
    y = t.batch_norm("normalization", y)
    return y if plain else y.act(RELU)


def resnet_layer(t: Tree, x: Value, stride: int = 1) -> Value:
    """Return a ResNet layer's output; of three convolutions the second has the stride, of two the
    first."""
    layers = t.each("layer")
    y = x
    for number, layer in enumerate(layers):
        steps = stride if number == len(layers) - 2 else 1
        y = conv_layer(layer, y, steps, plain=number == len(layers) - 1)
    residual = conv_layer(t / "shortcut", x, stride, plain=True) if t.has("shortcut") else x
    y = Value(y.run, pointwise.add_(y.run.m, y.tensor, residual.tensor))
    return y.act(RELU)


# ---- ConvNeXt, and its second version


def convnext(t: Tree, x: Value) -> Value:
    b = body(t, "convnext", "convnextv2")
    stem = b / "embeddings"
    patch = stem.shape("patch_embeddings.weight")[-1]
    embedded = norm_2d(stem, "layernorm", stem.conv("patch_embeddings", x, patch), dense=False)
    y = sequence(embedded, (b / "encoder").each("stages"), convnext_stage)
    y = pooled(y)
    y = b.layer_norm("layernorm", y.view(*y.shape[:2]))
    return t.linear("classifier", y) if t.has("classifier") else y


def convnext_stage(t: Tree, x: Value) -> Value:
    y = x
    if t.has("downsampling_layer"):
        below = t / "downsampling_layer"
        width = below.shape("1.weight")[2]
        y = norm_2d(below, "0", y)
        y = below.conv("1", y, width, last=True)
    for layer in t.each("layers"):
        y = convnext_layer(layer, y)
    return y


def convnext_layer(t: Tree, x: Value) -> Value:
    y = t.conv("dwconv", x)
    y = t.layer_norm("layernorm", turned(y))
    y = t.linear("pwconv1", y)
    y = y.act()
    y = global_responses(t / "grn", y) if t.has("grn") else y
    y = t.linear("pwconv2", y)
    if t.has("layer_scale_parameter"):
        y = y * t.parameter("layer_scale_parameter")
    return x + y.view(*x.shape)


def global_responses(t: Tree, x: Value) -> Value:
    """Return ConvNextV2GRN, written out: weight (x of its norm) + bias + x."""
    m = x.run.m
    dtype = x.dtype if m.autocast is None else FLOAT32
    spread = m.new((x.shape[0], 1, 1, x.shape[-1]), dtype)
    y = x * Value(x.run, remade(m, x.tensor, spread, x.tensor))
    y = y * t.parameter("weight")
    y = y + t.parameter("bias")
    return y + x


# ---- Swin


def swin(t: Tree, x: Value) -> Value:
    b = body(t, "swin")
    patches = b / "embeddings" / "patch_embeddings"
    y = patches.conv("projection", x, patches.shape("projection.weight")[-1])
    batch, width, height, breadth = y.shape
    y = y.view(batch, height, breadth, width)
    embedded = (b / "embeddings").layer_norm("norm", y, dense=False)
    y = embedded
    before = None
    for stage in (b / "encoder").each("layers"):
        y, before = swin_stage(stage, y, before)
    y = b.layer_norm("layernorm", y)
    y = y.resized(batch, y.shape[-1])
    return t.linear("classifier", y) if t.has("classifier") else y


def swin_stage(t: Tree, x: Value, before: Value | None) -> tuple[Value, Value]:
    """Return the output, and a copy with channels first, which lives to the next stage's end."""
    y = x
    for block in t.each("blocks"):
        y = swin_layer(block, y)
    whole = y
    if t.has("downsample"):
        y = merged(t / "downsample", whole)
    batch, height, breadth, width = y.shape
    return y, y.copy(batch, width, height, breadth)


def swin_layer(t: Tree, x: Value) -> Value:
    """Return SwinLayer's output: every second layer rolls the picture by half a window, if there
    are several."""
    batch, height, breadth, width = x.shape
    rows, heads = t.shape("attention.self.relative_position_bias_table")
    side = min((isqrt(rows) + 1) // 2, height, breadth)
    shifts = t.place.number % 2 == 1 and min(height, breadth) > side
    tall, wide = (-(-one // side) * side for one in (height, breadth))
    y = t.layer_norm("layernorm_before", x)
    y = y.resized(batch, tall, wide, width)
    moved = y.resized(*y.shape) if shifts else y
    windows = moved.copy(batch * (tall // side) * (wide // side), side * side, width)
    del moved
    mask = x.run.new((tall // side) * (wide // side), side * side, side * side) if shifts else None
    attended = window_attention(t / "attention", windows, heads, mask)
    out = attended.copy(batch, tall, wide, width)
    if shifts:
        out = out.resized(*out.shape)
    if (tall, wide) != (height, breadth):
        out = out.part(*x.shape).copy(*x.shape)
    z = x + out
    y = t.layer_norm("layernorm_after", z)
    y = feed(t, y)
    return y + z


def feed(t: Tree, x: Value) -> Value:
    y = (t / "intermediate").linear("dense", x)
    y = y.act()
    return (t / "output").linear("dense", y)


def window_attention(t: Tree, x: Value, heads: int, mask: Value | None) -> Value:
    """Return window attention; positions, and the mask after a roll, are added to scores."""
    own, area = t / "self", x.shape[1]
    q, k, v = (own.linear(name, x) for name in ("query", "key", "value"))
    table = own.parameter("relative_position_bias_table")
    bias = table.resized(area * area, heads).copy(1, heads, area, area)
    if mask is not None:
        bias = bias + x.run.new(x.shape[0], 1, area, area)
    bias = bias.like(q).resized(*bias.shape[:-1], -(-area // ALIGNED) * ALIGNED)
    m, out = x.run.m, attend(q, k, v, heads, masked=True)
    same = Computed(out.shape, out.dtype, out.tensor.storage)
    out = Value(x.run, passed(m, out.tensor, same, bias.tensor))
    del bias
    return (t / "output").linear("dense", out)


# ---- SegFormer


def segformer(t: Tree, x: Value) -> Value:
    b = body(t, "segformer") / "encoder"
    states, y = [], x
    head = b.shape("patch_embeddings.0.proj.weight")[0]
    for number in range(len(b.each("patch_embeddings"))):
        y = segformer_stage(b, y, number, head)
        states.append(y)
    if t.has("decode_head"):
        return decoded(t / "decode_head", states)
    y = pooled(y)
    return t.linear("classifier", y.view(*y.shape[:2])) if t.has("classifier") else y


def segformer_stage(t: Tree, x: Value, number: int, head: int) -> Value:
    patches = t / "patch_embeddings" / number
    y = patches.conv("proj", x, 2 if number else 4)
    batch, width, height, breadth = y.shape
    y = y.view(batch, height, breadth, width)
    y = patches.layer_norm("layer_norm", y, dense=False)
    for block in (t / "block").each(str(number)):
        y = segformer_layer(block, y, width // head)
    y = (t / "layer_norm").layer_norm(str(number), y)
    return y.copy(batch, width, height, breadth)


def segformer_layer(t: Tree, x: Value, heads: int) -> Value:
    y = t.layer_norm("layer_norm_1", x)
    y = reduced_attention(t / "attention", y, heads)
    z = y + x
    y = t.layer_norm("layer_norm_2", z)
    y = mixed_mlp(t / "mlp", y)
    return y + z


def reduced_attention(t: Tree, x: Value, heads: int) -> Value:
    """Return attention whose keys and values have fewer places, merged by a strided convolution."""
    own, (batch, height, breadth, width) = t / "self", x.shape
    q = own.linear("query", x).view(batch, height * breadth, width)
    y = x
    if own.has("sr"):
        ratio = own.shape("sr.weight")[-1]
        y = own.conv("sr", x.view(batch, width, height, breadth), ratio, last=True)
        y = own.layer_norm("layer_norm", turned(y))
    y = y.view(batch, y.shape[1] * y.shape[2], width)
    k, v = (own.linear(name, y) for name in ("key", "value"))
    out = attend(q, k, v, heads).view(*x.shape)
    return (t / "output").linear("dense", out)


def mixed_mlp(t: Tree, x: Value) -> Value:
    y = t.linear("dense1", x)
    batch, height, breadth, width = y.shape
    y = (t / "dwconv").conv("dwconv", y.view(batch, width, height, breadth), last=True)
    y = turned(y).act()
    return t.linear("dense2", y)


def decoded(t: Tree, states: list[Value]) -> Value:
    """Return SegformerDecodeHead's class scores per place; all stages are resized to the first."""
    batch, _, height, breadth = states[0].shape
    parts = []
    for number, state in enumerate(states):
        y = (t / "linear_c" / number).linear("proj", turned(state))
        parts.append(grown(y, batch, y.shape[-1], height, breadth))
    y = t.conv("linear_fuse", cat(parts))
    y = t.batch_norm("batch_norm", y)
    y = y.act(RELU)
    y = Value(y.run, pointwise.dropout(y.run.m, y.tensor, DROPPED))
    return t.conv("classifier", y)


PROGRAMS = {  # by a module that only networks of the kind have, with or without a head
    f"{base}{module}": program
    for bases, module, program in (
        (("", "resnet."), "encoder.stages.0.layers.0.layer.0.convolution", resnet),
        (("", "convnext.", "convnextv2."), "encoder.stages.0.layers.0.dwconv", convnext),
        (("", "swin."), "encoder.layers.0.blocks.0.attention.self.query", swin),
        (("", "segformer."), "encoder.block.0.0.attention.self.query", segformer),
    )
    for base in bases
}

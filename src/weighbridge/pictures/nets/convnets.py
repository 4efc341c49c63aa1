"""Convolutional networks as timm runs them: VGG, DenseNet, ResNet, RegNet, ConvNeXt, EfficientNet,
MobileNet.

Batch norms write a new tensor, and activations after them overwrite it.

Source: timm 1.0.31 models/{vgg,densenet,resnet,regnet,convnext,efficientnet,mobilenetv3,
_efficientnet_blocks,_efficientnet_builder}.py, layers/{norm_act,squeeze_excite,grn}.py.
"""

from functools import partial

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.trees import Tree, in_place, pooled, sequence
from weighbridge.pictures.values import Value, cat
from weighbridge.training.forward.machine import remade
from weighbridge.training.forward.ops import pointwise, shaping

# What activations keep for backward: relu and sigmoid; relu6, silu and hardswish
RELU, INPUT = "result", "input"


def normed(t: Tree, name: str, x: Value, keeps: str = RELU) -> Value:
    """BatchNormAct2d"""
    return in_place(t.batch_norm(name, x), keeps)


def classified(t: Tree, name: str, x: Value) -> Value:
    """Return the mean over all places, or the class scores if there is a classifier."""
    x = pooled(x)
    x = x.view(*x.shape[:2])
    return t.linear(name, x) if t.has(name) else x


def halved(x: Value) -> Value:
    """Return a max pooling with stride 2, padded if its kernel is larger."""
    height, breadth = x.shape[2:]
    return Value(
        x.run, shaping.max_pooled(x.run.m, x.tensor, (height + 1) // 2, (breadth + 1) // 2)
    )


# ---- VGG, DenseNet


def vgg(t: Tree, x: Value) -> Value:
    """Return VGG's output. Modules without tensors are numbered, too: a pooling skips one more
    number."""
    features = t / "features"
    number = 0
    while features.has(number):
        x = features.conv(str(number), x)
        number += 1
        if features.has(number) and len(features.shape(f"{number}.weight")) == 1:
            x = features.batch_norm(str(number), x)
            number += 1
        x = in_place(x, RELU)
        number += 1
        if not features.has(number):
            x = floored(x)
            number += 1
    for name in ("fc1", "fc2"):
        wide = t / "pre_logits"
        x = in_place(wide.conv(name, x, pad=0), RELU)
    return classified(t / "head", "fc", x)


def floored(x: Value) -> Value:
    """Return a 2 x 2 max pooling, without padding."""
    height, breadth = x.shape[2:]
    return Value(x.run, shaping.max_pooled(x.run.m, x.tensor, height // 2, breadth // 2))


def densenet(t: Tree, x: Value) -> Value:
    features = t / "features"
    x = halved(normed(features, "norm0", features.conv("conv0", x, 2)))
    for number in range(1, 5):
        x = dense_block(features / f"denseblock{number}", x)
        if features.has(f"transition{number}"):
            x = transition(features / f"transition{number}", x)
    return classified(t, "classifier", normed(features, "norm5", x))


def dense_block(t: Tree, x: Value) -> Value:
    """Return the block's output: every layer reads all earlier features, concatenated each time."""
    features = [x]
    for layer in t.children("denselayer", 1):
        features.append(dense_layer(layer, features))
    return cat(features)


def dense_layer(t: Tree, features: list[Value]) -> Value:
    concated = cat(features)
    y = t.conv("conv1", normed(t, "norm1", concated))
    del concated
    return t.conv("conv2", normed(t, "norm2", y))


def transition(t: Tree, x: Value) -> Value:
    x = t.conv("conv", normed(t, "norm", x))
    return averaged(x)


def averaged(x: Value) -> Value:
    """Return a 2 x 2 average pooling; the input is saved."""
    m, (batch, width, height, breadth) = x.run.m, x.shape
    out = m.new((batch, width, height // 2, breadth // 2), x.dtype)
    return Value(x.run, remade(m, x.tensor, out, x.tensor))


# ---- ResNet, ResNeXt, Wide ResNet


def resnet(t: Tree, x: Value) -> Value:
    return classified(t, "fc", resnet_stages(t, x)[-1])


def resnet_stages(t: Tree, x: Value, first: int = 4) -> list[Value]:
    """Return the outputs of the stages from the `first` on."""
    x = halved(normed(t, "bn1", t.conv("conv1", x, 2)))
    stages = []
    for number in range(1, 5):
        x = sequence(x, t.each(f"layer{number}"), bottleneck, 1 if number == 1 else 2)
        if number >= first:
            stages.append(x)
    return stages


def bottleneck(t: Tree, x: Value, stride: int = 1) -> Value:
    """Return the output of Bottleneck, or of BasicBlock, whose first convolution has the stride."""
    deep = t.has("conv3")
    y = normed(t, "bn1", t.conv("conv1", x, 1 if deep else stride))
    y = t.conv("conv2", y, stride if deep else 1)
    if deep:
        y = normed(t, "bn2", y)
        y = t.conv("conv3", y)
    y = t.batch_norm("bn3" if deep else "bn2", y)
    if t.has("downsample"):
        x = t.conv("downsample.0", x, stride)
        x = t.batch_norm("downsample.1", x)
    y = Value(y.run, pointwise.add_(y.run.m, y.tensor, x.tensor))
    return in_place(y, RELU)


# ---- RegNet


def regnet(t: Tree, x: Value) -> Value:
    x = normed(t / "stem", "bn", (t / "stem").conv("conv", x, 2))
    for number in range(1, 5):
        x = sequence(x, (t / f"s{number}").children("b", 1), excited_bottleneck, 2)
    return classified(t / "head", "fc", x)


def excited_bottleneck(t: Tree, x: Value, stride: int = 1) -> Value:
    """Return the output of RegNet's Bottleneck, with squeeze and excite in the Y networks."""
    y = normed(t / "conv1", "bn", (t / "conv1").conv("conv", x))
    y = normed(t / "conv2", "bn", (t / "conv2").conv("conv", y, stride))
    if t.has("se"):
        y = excite(t / "se", y, ("fc1", "fc2"))
    y = (t / "conv3").batch_norm("bn", (t / "conv3").conv("conv", y))
    if t.has("downsample"):
        d = t / "downsample"
        y = y + d.batch_norm("bn", d.conv("conv", x, stride))
    return y.act(RELU)


def excite(t: Tree, x: Value, names: tuple[str, str], keeps: str = RELU) -> Value:
    """SqueezeExcite"""
    y = in_place(t.conv(names[0], pooled(x)), keeps)
    return x * t.conv(names[1], y).act(RELU)


# ---- ConvNeXt, whose norms leave channels last in memory


def convnext(t: Tree, x: Value) -> Value:
    stem, head = t / "stem", t / "head"
    x = norm_2d(stem, "1", stem.conv("0", x, 4), dense=False)
    x = sequence(x, t.each("stages"), convnext_stage)
    x = norm_2d(head, "norm", pooled(x))
    x = x.view(*x.shape[:2])
    return head.linear("fc", x) if head.has("fc") else x


def norm_2d(t: Tree, name: str, x: Value, *, dense: bool = True) -> Value:
    """LayerNorm2d"""
    y = t.layer_norm(name, turned(x), dense=dense)
    return y.view(*x.shape)


def turned(x: Value) -> Value:
    """Return a view of `x` with channels as the last dimension."""
    batch, channels, height, width = x.shape
    return x.view(batch, height, width, channels)


def convnext_stage(t: Tree, x: Value) -> Value:
    if t.has("downsample"):
        below = t / "downsample"
        width = below.shape("1.weight")[2]
        x = below.conv("1", norm_2d(below, "0", x), width, last=True)
    return sequence(x, t.each("blocks"), convnext_block)


def convnext_block(t: Tree, x: Value) -> Value:
    mlp, shape = t / "mlp", x.shape
    y = t.conv("conv_dw", x)
    if len(mlp.shape("fc1.weight")) == 2:
        h = t.layer_norm("norm", turned(y))
        del y
        z = mlp.linear("fc1", h)
        z = z.act()
        z = responses(mlp / "grn", z, last=True)
        y = mlp.linear("fc2", z).view(*shape)
        del z, h
    else:
        h = norm_2d(t, "norm", y)
        del y
        z = mlp.conv("fc1", h, last=True)
        z = z.act()
        z = responses(mlp / "grn", z, last=False)
        y = mlp.conv("fc2", z, last=True)
        del z, h
    if t.has("gamma"):
        y = y * t.parameter("gamma").reshaped(shape[1], 1, 1)
    return y + x


def responses(t: Tree, x: Value, *, last: bool) -> Value:
    """Return GlobalResponseNorm of ConvNeXt V2: x + (x of its norm) weight + bias. `last`: channels
    are the last dimension."""
    if not t.has("weight"):
        return x
    m, (width,) = x.run.m, t.shape("weight")
    shape = (1, 1, width) if last else (width, 1, 1)
    dtype = x.dtype if m.autocast is None else FLOAT32
    spread = remade(m, x.tensor, m.new((x.shape[0], *shape), dtype), x.tensor)
    y = x * Value(x.run, spread)
    y = y * t.parameter("weight").reshaped(*shape)
    bias = t.parameter("bias").reshaped(*shape)
    y = Value(y.run, pointwise.add_(m, y.tensor, bias.tensor))
    return x + y


# ---- EfficientNet, MobileNet

HARD = 4  # number of last stages of MobileNetV3 with hardswish; the others have relu
STRIDES = {  # strides of stages, by the number of stages
    7: (1, 2, 2, 2, 1, 2, 1),
    6: (2, 2, 2, 1, 2, 1),
    5: (2, 2, 2, 2, 1),
}
SECOND = (1, 2, 2, 2, 1, 2)  # of EfficientNetV2-S, which also has six stages


def mobile(t: Tree, x: Value) -> Value:
    """Return the output of EfficientNet, or of MobileNetV3 and V4, whose last convolution comes
    after the pooling."""
    x = normed(t, "bn1", t.conv("conv_stem", x, 2), RELU if t.has("norm_head") else INPUT)
    x = _stages(t, x)
    if t.has("bn2"):
        x = normed(t, "bn2", t.conv("conv_head", x), INPUT)
        return classified(t, "classifier", x)
    x = t.conv("conv_head", pooled(x))
    x = normed(t, "norm_head", x) if t.has("norm_head") else in_place(x, INPUT)
    return classified(t, "classifier", x)


def _stages(t: Tree, x: Value) -> Value:
    stages, efficient = t.each("blocks"), t.has("bn2")
    strides, plain = STRIDES[len(stages)], 0
    if efficient and len(stages) == len(SECOND):
        strides = SECOND
    elif not efficient:
        plain = len(stages) if t.has("norm_head") else len(stages) - HARD
    for number, stage in enumerate(stages):
        call = partial(inverted, keeps=RELU if number < plain else INPUT, adds=efficient)
        x = sequence(x, stage.children(), call, strides[number])
    return x


def inverted(
    t: Tree, x: Value, stride: int = 1, *, keeps: str = INPUT, adds: bool = False
) -> Value:
    """Return the output of InvertedResidual, DepthwiseSeparableConv without an expansion,
    EdgeResidual or UniversalInvertedResidual; or of a ConvBnAct, whose input is added if `adds`."""
    if t.has("conv"):
        y = normed(t, "bn1", t.conv("conv", x, stride), keeps)
        return y + x if adds and x.shape == y.shape else y
    if t.has("pw_exp"):
        y = universal_bottleneck(t, x, stride, keeps)
    elif t.has("conv_exp"):
        y = normed(t, "bn1", t.conv("conv_exp", x, stride), keeps)
        y = t.batch_norm("bn2", t.conv("conv_pwl", y))
    else:
        y = separable(t, x, stride, keeps)
    return y + x if x.shape == y.shape else y


def separable(t: Tree, x: Value, stride: int, keeps: str) -> Value:
    y, deep = x, t.has("conv_pwl")
    if deep:
        y = normed(t, "bn1", t.conv("conv_pw", x), keeps)
    y = normed(t, "bn2" if deep else "bn1", t.conv("conv_dw", y, stride), keeps)
    if t.has("se"):
        y = excite(t / "se", y, ("conv_reduce", "conv_expand"), INPUT)
    return t.batch_norm("bn3" if deep else "bn2", t.conv("conv_pwl" if deep else "conv_pw", y))


def universal_bottleneck(t: Tree, x: Value, stride: int, keeps: str) -> Value:
    """Return a bottleneck's output; without a middle depthwise convolution the first one has the
    stride."""
    middle = t.has("dw_mid")
    if t.has("dw_start"):
        start = t / "dw_start"
        x = start.batch_norm("bn", start.conv("conv", x, 1 if middle else stride))
    wide = t / "pw_exp"
    x = normed(wide, "bn", wide.conv("conv", x), keeps)
    if middle:
        inner = t / "dw_mid"
        x = normed(inner, "bn", inner.conv("conv", x, stride), keeps)
    last = t / "pw_proj"
    return last.batch_norm("bn", last.conv("conv", x))


PROGRAMS = {  # by a module that only networks of the kind have
    "pre_logits.fc1": vgg,
    "features.denseblock1": densenet,
    "layer1.0.conv1": resnet,
    "s1.b1.conv1": regnet,
    "stages.0.blocks.0.conv_dw": convnext,
    "conv_stem": mobile,
}

"""Convolutional networks as timm runs them: ResNet, RegNet, ConvNeXt, EfficientNet, MobileNet.

Batch norms write a tensor of their own, and activations behind them write over it.

Source: timm 1.0.31 models/{resnet,regnet,convnext,efficientnet,mobilenetv3,
_efficientnet_blocks,_efficientnet_builder}.py, layers/{norm_act,squeeze_excite}.py.
"""

from functools import partial

from weighbridge.pictures.trees import Tree, in_place, pooled, sequence
from weighbridge.pictures.values import Value
from weighbridge.training.forward.ops import pointwise, shaping

# What activations keep for backward: relu and sigmoid; relu6, silu and hardswish
RELU, INPUT = "result", "input"


def normed(t: Tree, name: str, x: Value, keeps: str = RELU) -> Value:
    """BatchNormAct2d"""
    return in_place(t.batch_norm(name, x), keeps)


def classified(t: Tree, name: str, x: Value) -> Value:
    """The mean of all places, and the classes where there are some."""
    x = pooled(x)
    x = x.view(*x.shape[:2])
    return t.linear(name, x) if t.has(name) else x


# ---- ResNet, ResNeXt, Wide ResNet


def resnet(t: Tree, x: Value) -> Value:
    x = normed(t, "bn1", t.conv("conv1", x, 2))
    height, breadth = x.shape[2:]
    x = Value(x.run, shaping.max_pooled(x.run.m, x.tensor, (height + 1) // 2, (breadth + 1) // 2))
    for number in range(1, 5):
        x = sequence(x, t.each(f"layer{number}"), bottleneck, 1 if number == 1 else 2)
    return classified(t, "fc", x)


def bottleneck(t: Tree, x: Value, stride: int = 1) -> Value:
    """Bottleneck, and BasicBlock, which steps in its first convolution."""
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
    """Bottleneck of RegNet, with squeeze and excite in the Y networks."""
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
    """The same memory with channels as the last dimension."""
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
        y = mlp.linear("fc2", z).view(*shape)
        del z, h
    else:
        h = norm_2d(t, "norm", y)
        del y
        z = mlp.conv("fc1", h, last=True)
        z = z.act()
        y = mlp.conv("fc2", z, last=True)
        del z, h
    y = y * t.parameter("gamma").reshaped(shape[1], 1, 1)
    return y + x


# ---- EfficientNet, MobileNet

PLAIN = {7: 3, 6: 2}  # first stages of MobileNetV3 that have relu; others hardswish
STRIDES = {7: (1, 2, 2, 2, 1, 2, 1), 6: (2, 2, 2, 1, 2, 1)}  # by the number of stages


def mobile(t: Tree, x: Value) -> Value:
    """EfficientNet, and MobileNetV3, whose last convolution comes behind the pooling."""
    x = normed(t, "bn1", t.conv("conv_stem", x, 2), INPUT)
    x = _stages(t, x)
    if t.has("bn2"):
        x = normed(t, "bn2", t.conv("conv_head", x), INPUT)
    else:
        x = in_place(t.conv("conv_head", pooled(x)), INPUT)
    return classified(t, "classifier", x)


def _stages(t: Tree, x: Value) -> Value:
    stages = t.each("blocks")
    plain = PLAIN[len(stages)] if not t.has("bn2") else 0
    for number, stage in enumerate(stages):
        call = partial(inverted, keeps=RELU if number < plain else INPUT)
        x = sequence(x, stage.children(), call, STRIDES[len(stages)][number])
    return x


def inverted(t: Tree, x: Value, stride: int = 1, *, keeps: str = INPUT) -> Value:
    """InvertedResidual, DepthwiseSeparableConv without an expansion, and a ConvBnAct."""
    if t.has("conv"):
        return normed(t, "bn1", t.conv("conv", x, stride), keeps)
    y, deep = x, t.has("conv_pwl")
    if deep:
        y = normed(t, "bn1", t.conv("conv_pw", x), keeps)
    y = normed(t, "bn2" if deep else "bn1", t.conv("conv_dw", y, stride), keeps)
    if t.has("se"):
        y = excite(t / "se", y, ("conv_reduce", "conv_expand"), INPUT)
    y = t.batch_norm("bn3" if deep else "bn2", t.conv("conv_pwl" if deep else "conv_pw", y))
    return y + x if x.shape == y.shape else y


PROGRAMS = {  # by a module that only networks of the kind have
    "layer1.0.conv1": resnet,
    "s1.b1.conv1": regnet,
    "stages.0.blocks.0.conv_dw": convnext,
    "blocks.0.0": mobile,
}

"""Depth-Anything: DINOv2, and a pyramid made of the states of four of its layers (DPT).

Names are those of checkpoints, from before transformers 5.

Source: transformers 5.23 models/{depth_anything,dinov2}/modeling_*.py.
"""

from math import isqrt

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.convnets import RELU
from weighbridge.pictures.nets.detr import flattened, shown
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.trees import grown
from weighbridge.pictures.values import Sizes, Value, attend, cat

CLASS_TOKEN = 1
ALIGNED = 8  # widths of SwiGLU are multiples of it


def dinov2(n: NetPlace, c: ComponentConfig, x: Value) -> list[Value]:
    """Return the normalized states of the layers that the config lists, from Dinov2Backbone."""
    states = [embedded(n / "embeddings", c, x)]
    for p in (n / "encoder" / "layer" / number for number in range(c.num_hidden_layers)):
        states.append(p.block(lambda p, x: dinov2_layer(p, x, c), states[-1]))
    chosen = [states[number] for number in c.out_indices]
    return [n.layer_norm("layernorm", one) if c.apply_layernorm else one for one in chosen]


def embedded(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """Return patch embeddings with positions, interpolated if the picture has another size."""
    d, side = c.hidden_size, c.image_size // c.patch_size
    token = n.value("cls_token", 1, 1, d)
    if c.use_mask_token:
        n.param("mask_token", 1, d)
    table = n.value("position_embeddings", 1, side * side + CLASS_TOKEN, d)
    y = (n / "patch_embeddings").conv("projection", x, d, c.patch_size, c.patch_size, 0)
    height, breadth = y.shape[2:]
    y = flattened(y)
    y = cat([token.part(y.shape[0], CLASS_TOKEN, d), y])
    if (height, breadth) == (side, side):
        return y + table
    squared = table.part(1, d, isqrt(table.shape[1]), isqrt(table.shape[1]))
    other = squared.to(FLOAT32).resized(1, d, height, breadth).like(table)
    places = cat([table.part(1, CLASS_TOKEN, d), flattened(other)])
    return y + places


def dinov2_layer(n: NetPlace, x: Value, c: ComponentConfig) -> Value:
    d, a, heads = c.hidden_size, n / "attention" / "attention", c.num_attention_heads
    h = n.layer_norm("norm1", x)
    q, k, v = (a.linear(name, h, d, c.qkv_bias) for name in ("query", "key", "value"))
    h = attend(q, k, v, heads)
    h = (n / "attention" / "output").linear("dense", h, d)
    del q, k, v
    h = h * (n / "layer_scale1").value("lambda1", d)
    x = h + x
    h = n.layer_norm("norm2", x)
    h = (swiglu if c.use_swiglu_ffn else mlp)(n / "mlp", h, int(d * c.mlp_ratio))
    h = h * (n / "layer_scale2").value("lambda1", d)
    return h + x


def mlp(n: NetPlace, x: Value, inside: int) -> Value:
    y = n.linear("fc1", x, inside)
    y = y.act()
    return n.linear("fc2", y, x.shape[-1])


def swiglu(n: NetPlace, x: Value, inside: int) -> Value:
    width = (inside * 2 // 3 + ALIGNED - 1) // ALIGNED * ALIGNED
    gate, up = n.linear("weights_in", x, 2 * width).chunk(2)
    return n.linear("weights_out", gate.act() * up, x.shape[-1])


def reassembled(n: NetPlace, c: ComponentConfig, states: list[Value], s: Sizes) -> list[Value]:
    """Return four feature maps, each half as large as the one before, from the tokens of four
    layers."""
    height, breadth = s.height // c.patch_size, s.width // c.patch_size
    out = []
    for number, state in enumerate(states):
        place, width = n / "layers" / number, c.neck_hidden_sizes[number]
        factor, (batch, _, d) = c.reassemble_factors[number], state.shape
        y = state.part(batch, height * breadth, d).copy(batch, d, height, breadth)
        y = place.conv("projection", y, width, 1)
        if factor > 1:
            y = place.transposed("resize", y, width, factor)
        elif factor < 1:
            y = place.conv("resize", y, width, 3, int(1 / factor))
        out.append(y)
    return out


def residual(n: NetPlace, x: Value) -> Value:
    """DepthAnythingPreActResidualLayer"""
    y = n.conv("convolution1", x.act(RELU), x.shape[1])
    y = y.act(RELU)
    y = n.conv("convolution2", y, x.shape[1])
    return y + x


def fused(n: NetPlace, x: Value, other: Value | None, height: int, breadth: int) -> Value:
    """DepthAnythingFeatureFusionLayer"""
    if other is not None:
        x = x + residual(n / "residual_layer1", other)
    else:
        declared = n / "residual_layer1"
        with x.run.m.no_grad():
            _declared(declared, x)
    x = residual(n / "residual_layer2", x)
    x = grown(x, *x.shape[:2], height, breadth)
    return n.conv("projection", x, x.shape[1], 1)


def _declared(n: NetPlace, x: Value) -> None:
    """Declare two convolutions that the first stage has but does not use: it has no features to
    add."""
    width = x.shape[1]
    for name in ("convolution1", "convolution2"):
        n.param(f"{name}.weight", width, width, 3, 3, kind="conv")
        n.param(f"{name}.bias", width, kind="bias")


def depth_anything(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    neck, width = n / "neck", c.fusion_hidden_size
    states = dinov2(n / "backbone", c.below("backbone_config"), shown(n, s))
    pyramid = reassembled(neck / "reassemble_stage", c, states, s)
    features = [
        (neck / "convs").conv(str(i), one, width, bias=False) for i, one in enumerate(pyramid)
    ]
    del pyramid
    merged: list[Value] = []
    for number, one in enumerate(reversed(features)):
        place, further = neck / "fusion_stage" / "layers" / number, len(features) - 2 - number
        sides = (
            features[further].shape[2:] if further >= 0 else [2 * side for side in one.shape[2:]]
        )
        if merged and merged[-1].shape != one.shape:
            one = grown(one, *merged[-1].shape)
        x = fused(place, merged[-1] if merged else one, one if merged else None, *sides)
        merged.append(x)
    del features, one, x
    head, whole = (
        n / "head",
        (s.height // c.patch_size * c.patch_size, s.width // c.patch_size * c.patch_size),
    )
    y = head.conv("conv1", merged[c.head_in_index], width // 2)
    y = grown(y, *y.shape[:2], *whole)
    y = head.conv("conv2", y, c.head_hidden_size)
    y = y.act(RELU)
    y = head.conv("conv3", y, 1, 1)
    return y.act(RELU) * 1.0


PROGRAMS = {"DepthAnythingForDepthEstimation": depth_anything}

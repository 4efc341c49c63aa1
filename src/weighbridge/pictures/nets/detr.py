"""DETR: a ResNet, an encoder of its feature map, a decoder of queries, boxes and classes.

Names are those of checkpoints, from before transformers 5. What `forward` holds to its end is held
here: features of all stages, and their masks.

Source: transformers 5.23 models/detr/modeling_detr.py.
"""

from math import prod

from weighbridge.base.dtypes import BOOL
from weighbridge.models.arch.families import timm_nets
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets import convnets
from weighbridge.pictures.nets.convnets import RELU
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.trees import Tree
from weighbridge.pictures.values import Sizes, Value, attend, cat
from weighbridge.training.forward.ops import pointwise

SIDES = 4  # coordinates per box


def shown(n: NetPlace, s: Sizes) -> Value:
    """Return the run's batch of pictures; a tensor without memory if only the module tree is
    needed."""
    return n.run.pixels or n.run.constant(s.batch, 3, s.height, s.width)


def classes(c: ComponentConfig) -> int:
    """Return the number of labels in the config."""
    return c.num_labels or len(c.id2label or (0, 0))


def flattened(x: Value) -> Value:
    """Return [batch, width, height, breadth] as [batch, places, width], a view."""
    batch, width, *sides = x.shape
    return x.view(batch, prod(sides), width)


# ---- heads and layers of all detectors


def mlp_head(n: NetPlace, x: Value, inside: int, out: int, depth: int) -> Value:
    """Return MLPPredictionHead of `x`: `depth` linears with ReLU in between."""
    for number in range(depth - 1):
        x = (n / "layers").linear(str(number), x, inside).act(RELU)
    return (n / "layers").linear(str(depth - 1), x, out)


def attention(
    n: NetPlace, x: Value, seen: Value, heads: int, *places: Value | None, masked: bool = False
) -> Value:
    """Return attention whose queries and keys have positions added, and values none. `places`:
    positions of both, or of queries and of keys."""
    d = x.shape[-1]
    if x is seen:
        asked = known = x if places[0] is None else x + places[0]
    else:
        asked, known = (
            one if place is None else one + place
            for one, place in zip((x, seen), places, strict=True)
        )
    q, k, v = (
        n.linear("q_proj", asked, d),
        n.linear("k_proj", known, d),
        n.linear("v_proj", seen, d),
    )
    h = attend(q, k, v, heads, masked=masked)
    return n.linear("out_proj", h, d)


def dropped(x: Value, rate: float) -> Value:
    return Value(x.run, pointwise.dropout(x.run.m, x.tensor, rate or 0.0))


def feed(n: NetPlace, x: Value, inside: int, c: ComponentConfig, keeps: str = RELU) -> Value:
    y = n.linear("fc1", x, inside).act(keeps)
    y = dropped(y, c.activation_dropout)
    y = dropped(n.linear("fc2", y, x.shape[-1]), c.dropout)
    return n.layer_norm("final_layer_norm", x + y)


def attended(n: NetPlace, x: Value, y: Value, rate: float, norm: str) -> Value:
    return n.layer_norm(norm, x + dropped(y, rate))


# ---- DETR


def detr_backbone(n: NetPlace, c: ComponentConfig, x: Value) -> list[Value]:
    """Return the outputs of the stages of a timm ResNet without its classifier, with frozen
    norms."""
    plan = timm_nets.blueprint(c.backbone or c.below("backbone_config").backbone or "resnet50", 0)
    if plan is None:
        raise ValueError(c.backbone)
    place = n / "backbone" / "conv_encoder" / "model"
    shapes = {place.path + one.name: one.shape for one in plan.params}
    return convnets.resnet_stages(Tree(place, shapes, frozen=True), x, 1)


def masks(x: Value, features: list[Value]) -> list[Value]:
    """Return padding masks, which mark where each picture of a batch ends, at the size of the input
    and of each stage."""
    batch, _, height, breadth = x.shape
    whole = x.run.new(batch, height, breadth)
    sides = (one.shape[2:] for one in features)
    smaller = [x.run.new(batch, *one, dtype=BOOL) for one in sides]
    return [whole, *smaller]


def detr(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    x, m, d = shown(n, s), n / "model", c.d_model
    features = detr_backbone(m, c, x)
    edges = masks(x, features)
    y = m.conv("input_projection", features[-1], d, 1)
    places = x.run.new(*flattened(y).shape)
    projected = flattened(y)
    memory = dropped(projected, c.dropout)
    for p in (m / "encoder").each("layers", c.encoder_layers):
        memory = p.block(lambda p, x: detr_layer(p, x, c, places), memory)
    table = m.value("query_position_embeddings.weight", c.num_queries, d, kind="embedding")
    queries = table.resized(s.batch, c.num_queries, d)
    x = x.run.new(s.batch, c.num_queries, d)
    states = []
    for p in (m / "decoder").each("layers", c.decoder_layers):
        x = p.block(lambda p, x: decoder_layer(p, x, c, queries, memory, places), x)
        if c.auxiliary_loss:
            x = (m / "decoder").layer_norm("layernorm", x)
            states.append(x)
    x = (m / "decoder").layer_norm("layernorm", x)
    logits = n.linear("class_labels_classifier", x, classes(c) + 1)
    boxes = mlp_head(n / "bbox_predictor", x, d, SIDES, 3).act("result")
    del edges
    return cat([logits, boxes], -1)


def detr_layer(n: NetPlace, x: Value, c: ComponentConfig, places: Value) -> Value:
    y = attention(n / "self_attn", x, x, c.encoder_attention_heads, places, masked=True)
    x = attended(n, x, y, c.dropout, "self_attn_layer_norm")
    return feed(n, x, c.encoder_ffn_dim, c)


def decoder_layer(
    n: NetPlace, x: Value, c: ComponentConfig, queries: Value, memory: Value, places: Value
) -> Value:
    heads = c.decoder_attention_heads
    y = attention(n / "self_attn", x, x, heads, queries)
    x = attended(n, x, y, c.dropout, "self_attn_layer_norm")
    y = attention(n / "encoder_attn", x, memory, heads, queries, places, masked=True)
    x = attended(n, x, y, c.dropout, "encoder_attn_layer_norm")
    return feed(n, x, c.decoder_ffn_dim, c)


PROGRAMS = {"DetrForObjectDetection": detr}

"""RT-DETR and its second version: stages of a ResNet, fused with each other; queries are the places
with the highest scores, and attend to a few points of each stage.

Names are those of checkpoints, from before transformers 5.

Source: transformers 5.23 models/{rt_detr,rt_detr_v2}/modeling_*.py, modeling_rt_detr_resnet.py.
"""

from collections.abc import Callable
from functools import partial
from math import prod

from weighbridge.base.dtypes import BOOL, INT64
from weighbridge.base.records import NamedTuple
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.convnets import INPUT, RELU, averaged, halved
from weighbridge.pictures.nets.detr import (
    SIDES,
    attended,
    attention,
    classes,
    feed,
    flattened,
    masks,
    mlp_head,
    shown,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.trees import doubled
from weighbridge.pictures.values import Sizes, Value, cat
from weighbridge.training.forward.ops import pointwise, sampling, shaping

NOISY = 2  # queries per box with noise: a positive and a negative one
Layer = Callable[..., Value]


class SeenStages(NamedTuple):
    """Inputs of all decoder layers: the features, and the boxes around which they sample."""

    memory: Value
    sides: tuple[tuple[int, int], ...]
    boxes: Value

    @property
    def areas(self) -> list[int]:
        return [prod(one) for one in self.sides]


def conv_norm(  # noqa: PLR0913  as the class has them
    n: NetPlace,
    x: Value,
    out: int,
    kernel: int = 1,
    stride: int = 1,
    keeps: str = "",
    *,
    names: tuple[str, str] = ("conv", "norm"),
    frozen: bool = False,
) -> Value:
    """Return a convolution with its batch norm, and an activation if `keeps` names one."""
    y = n.conv(names[0], x, out, kernel, stride, kernel // 2, bias=False)
    y = n.batch_norm(names[1], y, frozen=frozen)
    return y.act(keeps) if keeps else y


def rt_backbone(n: NetPlace, c: ComponentConfig, x: Value) -> list[Value]:
    """Return the stages of RTDetrResNetBackbone: three convolutions come first, and an average pool
    before a shortcut with a stride."""
    b, frozen = c.below("backbone_config"), c.freeze_backbone_batch_norms
    layer = partial(conv_norm, names=("convolution", "normalization"), frozen=frozen)
    stem, half = n / "embedder" / "embedder", b.embedding_size // 2
    y = layer(stem / 0, x, half, 3, 2, RELU)
    y = layer(stem / 1, y, half, 3, 1, RELU)
    y = layer(stem / 2, y, b.embedding_size, 3, 1, RELU)
    states = [halved(y)]
    del y
    for number, (width, depth) in enumerate(zip(b.hidden_sizes, b.depths, strict=True)):
        stage, y = n / "encoder" / "stages" / number / "layers", states[-1]
        for place in range(depth):
            steps = 2 if number and not place else 1
            y = rt_layer(stage / place, y, width, steps, layer, deep=b.layer_type == "bottleneck")
        states.append(y)
    return [states[number] for number in b.out_indices]


def rt_layer(n: NetPlace, x: Value, width: int, stride: int, layer: Layer, *, deep: bool) -> Value:
    """Return the output of RTDetrResNetBottleNeckLayer or RTDetrResNetBasicLayer."""
    parts, changes = n / "layer", x.shape[1] != width or stride != 1
    if deep:
        y = layer(parts / 0, x, width // 4, 1, 1, RELU)
        y = layer(parts / 1, y, width // 4, 3, stride, RELU)
        y = layer(parts / 2, y, width)
    else:
        changes = changes or n.number == 0
        y = layer(parts / 0, x, width, 3, stride, RELU)
        y = layer(parts / 1, y, width, 3)
    residual = x
    if changes:
        below = n / "shortcut"
        if stride == 2 if deep else x.shape[1] != width:
            residual, below = averaged(x) if stride == 2 else x.copy(), below / 1
        residual = layer(below, residual, width)
    y = Value(y.run, pointwise.add_(y.run.m, y.tensor, residual.tensor))
    return y.act(RELU)


def rep_layer(n: NetPlace, x: Value, c: ComponentConfig) -> Value:
    """RTDetrCSPRepLayer"""
    out = c.encoder_hidden_dim
    inner = int(out * c.hidden_expansion)
    y = conv_norm(n / "conv1", x, inner, keeps=INPUT)
    for number in range(3):
        block = n / "bottlenecks" / number
        y = (conv_norm(block / "conv1", y, inner, 3) + conv_norm(block / "conv2", y, inner)).act()
    y = y + conv_norm(n / "conv2", x, inner, keeps=INPUT)
    return conv_norm(n / "conv3", y, out, keeps=INPUT) if inner != out else y


def hybrid(n: NetPlace, c: ComponentConfig, features: list[Value]) -> list[Value]:
    """Return the features of RTDetrHybridEncoder, which overwrites items of `features`."""
    d, last = c.encoder_hidden_dim, len(features) - 1
    for number, level in enumerate(c.encode_proj_layers if c.encoder_layers else ()):
        features[level] = rt_encoded(n / "encoder" / number, c, features[level])
    tops = [features[-1]]
    for number in range(last):
        top = conv_norm(n / "lateral_convs" / number, tops[-1], d, keeps=INPUT)
        tops[-1] = top
        grown = doubled(top)
        both = cat([grown, features[last - number - 1]])
        tops.append(rep_layer(n / "fpn_blocks" / number, both, c))
    tops.reverse()
    out = [tops[0]]
    for number in range(last):
        down = conv_norm(n / "downsample_convs" / number, out[-1], d, 3, 2, INPUT)
        both = cat([down, tops[number + 1]])
        out.append(rep_layer(n / "pan_blocks" / number, both, c))
    return out


def rt_encoded(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """Return `x` after RTDetrAIFILayer: attention between the places of the coarsest stage."""
    y = flattened(x)
    places = x.run.new(1, *y.shape[1:])
    for p in n.each("layers", c.encoder_layers):
        h = attention(p / "self_attn", y, y, c.encoder_attention_heads, places)
        y = attended(p, y, h, c.dropout, "self_attn_layer_norm")
        y = feed(p, y, c.encoder_ffn_dim, c, INPUT)
    return y.copy(*x.shape)


def deformable(n: NetPlace, x: Value, c: ComponentConfig, seen: SeenStages) -> Value:
    """Return MultiScaleDeformableAttention: each query samples a few points of each stage."""
    batch, count, d = x.shape
    heads, levels, points = c.decoder_attention_heads, c.num_feature_levels, c.decoder_n_points
    each, size = heads * levels * points, d // heads
    value = n.linear("value_proj", seen.memory, d)
    second = n.run.cls.startswith("RTDetrV2")
    offsets = n.linear("sampling_offsets", x, 2 * each).view(
        batch, count, heads, levels * points, 2
    )
    weights = n.linear("attention_weights", x, each).view(batch, count, heads, levels * points)
    weights = weights.softmax()
    if second:
        scale = n.buffer("n_points_scale", levels * points, dtype="float32")
        offsets = offsets * scale.view(levels * points, 1)
        offsets = offsets * seen.boxes * 1.0
    else:
        offsets = offsets * 1.0 * seen.boxes * 1.0
    grids = (seen.boxes + offsets) * 1.0 + 1.0
    parts = []
    planes = (value.copy() if second else value).split(*seen.areas, dim=1)
    for part, (height, breadth) in zip(planes, seen.sides, strict=True):
        plane = (part if second else part.copy()).view(batch * heads, size, height, breadth)
        grid = grids.part(batch * heads, count, points, 2).copy()
        sampled = sampling.grid_sample(x.run.m, plane.tensor, grid.tensor)
        parts.append(Value(x.run, sampled))
    weights = weights.copy(batch * heads, 1, count, levels * points)
    y = cat(parts, -1) * weights
    y = y.resized(batch, d, count).copy(batch, count, d)
    return n.linear("output_proj", y, d)


def rt_decoder_layer(
    n: NetPlace, x: Value, c: ComponentConfig, queries: Value, seen: SeenStages, *, masked: bool
) -> Value:
    y = attention(n / "self_attn", x, x, c.decoder_attention_heads, queries, masked=masked)
    x = attended(n, x, y, c.dropout, "self_attn_layer_norm")
    y = deformable(n / "encoder_attn", x + queries, c, seen)
    x = attended(n, x, y, c.dropout, "encoder_attn_layer_norm")
    return feed(n, x, c.decoder_ffn_dim, c)


def refined(x: Value, boxes: Value) -> Value:
    """Return sigmoid(x + inverse_sigmoid(boxes)); `boxes` get no gradient."""
    with x.run.m.no_grad():
        within = boxes * 1.0
        first, second = within * 1.0, within * 1.0
        logits = first * second
        del within, first, second
    return (x + logits).act("result")


def detached(x: Value) -> Value:
    return Value(x.run, x.tensor.detach())


def decoded(
    n: NetPlace, c: ComponentConfig, x: Value, boxes: Value, seen: SeenStages, *, masked: bool
) -> Value:
    """Return RTDetrDecoder's output: each layer refines the boxes around which the next one
    samples."""
    d, states, refinements, logits = c.d_model, [], [], []
    boxes = boxes.act("result")
    for number in range(c.decoder_layers):
        queries = mlp_head(n / "query_pos_head", boxes, 2 * d, d, 2)
        looked = seen._replace(boxes=boxes.view(*boxes.shape[:2], 1, 1, SIDES))
        x = rt_decoder_layer(n / "layers" / number, x, c, queries, looked, masked=masked)
        corners = mlp_head(n / "bbox_embed" / number, x, d, SIDES, 3)
        better = refined(corners, boxes)
        boxes = detached(better)
        states.append(x)
        refinements.append(better)
        logits.append((n / "class_embed").linear(str(number), x, classes(c)))
    stacked = [cat(one, 1) for one in (states, refinements, logits)]
    return cat([stacked[2], stacked[1]], -1)


def rt_detr(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    x, m, d = shown(n, s), n / "model", c.d_model
    features = rt_backbone(m / "backbone" / "model", c, x)
    edges = masks(x, features)
    projected = []
    for number, one in enumerate(features):
        y = (m / "encoder_input_proj" / number).conv("0", one, c.encoder_hidden_dim, 1, bias=False)
        projected.append((m / "encoder_input_proj" / number).batch_norm("1", y))
    mixed = hybrid(m / "encoder", c, projected)
    sources = []
    for number in range(c.num_feature_levels):
        place, further = m / "decoder_input_proj" / number, number >= len(mixed)
        kernel, stride = (3, 2) if further else (1, 1)
        y = place.conv("0", mixed[min(number, len(mixed) - 1)], d, kernel, stride, bias=False)
        sources.append(place.batch_norm("1", y))
    sides = tuple((one.shape[2], one.shape[3]) for one in sources)
    memory = cat([flattened(one) for one in sources])
    noisy = _noise(m, c, s) if x.run.m.training else None
    chosen = _chosen(m, c, memory)
    queries, boxes = chosen.queries, chosen.boxes
    if noisy is not None:
        queries, boxes = cat([noisy, queries]), cat([x.run.new(*noisy.shape[:2], SIDES), boxes])
    seen = SeenStages(memory, sides, boxes)
    out = decoded(m / "decoder", c, queries, detached(boxes), seen, masked=noisy is not None)
    del edges
    return out


def _noise(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    """Return the most noisy queries that get_contrastive_denoising_training_group allows; None
    without denoising."""
    if not c.num_denoising:
        return None
    table = n.value("denoising_class_embed.weight", classes(c) + 1, c.d_model, kind="embedding")
    count = NOISY * c.num_denoising
    ids = n.run.new(s.batch, count, dtype=INT64)
    return Value(n.run, shaping.embedding(n.run.m, ids.tensor, table.tensor))


class ChosenPlaces(NamedTuple):
    """The places with the highest scores, and the outputs of all places."""

    queries: Value
    boxes: Value
    edges: tuple[Value, ...]


def _chosen(n: NetPlace, c: ComponentConfig, memory: Value) -> ChosenPlaces:
    run, (batch, places, d) = n.run, memory.shape
    anchors, valid = run.new(1, places, SIDES), run.new(1, places, 1, dtype=BOOL)
    valued = memory * run.new(1, places, 1)
    normal = (n / "enc_output").linear("0", valued, d)
    normal = (n / "enc_output").layer_norm("1", normal)
    scores = n.linear("enc_score_head", normal, classes(c))
    logits = mlp_head(n / "enc_bbox_head", normal, d, SIDES, 3) + anchors
    best = run.new(batch, places)
    _, numbers = sampling.top(run.m, best.tensor, c.num_queries)
    del best

    def picked(x: Value) -> Value:
        width = x.shape[-1]
        index = run.new(batch, c.num_queries, width, dtype=INT64)
        return Value(run, shaping.gathered(run.m, x.tensor, index.tensor, index.shape))

    boxes = picked(logits)
    first = boxes.act("result")
    labels = picked(scores)
    if c.learn_initial_query:
        table = n.value("weight_embedding.weight", c.num_queries, d, kind="embedding")
        queries = table.resized(batch, c.num_queries, d)
    else:
        queries = detached(picked(normal))
    alive = (anchors, valid, valued, normal, scores, logits, first, labels, Value(run, numbers))
    return ChosenPlaces(queries, boxes, alive)


PROGRAMS = {"RTDetrForObjectDetection": rt_detr, "RTDetrV2ForObjectDetection": rt_detr}

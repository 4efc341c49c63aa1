"""Florence-2: DaViT, whose blocks attend over windows and then over channels, and a BART.

    stage: convolution and LayerNorm, blocks of (window, channel), each with depthwise 3 x 3
    before attention and before the MLP

Source: transformers 5.23 models/florence2/modeling_florence2.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Buffer, Family, Param, affine, conv, embedding, linear
from weighbridge.models.arch.compose import Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import layernorm, nothing, scaled, sizes

TEXT = Inner(path="language_model.")
VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower")
PROJECTOR = "multi_modal_projector."


def half(c: Config, prefix: str, width: int, attention: str) -> Iterator[Param]:
    inner = scaled(c, width, "mlp_ratio")
    yield from conv(f"{prefix}conv1", (width, 1, 3, 3))
    yield from layernorm(f"{prefix}norm1", width)
    bias = c.enabled("qkv_bias")
    yield from linear(f"{prefix}{attention}.qkv", 3 * width, width, bias=bias)
    yield from affine(f"{prefix}{attention}.proj", width, width)
    yield from conv(f"{prefix}conv2", (width, 1, 3, 3))
    yield from layernorm(f"{prefix}norm2", width)
    yield from affine(f"{prefix}ffn.fc1", inner, width)
    yield from affine(f"{prefix}ffn.fc2", width, inner)


def davit(c: Config, prefix: str) -> Iterator[Param]:
    widths = sizes(c, "embed_dim")
    count = len(widths)
    patch, depths = c.per_layer("patch_size", count=count), c.per_layer("depths", count=count)
    first = c.many("patch_prenorm")
    for i, width in enumerate(widths):
        into = widths[i - 1] if i else c.num("in_channels")
        yield from conv(f"{prefix}convs.{i}.conv", (width, into, patch[i], patch[i]))
        yield from layernorm(
            f"{prefix}convs.{i}.norm", into if i < len(first) and first[i] else width
        )
        for j in range(depths[i]):
            path = f"{prefix}blocks.{i}.{j}."
            yield from half(c, f"{path}spatial_block.", width, "window_attn")
            yield from half(c, f"{path}channel_block.", width, "channel_attn")


def last_width(c: Config) -> int:
    return sizes(nested(c, VISION), "embed_dim")[-1]


def projector(c: Config, prefix: str) -> Iterator[Param]:
    tower, width = nested(c, VISION), last_width(c)
    out, rows = tower.num("projection_dim"), tower.num("max_position_embeddings")
    path = f"{prefix}{PROJECTOR}"
    yield from linear(f"{path}image_projection", out, width)
    yield from layernorm(f"{path}image_proj_norm", out)
    yield from embedding(f"{path}image_position_embed.row_embeddings", rows, width // 2)
    columns = width - width // 2
    yield from embedding(f"{path}image_position_embed.column_embeddings", rows, columns)


def cosines(c: Config, prefix: str) -> Iterator[Buffer]:
    shape = (nested(c, VISION).num("max_temporal_embeddings"), last_width(c))
    name = f"{prefix}{PROJECTOR}visual_temporal_embed.pos_idx_to_embed"
    yield Buffer(name, shape, "", persistent=True)


FLORENCE_VISION = Family(
    body=davit, base="", cls="Florence2VisionBackbone", heads={"Backbone": nothing}, blocks=()
)
FLORENCE2 = composite(
    TEXT,
    VISION,
    own=projector,
    held=cosines,
    projectors=(PROJECTOR,),
    cls="Florence2ForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
)

TYPES = {
    "florence2": ModelType(
        FLORENCE2, language="text_config", sees=Sight(images.always_577), encoder="text_config"
    ),
    "florence_vision": ModelType(FLORENCE_VISION, no_cache="image", encodes="pyramid"),
}

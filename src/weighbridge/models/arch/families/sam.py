"""SAM (Segment Anything): a ViT with relative positions, a prompt encoder, a mask decoder.

The text-free exception among the pairs: all three parts read images. The random matrix of the
positional encoding is one, shared by image and prompt.
Source: transformers 5.23 models/sam/modeling_sam.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Family, Param, affine, conv, embedding, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import layernorm, nothing, patch_shape, scaled

TABLE = "shared_image_embedding.positional_embedding"


def vision_layer(c: Config, prefix: str, window: int) -> Iterator[Param]:
    width = c.num("hidden_size")
    inner = c.num("mlp_dim", default=scaled(c, width, "mlp_ratio"))
    size = width // max(1, c.num("num_attention_heads"))
    yield from layernorm(f"{prefix}layer_norm1", width)
    yield from linear(f"{prefix}attn.qkv", 3 * width, width, bias=c.enabled("qkv_bias"))
    yield from affine(f"{prefix}attn.proj", width, width)
    for axis in ("h", "w") if c.enabled("use_rel_pos") else ():
        yield Param(f"{prefix}attn.rel_pos_{axis}", (2 * window - 1, size), "other")
    yield from layernorm(f"{prefix}layer_norm2", width)
    yield from affine(f"{prefix}mlp.lin1", inner, width)
    yield from affine(f"{prefix}mlp.lin2", width, inner)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width, out = c.num("hidden_size"), c.num("output_channels")
    side, everywhere = (
        c.num("image_size") // max(1, c.num("patch_size")),
        c.nums("global_attn_indexes"),
    )
    yield from conv(f"{prefix}patch_embed.projection", patch_shape(c, width))
    if c.enabled("use_abs_pos"):
        yield Param(f"{prefix}pos_embed", (1, side, side, width), "other")
    for i in range(c.layers("num_hidden_layers")):
        window = side if i in everywhere else c.num("window_size") or side
        yield from vision_layer(c, f"{prefix}layers.{i}.", window)
    yield from conv(f"{prefix}neck.conv1", (out, width, 1, 1), bias=False)
    yield from layernorm(f"{prefix}neck.layer_norm1", out)
    yield from conv(f"{prefix}neck.conv2", (out, out, 3, 3), bias=False)
    yield from layernorm(f"{prefix}neck.layer_norm2", out)


def prompts(c: Config, prefix: str) -> Iterator[Param]:
    width, channels = c.num("hidden_size"), c.num("mask_input_channels")
    few = channels // 4
    yield from conv(f"{prefix}mask_embed.conv1", (few, 1, 2, 2))
    yield from conv(f"{prefix}mask_embed.conv2", (channels, few, 2, 2))
    yield from conv(f"{prefix}mask_embed.conv3", (width, channels, 1, 1))
    yield from layernorm(f"{prefix}mask_embed.layer_norm1", few)
    yield from layernorm(f"{prefix}mask_embed.layer_norm2", 4 * few)
    points = range(c.layers("num_point_embeddings"))
    for name in ("no_mask_embed", "not_a_point_embed", *(f"point_embed.{i}" for i in points)):
        yield from embedding(f"{prefix}{name}", 1, width)


def attention(prefix: str, width: int, inner: int) -> Iterator[Param]:
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from affine(f"{prefix}.{name}", inner, width)
    yield from affine(f"{prefix}.out_proj", width, inner)


def two_way(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the mask decoder's transformer: tokens attend to each other and the image, the image to
    the tokens."""
    width, inner = c.num("hidden_size"), c.num("mlp_dim")
    narrow = width // max(1, c.num("attention_downsample_rate"))
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}layers.{i}."
        yield from attention(f"{path}self_attn", width, width)
        yield from attention(f"{path}cross_attn_token_to_image", width, narrow)
        yield from attention(f"{path}cross_attn_image_to_token", width, narrow)
        yield from affine(f"{path}mlp.lin1", inner, width)
        yield from affine(f"{path}mlp.lin2", width, inner)
        for j in range(1, 5):
            yield from layernorm(f"{path}layer_norm{j}", width)
    yield from attention(f"{prefix}final_attn_token_to_image", width, narrow)
    yield from layernorm(f"{prefix}layer_norm_final_attn", width)


def feed_forward(prefix: str, sizes: tuple[int, int, int], depth: int) -> Iterator[Param]:
    into, inner, out = sizes
    yield from affine(f"{prefix}proj_in", inner, into)
    for i in range(depth - 2):
        yield from affine(f"{prefix}layers.{i}", inner, inner)
    yield from affine(f"{prefix}proj_out", out, inner)


def masks(c: Config, prefix: str) -> Iterator[Param]:
    width, count = c.num("hidden_size"), c.layers("num_multimask_outputs") + 1
    yield from embedding(f"{prefix}iou_token", 1, width)
    yield from embedding(f"{prefix}mask_tokens", count, width)
    yield from two_way(c, f"{prefix}transformer.")
    for i, (into, out) in enumerate(((width, width // 4), (width // 4, width // 8)), 1):
        yield Param(f"{prefix}upscale_conv{i}.weight", (into, out, 2, 2), "conv")  # transposed
        yield Param(f"{prefix}upscale_conv{i}.bias", (out,), "bias")
    yield from layernorm(f"{prefix}upscale_layer_norm", width // 4)
    for i in range(count):
        path = f"{prefix}output_hypernetworks_mlps.{i}."
        yield from feed_forward(path, (width, width, width // 8), 3)
    sizes = (width, c.num("iou_head_hidden_dim"), count)
    yield from feed_forward(f"{prefix}iou_prediction_head.", sizes, c.layers("iou_head_depth"))


def sam(c: Config, prefix: str) -> Iterator[Param]:
    tower = c.sub("vision_config")
    directions = tower.num("num_pos_feats", default=tower.num("output_channels") // 2)
    table = Param(f"{prefix}{TABLE}", (2, directions), "other")
    yield table
    yield from vision(tower, f"{prefix}vision_encoder.")
    path = f"{prefix}prompt_encoder."
    yield table._replace(name=f"{path}shared_embedding.positional_embedding", tied=table.name)
    yield from prompts(c.sub("prompt_encoder_config"), path)
    decoder = c.sub("mask_decoder_config")
    yield from masks(decoder, f"{prefix}mask_decoder.")


def vision_model(c: Config, prefix: str) -> Iterator[Param]:
    yield from vision(c, f"{prefix}vision_encoder.")


SAM = Family(
    body=sam,
    cls="SamModel",
    blocks=("vision_encoder.layers.*",),
    parts=(
        ("", "mask decoder"),
        ("vision_encoder.", "vision tower"),
        ("shared_image_embedding.", "vision tower"),
    ),
)
SAM_VISION = Family(
    body=vision_model,
    cls="SamVisionModel",
    heads={"Encoder": nothing},
    blocks=("vision_encoder.layers.*",),
)

TYPES = {
    "sam": ModelType(SAM, no_cache="image", sees=Sight(images.native), encoder="vision_config"),
    "sam_vision_model": ModelType(SAM_VISION, no_cache="image"),
}

"""Gemma 4 whole: its towers, and the edition that has none.

Gemma 4's towers: an encoder for images, a Conformer for sound, both optional.

    image: patches through one Linear, a table of positions for each axis, layers with four
    RMSNorms and norms on queries and keys; sound: two strided convolutions, then layers of
    half MLP, chunked attention, convolution, half MLP

Linears that clip their input and output hold four bounds each, as buffers of the checkpoint.
Source: transformers 5.23 models/gemma4/modeling_gemma4.py.

Gemma 4 without towers: patches and waves go through a projection into the language model.

    image    48 x 48 pixels: LayerNorm, Linear, LayerNorm, a table of positions for each axis,
             LayerNorm, then the same Linear as a sound
    sound    640 samples of the wave through one Linear

Both are optional. Source: transformers 5.23 models/gemma4_unified/
{configuration,modeling}_gemma4_unified.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    conv,
    layer_norm,
    linear,
    norm,
)
from weighbridge.models.arch.compose import Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images, sounds
from weighbridge.models.arch.model_types import (
    Hearing,
    ModelType,
    Sight,
)

TEXT = Inner(path="language_model.")
VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower", optional=True)
AUDIO = Inner(path="audio_tower.", config="audio_config", label="audio tower", optional=True)
BOUNDS = ("input_min", "input_max", "output_min", "output_max")
NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def vision_linears(c: Config, prefix: str) -> Iterator[tuple[str, int, int]]:
    """Yield (path, outputs, inputs) of the clippable Linears of one vision layer."""
    width, inner, size = c.num("hidden_size"), c.num("intermediate_size"), c.num("head_dim")
    heads, kv_heads = c.num("num_attention_heads"), c.num("num_key_value_heads")
    yield f"{prefix}self_attn.q_proj", heads * size, width
    yield f"{prefix}self_attn.k_proj", kv_heads * size, width
    yield f"{prefix}self_attn.v_proj", kv_heads * size, width
    yield f"{prefix}self_attn.o_proj", width, heads * size
    yield f"{prefix}mlp.gate_proj", inner, width
    yield f"{prefix}mlp.up_proj", inner, width
    yield f"{prefix}mlp.down_proj", width, inner


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from linear(f"{prefix}patch_embedder.input_proj", width, 3 * c.num("patch_size") ** 2)
    table = (2, c.num("position_embedding_size"), width)
    yield Param(f"{prefix}patch_embedder.position_embedding_table", table, "other")
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}encoder.layers.{i}."
        for name, outputs, inputs in vision_linears(c, path):
            yield from linear(f"{name}.linear", outputs, inputs)
        yield from norm(f"{path}self_attn.q_norm", c.num("head_dim"))
        yield from norm(f"{path}self_attn.k_norm", c.num("head_dim"))
        for name in NORMS:
            yield from norm(f"{path}{name}", width)


def bounds(paths: Iterator[tuple[str, int, int]]) -> Iterator[Buffer]:
    for path, _, _ in paths:
        for name in BOUNDS:
            yield Buffer(f"{path}.{name}", (), "", persistent=True)


def vision_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{prefix}encoder.rotary_emb.{name}", (c.num("head_dim") // 4,), "float32")
    for name in ("std_bias", "std_scale") if c.flag("standardize") else ():
        yield Buffer(f"{prefix}{name}", (c.num("hidden_size"),), "", persistent=True)
    for i in range(c.layers("num_hidden_layers")) if c.flag("use_clipped_linears") else ():
        yield from bounds(vision_linears(c, f"{prefix}encoder.layers.{i}."))


def audio_linears(c: Config, prefix: str) -> Iterator[tuple[str, int, int]]:
    width = c.num("hidden_size")
    for half in ("feed_forward1", "feed_forward2"):
        yield f"{prefix}{half}.ffw_layer_1", 4 * width, width
        yield f"{prefix}{half}.ffw_layer_2", width, 4 * width
    for name in ("q_proj", "k_proj", "v_proj", "post"):
        yield f"{prefix}self_attn.{name}", width, width
    yield f"{prefix}lconv1d.linear_start", 2 * width, width
    yield f"{prefix}lconv1d.linear_end", width, width


def audio_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, kernel = c.num("hidden_size"), c.num("conv_kernel_size")
    for path, outputs, inputs in audio_linears(c, prefix):
        yield from linear(f"{path}.linear", outputs, inputs)
    yield from linear(f"{prefix}self_attn.relative_k_proj", width, width)
    size = width // max(1, c.num("num_attention_heads"))
    yield Param(f"{prefix}self_attn.per_dim_scale", (size,), "other")
    yield from conv(f"{prefix}lconv1d.depthwise_conv1d", (width, 1, kernel), bias=False)
    for name in ("lconv1d.pre_layer_norm", "lconv1d.conv_norm", "norm_pre_attn"):
        yield from norm(f"{prefix}{name}", width)
    for name in ("norm_post_attn", "norm_out"):
        yield from norm(f"{prefix}{name}", width)
    for half in ("feed_forward1", "feed_forward2"):
        yield from norm(f"{prefix}{half}.pre_layer_norm", width)
        yield from norm(f"{prefix}{half}.post_layer_norm", width)


def channels(c: Config) -> tuple[int, ...]:
    return c.per_layer("subsampling_conv_channels", count=2)


def audio(c: Config, prefix: str) -> Iterator[Param]:
    width, (first, second) = c.num("hidden_size"), channels(c)
    path = f"{prefix}subsample_conv_projection."
    for i, (into, out) in enumerate(((1, first), (first, second))):
        yield from conv(f"{path}layer{i}.conv", (out, into, 3, 3), bias=False)
        yield from norm(f"{path}layer{i}.norm", out)
    yield from linear(f"{path}input_proj_linear", width, first // 4 * second)
    for i in range(c.layers("num_hidden_layers")):
        yield from audio_layer(c, f"{prefix}layers.{i}.")
    yield from affine(f"{prefix}output_proj", c.num("output_proj_dims"), width)


def audio_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}rel_pos_enc.inv_timescales", (1, 1, c.num("hidden_size") // 2), "")
    for i in range(c.layers("num_hidden_layers")):
        yield Buffer(f"{prefix}layers.{i}.self_attn.softcap", (), "")
        if c.enabled("use_clipped_linears"):
            yield from bounds(audio_linears(c, f"{prefix}layers.{i}."))


def embedders(c: Config, prefix: str) -> Iterator[Param]:
    out = nested(c, TEXT).num("hidden_size")
    for name, part in (("embed_vision", VISION), ("embed_audio", AUDIO)):
        if c.has(part.config):
            tower = nested(c, part)
            into = tower.num("output_proj_dims", "hidden_size")
            yield from linear(f"{prefix}{name}.embedding_projection", out, into)


GEMMA4_VISION = Family(
    body=vision,
    cls="Gemma4VisionModel",
    buffers=vision_buffers,
    blocks=("patch_embedder", "encoder.layers.*"),
)
GEMMA4_AUDIO = Family(body=audio, cls="Gemma4AudioModel", buffers=audio_buffers)
GEMMA4 = composite(
    TEXT,
    VISION,
    AUDIO,
    own=embedders,
    projectors=("embed_vision.", "embed_audio."),
    cls="Gemma4ForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
)


COLOURS = 3


def gemma4_unified_embedders(c: Config, prefix: str) -> Iterator[Param]:
    width = nested(c, TEXT).num("hidden_size")
    if c.has("vision_config"):
        yield from patches(c.sub("vision_config"), f"{prefix}vision_embedder.")
        projected = c.sub("vision_config").num("output_proj_dims")
        yield from linear(f"{prefix}embed_vision.embedding_projection", width, projected)
    if c.has("audio_config"):
        samples = c.sub("audio_config").num("audio_embed_dim")
        yield from linear(f"{prefix}embed_audio.embedding_projection", width, samples)


def patches(c: Config, prefix: str) -> Iterator[Param]:
    side = c.num("patch_size") * c.num("pooling_kernel_size")
    inner = c.num("mm_embed_dim")
    yield from layer_norm(f"{prefix}patch_ln1", COLOURS * side**2)
    yield from affine(f"{prefix}patch_dense", inner, COLOURS * side**2)
    yield from layer_norm(f"{prefix}patch_ln2", inner)
    table = (c.num("mm_posemb_size"), 2, inner)
    yield Param(f"{prefix}pos_embedding", table, "other")
    yield from layer_norm(f"{prefix}pos_norm", inner)


GEMMA4_UNIFIED = composite(
    TEXT,
    own=gemma4_unified_embedders,
    projectors=("vision_embedder.", "embed_vision.", "embed_audio."),
    cls="Gemma4UnifiedForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
)


TYPES = {
    "gemma4": ModelType(
        GEMMA4, language="text_config", sees=Sight(images.gemma4), hears=Hearing(sounds.gemma4)
    ),
    "gemma4_audio": ModelType(GEMMA4_AUDIO, no_cache="audio"),
    "gemma4_vision": ModelType(GEMMA4_VISION, no_cache="image"),
    "gemma4_unified": ModelType(GEMMA4_UNIFIED, language="text_config"),
}

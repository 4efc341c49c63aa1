"""Kimi-VL and Kimi-K2.5: MoonViT before a DeepSeek-V3-like language model.

    MoonViT: patches 14 x 14, learned positions 64 x 64, L blocks of (wqkv, wo; fc0, fc1; two
    LayerNorms), LayerNorm; 2 x 2 patches become one in the projector

Sources: transformers 5.23 models/kimi_k25/modeling_kimi_k25.py and conversion_mapping.py;
moonshotai/Kimi-VL-A3B-Instruct modeling_kimi_vl.py. The names of MoonViT are checked against the
published index of nvidia/LocateAnything-3B, which has the same tower.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear
from weighbridge.arch.compose import Inner, composite, nested
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import MlxFacts, ModelType, SglangFacts, Sight
from weighbridge.arch.vision import layernorm, nothing, patch_shape

LANGUAGE = Inner(
    path="language_model.",
    config="text_config",
    label="language model",
    head="ForCausalLM",
)
K25_VISION = Inner(
    path="vision_tower.",
    config="vision_config",
    label="vision tower",
)
MOONVIT_PART = Inner(path="vision_tower.", config="vision_config", label="vision tower")


# Kimi-K2.5's own code prefixes the keys of its tower with "vt_" and "mm_".


def width_of(c: Config) -> int:
    return c.num("hidden_size", "vt_hidden_size", default=1152)


def moonvit(c: Config, prefix: str) -> Iterator[Param]:
    width = width_of(c)
    inner = c.num("intermediate_size", "vt_intermediate_size", default=4304)
    rows = c.num("init_pos_emb_height", "pos_emb_height", default=64)
    columns = c.num("init_pos_emb_width", "pos_emb_width", default=64)
    yield from conv(f"{prefix}patch_embed.proj", patch_shape(c, width))
    yield Param(f"{prefix}patch_embed.pos_emb.weight", (rows, columns, width), "other")
    for i in range(c.layers("num_hidden_layers", "vt_num_hidden_layers", default=27)):
        path = f"{prefix}encoder.blocks.{i}."
        yield from layernorm(f"{path}norm0", width)
        yield from layernorm(f"{path}norm1", width)
        yield from linear(f"{path}wqkv", 3 * width, width, bias=True)
        yield from linear(f"{path}wo", width, width, bias=True)
        yield from linear(f"{path}mlp.fc0", inner, width, bias=True)
        yield from linear(f"{path}mlp.fc1", width, inner, bias=True)
    yield from layernorm(f"{prefix}encoder.final_layernorm", width)


def k25_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    width = width_of(c)
    size = width // max(1, c.num("num_attention_heads", "vt_num_attention_heads", default=16))
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{prefix}rotary_emb.{name}", (size // 4,), "float32")
    frames = c.num("pos_emb_time", "init_pos_emb_time", default=4)
    name = f"{prefix}patch_embed.pos_emb.time_position_embeddings"
    yield Buffer(name, (frames + 1, width), "float32")  # the first row is for single images


def merged(c: Config) -> int:
    tall, wide = c.per_layer("merge_kernel_size", count=2, default=2)
    return tall * wide


def k25_projector(c: Config, prefix: str) -> Iterator[Param]:
    tower, text = nested(c, K25_VISION), nested(c, LANGUAGE)
    width = tower.num("mm_hidden_size", default=width_of(tower))
    into = width * merged(tower)
    yield from layernorm(f"{prefix}mm_projector.pre_norm", width)
    yield from linear(f"{prefix}mm_projector.proj.0", into, into, bias=True)
    yield from linear(f"{prefix}mm_projector.proj.2", text.num("hidden_size"), into, bias=True)


def vl_projector(c: Config, prefix: str) -> Iterator[Param]:
    tower, text = nested(c, MOONVIT_PART), nested(c, LANGUAGE)
    width = width_of(tower)
    into = width * merged(tower)
    yield from layernorm(f"{prefix}multi_modal_projector.pre_norm", width)
    yield from linear(f"{prefix}multi_modal_projector.linear_1", into, into, bias=True)
    out = text.num("hidden_size")
    yield from linear(f"{prefix}multi_modal_projector.linear_2", out, into, bias=True)


MOONVIT = Family(body=moonvit, cls="MoonVitPretrainedModel", blocks=("encoder.blocks.*",))
KIMI_K25_VISION = Family(
    body=moonvit,
    cls="Kimi_K25VisionModel",
    buffers=k25_buffers,
    blocks=("encoder.blocks.*",),
)
KIMI_K25 = composite(
    LANGUAGE,
    K25_VISION,
    own=k25_projector,
    projectors=("mm_projector.",),
    base="",
    cls="KimiK25ForConditionalGeneration",
    stems=("Kimi",),
    heads={"ForConditionalGeneration": nothing},
)
KIMI_VL = composite(
    LANGUAGE,
    MOONVIT_PART,
    own=vl_projector,
    projectors=("multi_modal_projector.",),
    base="",
    cls="KimiVLForConditionalGeneration",
    heads={"ForConditionalGeneration": nothing},
)

TYPES = {
    "kimi_k25": ModelType(
        KIMI_K25,
        language="text_config",
        sees=Sight(images.to_16384),
        sglang=SglangFacts(prefill_graphs="towers"),
        mlx=MlxFacts(has_class=True),
    ),
    "kimi_k25_vision": ModelType(KIMI_K25_VISION, no_cache="image"),
    "kimi_vl": ModelType(
        KIMI_VL,
        language="text_config",
        holds={"text_config": "deepseek_v3", "vision_config": "moonvit"},
        sees=Sight(images.to_4096),
        mlx=MlxFacts(has_class=True),
    ),
    "moonvit": ModelType(MOONVIT, no_cache="image"),
}

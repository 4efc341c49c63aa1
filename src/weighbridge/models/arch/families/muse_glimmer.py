"""Muse Glimmer: grouped queries with a gate as wide as they are, four norms a layer, and a tower.

    text      three layers of four see a window; queries and keys are normed without a weight
    tower     patches through one Linear, a table of positions, layers with two LayerNorms
    between   four patches side by side through two Linears, then one to the width of the text

Source: transformers 5.23 models/muse_glimmer/{modeling,configuration,image_processing}_*.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Buffer, Family, Param, affine, linear
from weighbridge.models.arch.compose import TEXT, Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    alike,
    gated,
    gqa,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import grouped
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.rotary import frequencies, rotary
from weighbridge.models.arch.vision import layernorm
from weighbridge.models.arch.windows import layer_kinds, period

NORMS = (*BEFORE, "pre_feedforward_layernorm", "post_feedforward_layernorm")
VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower")
TOKEN = 28  # pixels per side of the square that becomes one token
MOST = 4096  # most tokens of an image


def attention(c: Config) -> Submodule:
    mixer, width, bias = grouped(c), c.num("hidden_size"), c.flag("attention_bias")
    usual = gqa("self_attn.", width, mixer, bias=(bias, bias))
    gate = linear("self_attn.gate_proj", mixer.heads * mixer.key_dim, width, role="by_head")
    return submodule(usual.params, gate, mixer=mixer)


def text(c: Config) -> Decoder:
    c.skip("layer_rope_theta", "query_pre_attn_scalar")

    def layer() -> Submodules:
        width = c.num("hidden_size")
        feed = gated("mlp", width, c.num("intermediate_size"))
        return (attention(c), feed, normed(width, *NORMS))

    return tree(c, alike(c, layer), kinds=layer_kinds)


def tower(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    patch = c.num("patch_temporal") * 3 * c.num("patch_size") ** 2
    table = (c.num("pos_emb_height") * c.num("pos_emb_width"), width)
    yield from linear(f"{prefix}patch_embedder.patch_embedding", width, patch)
    yield Param(f"{prefix}patch_embedder.position_embedding_table.weight", table, "embedding")
    yield from layernorm(f"{prefix}ln_pre", width)
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}layers.{i}."
        for name in ("norm1", "norm2"):
            yield from layernorm(f"{path}{name}", width)
        for name in ("proj", "q_proj", "k_proj", "v_proj"):
            yield from affine(f"{path}attn.{name}", width, width)
        yield from affine(f"{path}mlp.fc1", inner, width)
        yield from affine(f"{path}mlp.fc2", width, inner)
    yield from layernorm(f"{prefix}ln_post", width)


def tower_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    yield from frequencies(f"{prefix}rotary_emb.", size // 2)


def adapter(c: Config, prefix: str) -> Iterator[Param]:
    inner, out = c.num("projector_hidden_size"), nested(c, TEXT).num("hidden_size")
    yield from linear(f"{prefix}vision_adapter.fc1", inner, c.num("out_hidden_size"))
    yield from linear(f"{prefix}vision_adapter.fc2", inner, inner)
    yield from linear(f"{prefix}vision_projection", out, inner)


TYPES = {
    "muse_glimmer_text": ModelType(
        DecoderFamily(tree=text, cls="MuseGlimmerForCausalLM", buffers=rotary),
        windows=period(4),
    ),
    "muse_glimmer_vision": ModelType(
        Family(body=tower, cls="MuseGlimmerVisionModel", buffers=tower_buffers), no_cache="image"
    ),
    "muse_glimmer": ModelType(
        composite(
            TEXT,
            VISION,
            own=adapter,
            projectors=("vision_adapter.", "vision_projection."),
            cls="MuseGlimmerForConditionalGeneration",
            heads={"ForConditionalGeneration": text_head()},
        ),
        language="text_config",
        sees=Sight(images.merged(TOKEN**2, MOST * TOKEN**2)),
    ),
}

"""Llamas that see: Llama 3.2 Vision and Llama 4.

Llama 3.2 Vision: a tower with tiles, and a Llama with layers that look at the images.

    vision: positions per patch and per tile and aspect ratio (1 to 8, 0 is padding), L local
    and G gated global layers; the output joins the final state with those of chosen layers
    text: of L layers, those in `cross_attention_layers` attend to the images alone

Embeddings have 8 rows more than the head: special tokens that are never predicted.
Source: transformers 5.23 models/mllama/modeling_mllama.py.

Llama 4 with its tower: patches unfolded into a Linear, four of them shuffled into one.

    adapter: intermediate size -> projector input, projector output squared, then D

Source: transformers 5.23 models/llama4/modeling_llama4.py.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    conv,
    embedding,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.models.arch.compose import SIDE_BY_SIDE, TEXT, Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import below
from weighbridge.models.arch.families.clip import patch_kernel, side
from weighbridge.models.arch.families.llama import LlamaSwitches, attention, rotary
from weighbridge.models.arch.heads import causal_lm
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import (
    ModelType,
    Sight,
)
from weighbridge.models.arch.vision import layernorm, nothing

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Layer


RATIOS = 8  # len(MllamaVisionConfig.supported_aspect_ratios)
CROSS = (3, 8, 13, 18, 23, 28, 33, 38)  # MllamaTextConfig.__post_init__
VISION = Inner(path="vision_model.", config="vision_config", label="vision tower")


def vision_layer(c: Config, prefix: str, *, gated: bool) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield from linear(f"{prefix}self_attn.{name}", width, width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)
    yield from layernorm(f"{prefix}input_layernorm", width)
    yield from layernorm(f"{prefix}post_attention_layernorm", width)
    for name in ("gate_attn", "gate_ffn") if gated else ():
        yield Param(f"{prefix}{name}", (1,), "other")


def positions(c: Config, prefix: str) -> Iterator[Param]:
    width, tiles = c.num("hidden_size"), c.num("max_num_tiles")
    rows = len(c.many("supported_aspect_ratios")) or RATIOS
    places = side(c) ** 2 + 1
    yield Param(f"{prefix}gated_positional_embedding.gate", (1,), "other")
    yield Param(f"{prefix}gated_positional_embedding.embedding", (places, width), "other")
    whole = f"{prefix}gated_positional_embedding.tile_embedding"
    yield from embedding(whole, rows + 1, tiles * places * width)
    for name in ("pre", "post"):
        path = f"{prefix}{name}_tile_positional_embedding"
        yield from embedding(f"{path}.embedding", rows + 1, tiles * width)
        yield Param(f"{path}.gate", (1,), "other")


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from conv(f"{prefix}patch_embedding", patch_kernel(c, width), bias=False)
    yield Param(f"{prefix}class_embedding", (width,), "other")
    yield from positions(c, prefix)
    yield from layernorm(f"{prefix}layernorm_pre", width)
    yield from layernorm(f"{prefix}layernorm_post", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from vision_layer(c, f"{prefix}transformer.layers.{i}.", gated=False)
    for i in range(c.layers("num_global_layers")):
        yield from vision_layer(c, f"{prefix}global_transformer.layers.{i}.", gated=True)


def text_layer(c: Config, prefix: str, *, cross: bool) -> Iterator[Param]:
    width = c.num("hidden_size")
    if cross:
        yield from below(prefix, attention(c, LlamaSwitches(qk_norm=True), "cross_attn."))
        yield Param(f"{prefix}cross_attn_attn_gate", (1,), "other")
        yield Param(f"{prefix}cross_attn_mlp_gate", (1,), "other")
    else:
        yield from below(prefix, attention(c, LlamaSwitches()))
    yield from gated_mlp(f"{prefix}mlp", width, c.num("intermediate_size"))
    yield from norm(f"{prefix}input_layernorm", width)
    yield from norm(f"{prefix}post_attention_layernorm", width)


def text(c: Config, prefix: str) -> Iterator[Param]:
    width, cross = c.num("hidden_size"), c.nums("cross_attention_layers") or CROSS
    yield from embedding(f"{prefix}embed_tokens", c.num("vocab_size") + 8, width)
    for i in range(c.layers("num_hidden_layers")):
        yield from text_layer(c, f"{prefix}layers.{i}.", cross=i in cross)
    yield from norm(f"{prefix}norm", width)


def projector(c: Config, prefix: str) -> Iterator[Param]:
    into, out = nested(c, VISION).num("vision_output_dim"), nested(c, TEXT).num("hidden_size")
    yield from affine(f"{prefix}multi_modal_projector", out, into)


MLLAMA_TEXT = Family(
    body=text, cls="MllamaForCausalLM", heads={"ForCausalLM": causal_lm}, buffers=rotary
)
MLLAMA_VISION = Family(
    body=vision,
    cls="MllamaVisionModel",
    blocks=("transformer.layers.*", "global_transformer.layers.*"),
)
MLLAMA = composite(
    TEXT,
    VISION,
    own=projector,
    projectors=("multi_modal_projector.",),
    cls="MllamaForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head()},
    renames=SIDE_BY_SIDE,
)


def whole_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the layers of a model with its tower. An image has all its tiles, used or not, each
    with a class token."""
    tower = c.sub("vision_config")
    length = tower.num("max_num_tiles") * (side(tower) ** 2 + 1)
    return text_layers(c.sub("text_config"), length)


def text_layers(c: Config, length: int | None = None) -> "tuple[Layer, ...]":
    """Return the text model's layers: some only cross-attend to an image's `length` positions, the
    others attend to the text."""
    from weighbridge.models.arch.cache_layers import attention, grouped, over
    from weighbridge.models.arch.mixers import Layer

    cross = c.nums("cross_attention_layers") or CROSS
    itself = attention(c, grouped(c))
    image = over(itself, "image", length)
    count = c.layers("num_hidden_layers")
    return tuple(Layer(mixers=(image if i in cross else itself,)) for i in range(count))


LLAMA4_TOWER = Inner(path="vision_model.", config="vision_config", label="vision tower")
LANGUAGE = Inner(path="language_model.", head="ForCausalLM")


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield from affine(f"{prefix}self_attn.{name}", width, width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)
    yield from layernorm(f"{prefix}input_layernorm", width)
    yield from layernorm(f"{prefix}post_attention_layernorm", width)


def llama4_vision(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    pixels = c.num("num_channels", default=3) * c.num("patch_size") ** 2
    yield from linear(f"{prefix}patch_embedding.linear", width, pixels)
    yield Param(f"{prefix}class_embedding", (width,), "other")
    yield Param(f"{prefix}positional_embedding_vlm", (side(c) ** 2 + 1, width), "other")
    yield from layernorm(f"{prefix}layernorm_pre", width)
    yield from layernorm(f"{prefix}layernorm_post", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}model.layers.{i}.")
    out = c.num("projector_output_dim")
    into = c.num("intermediate_size")
    yield from linear(f"{prefix}vision_adapter.mlp.fc1", c.num("projector_input_dim"), into)
    yield from linear(f"{prefix}vision_adapter.mlp.fc2", out, out)


def rotations(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary buffer: one complex number per patch and pair of values."""
    half = c.num("hidden_size") // max(1, c.num("num_attention_heads")) // 2
    shape = (side(c) ** 2 + 1, 1, half)
    yield Buffer(f"{prefix}rotary_embedding.freqs_ci", shape, "complex64")


def llama4_projector(c: Config, prefix: str) -> Iterator[Param]:
    into, out = (
        nested(c, LLAMA4_TOWER).num("vision_output_dim"),
        nested(c, TEXT).num("hidden_size"),
    )
    yield from linear(f"{prefix}multi_modal_projector.linear_1", out, into)


LLAMA4_VISION = Family(
    body=llama4_vision, cls="Llama4VisionModel", buffers=rotations, blocks=("model.layers.*",)
)
LLAMA4 = composite(
    LANGUAGE,
    LLAMA4_TOWER,
    own=llama4_projector,
    projectors=("multi_modal_projector.",),
    base="",
    cls="Llama4ForConditionalGeneration",
    heads={"ForConditionalGeneration": nothing},
)


TYPES = {
    "mllama": ModelType(
        MLLAMA, layers=whole_layers, sees=Sight(images.mllama), encoder="vision_config", gguf="none"
    ),
    "mllama_text_model": ModelType(MLLAMA_TEXT, layers=text_layers, gguf="none"),
    "mllama_vision_model": ModelType(MLLAMA_VISION, no_cache="image", beside_patches=1),
    "llama4": ModelType(
        LLAMA4,
        language="text_config",
        sees=Sight(images.llama4),
        computes=("every_fourth_unrotated",),
    ),
    "llama4_vision_model": ModelType(LLAMA4_VISION, no_cache="image", beside_patches=1),
}

"""Llama 4 with its tower: patches unfolded into a Linear, four of them shuffled into one.

    adapter: intermediate size -> projector input, projector output squared, then D

Source: transformers 5.23 models/llama4/modeling_llama4.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, linear
from weighbridge.arch.clip import side
from weighbridge.arch.compose import TEXT, Inner, composite, nested
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import (
    LlamaCppFacts,
    MlxFacts,
    ModelType,
    SglangFacts,
    Sight,
    TrainingFacts,
)
from weighbridge.arch.vision import layernorm, nothing

VISION = Inner(path="vision_model.", config="vision_config", label="vision tower")
LANGUAGE = Inner(
    path="language_model.", config="text_config", label="language model", head="ForCausalLM"
)


def layer(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield from linear(f"{at}self_attn.{name}", width, width, bias=True)
    yield from linear(f"{at}mlp.fc1", inner, width, bias=True)
    yield from linear(f"{at}mlp.fc2", width, inner, bias=True)
    yield from layernorm(f"{at}input_layernorm", width)
    yield from layernorm(f"{at}post_attention_layernorm", width)


def vision(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    pixels = c.num("num_channels", default=3) * c.num("patch_size") ** 2
    yield from linear(f"{at}patch_embedding.linear", width, pixels)
    yield Param(f"{at}class_embedding", (width,), "other")
    yield Param(f"{at}positional_embedding_vlm", (side(c) ** 2 + 1, width), "other")
    yield from layernorm(f"{at}layernorm_pre", width)
    yield from layernorm(f"{at}layernorm_post", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{at}model.layers.{i}.")
    out = c.num("projector_output_dim")
    into = c.num("intermediate_size")
    yield from linear(f"{at}vision_adapter.mlp.fc1", c.num("projector_input_dim"), into)
    yield from linear(f"{at}vision_adapter.mlp.fc2", out, out)


def rotations(c: Config, at: str) -> Iterator[Buffer]:
    """One complex number a patch and pair of values."""
    half = c.num("hidden_size") // max(1, c.num("num_attention_heads")) // 2
    shape = (side(c) ** 2 + 1, 1, half)
    yield Buffer(f"{at}rotary_embedding.freqs_ci", shape, "complex64")


def projector(c: Config, at: str) -> Iterator[Param]:
    into, out = nested(c, VISION).num("vision_output_dim"), nested(c, TEXT).num("hidden_size")
    yield from linear(f"{at}multi_modal_projector.linear_1", out, into)


LLAMA4_VISION = Family(
    body=vision, cls="Llama4VisionModel", buffers=rotations, blocks=("model.layers.*",)
)
LLAMA4 = composite(
    LANGUAGE,
    VISION,
    own=projector,
    projectors=("multi_modal_projector.",),
    base="",
    cls="Llama4ForConditionalGeneration",
    heads={"ForConditionalGeneration": nothing},
)

TYPES = {
    "llama4": ModelType(
        LLAMA4,
        language="text_config",
        sees=Sight(images.llama4),
        computes=("every_fourth_unrotated",),
        training=TrainingFacts(net="llama4.llama4", lora=("q_proj", "v_proj")),
        sglang=SglangFacts(windows=(0, 5, 8), attention=("triton", "fa3")),
        llama_cpp=LlamaCppFacts(windows=True),
        mlx=MlxFacts(has_class=True, own_caches=True, windows="always"),
    ),
    "llama4_vision_model": ModelType(LLAMA4_VISION, no_cache="image", beside_patches=1),
}

"""Ovis 2: the tower names visual words, which have an embedding table of their own.

    tower: AIMv2 (gated MLPs, RMSNorms), then a head over the visual vocabulary

Source: transformers 5.23 models/ovis2/modeling_ovis2.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import (
    Buffer,
    Family,
    Param,
    conv,
    embedding,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.arch.compose import Inner, composite, nested
from weighbridge.arch.config import Config
from weighbridge.arch.families.clip import patch_kernel, side
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight
from weighbridge.arch.vision import layernorm

TEXT = Inner(path="language_model.", config="text_config", label="language model")
VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower")


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield from linear(f"{prefix}attention.{name}", width, width, bias=c.flag("qkv_bias"))
    yield from gated_mlp(f"{prefix}ffn", width, inner, bias=c.flag("mlp_bias"))
    yield from norm(f"{prefix}rms_norm1", width)
    yield from norm(f"{prefix}rms_norm2", width)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width, path = c.num("hidden_size"), f"{prefix}transformer."
    words = c.num("vocab_size") - c.num("num_visual_indicator_tokens")
    if words < 1:
        raise c.error("vocab_size", "must be larger than num_visual_indicator_tokens")
    yield from conv(f"{path}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{path}embeddings.position_embedding", side(c) ** 2, width)
    yield from norm(f"{path}embeddings.rms_norm", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{path}encoder.layers.{i}.")
    yield from norm(f"{path}rms_norm", width)
    yield from linear(f"{prefix}head_linear", words, width * c.num("hidden_stride") ** 2)
    yield from layernorm(f"{prefix}head_norm", words)


def ids(c: Config, prefix: str) -> Iterator[Buffer]:
    name = f"{prefix}transformer.embeddings.position_ids"
    yield Buffer(name, (1, side(c) ** 2), "int64")


def table(c: Config, prefix: str) -> Iterator[Param]:
    rows = nested(c, VISION).num("vocab_size")
    yield from embedding(f"{prefix}visual_embeddings_table", rows, c.num("hidden_size"))


def head(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), c.num("hidden_size"))


OVIS2_VISION = Family(
    body=vision,
    cls="Ovis2VisionModel",
    buffers=ids,
    blocks=("transformer.encoder.layers.*.attention",),
)
OVIS2 = composite(
    TEXT,
    VISION,
    own=table,
    projectors=("visual_embeddings_table.",),
    cls="Ovis2ForConditionalGeneration",
    heads={"ForConditionalGeneration": head},
)

TYPES = {
    "ovis2": ModelType(OVIS2, language="text_config", sees=Sight(images.ovis2)),
    "ovis2_vision": ModelType(OVIS2_VISION, no_cache="image"),
}

"""Molmo: an OLMo- or Qwen-like decoder, a CLIP tower of 23 layers, pooling of 2 x 2 patches.

    att_proj and ff_proj are fused; `intermediate_size` counts gate and up together
    pooling: attention with a mean query over two layers' features (2 W); projector: gated MLP

The sizes of the tower are fixed in the code. Source: allenai/Molmo-7B-D-0924 modeling_molmo.py,
config_molmo.py; names checked against the index of reubzdubz/Molmo-7B-D-0924-NF4.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Family, Param, affine, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.vision import layernorm, nothing

# VisionBackboneConfig of modeling_molmo.py
WIDTH, INNER, LAYERS, PATCHES, PIXELS = 1024, 4096, 23, 24 * 24, 3 * 14 * 14
ADDED = 128  # additional_vocab_size


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), max(1, c.num("num_attention_heads"))
    size, inner = width // heads, c.num("intermediate_size")
    fused = width + 2 * size * c.num("num_key_value_heads", default=heads)
    yield from linear(f"{prefix}att_proj", fused, width, bias=c.flag("qkv_bias"))
    yield from linear(f"{prefix}attn_out", width, width)
    yield from linear(f"{prefix}ff_proj", inner, width)
    yield from linear(f"{prefix}ff_out", width, inner // 2)
    yield from norm(f"{prefix}attn_norm", width)
    yield from norm(f"{prefix}ff_norm", width)
    if c.flag("attention_layer_norm"):
        yield from norm(f"{prefix}q_norm", width)
        yield from norm(f"{prefix}k_norm", fused // 2 - width // 2)


def text(c: Config, prefix: str) -> Iterator[Param]:
    width, rows = c.num("hidden_size"), c.num("embedding_size", "vocab_size")
    yield Param(f"{prefix}wte.embedding", (rows, width), "embedding")
    yield Param(f"{prefix}wte.new_embedding", (ADDED, width), "embedding")
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}blocks.{i}.")
    yield from norm(f"{prefix}ln_f", width)
    if not c.flag("weight_tying"):
        yield from linear(f"{prefix}ff_out", rows, width)


def attention(prefix: str, into: int) -> Iterator[Param]:
    for name in ("wq", "wk", "wv"):
        yield from affine(f"{prefix}{name}", WIDTH, into)
    yield from affine(f"{prefix}wo", WIDTH, WIDTH)


def vision(prefix: str) -> Iterator[Param]:
    yield Param(f"{prefix}class_embedding", (WIDTH,), "other")
    yield Param(f"{prefix}positional_embedding", (PATCHES + 1, WIDTH), "other")
    yield from linear(f"{prefix}patch_embedding", WIDTH, PIXELS)
    yield from layernorm(f"{prefix}pre_ln", WIDTH)
    for i in range(LAYERS):
        path = f"{prefix}transformer.resblocks.{i}."
        yield from attention(f"{path}attention.", WIDTH)
        yield from affine(f"{path}feed_forward.w1", INNER, WIDTH)
        yield from affine(f"{path}feed_forward.w2", WIDTH, INNER)
        yield from layernorm(f"{path}attention_norm", WIDTH)
        yield from layernorm(f"{path}ffn_norm", WIDTH)


def molmo(c: Config, prefix: str) -> Iterator[Param]:
    width, inner, path = (
        c.num("hidden_size"),
        c.num("intermediate_size") // 2,
        f"{prefix}vision_backbone.",
    )
    yield from text(c, f"{prefix}transformer.")
    yield from vision(f"{path}image_vit.")
    yield from attention(f"{path}image_pooling_2d.", 2 * WIDTH)
    yield from linear(f"{path}image_projector.w1", inner, WIDTH)
    yield from linear(f"{path}image_projector.w2", width, inner)
    yield from linear(f"{path}image_projector.w3", inner, WIDTH)
    yield Param(f"{path}pad_embed", (2, 2 * WIDTH), "other")


MOLMO = Family(
    body=molmo,
    cls="MolmoForCausalLM",
    heads={"ForCausalLM": nothing},
    blocks=("transformer.blocks.*", "vision_backbone.image_vit.transformer.resblocks.*"),
    parts=(
        ("transformer.", "language model"),
        ("vision_backbone.", "projector"),
        ("vision_backbone.image_vit.", "vision tower"),
    ),
)

TYPES = {"molmo": ModelType(MOLMO, layers="usual")}

"""Molmo: an OLMo- or Qwen-like decoder, a CLIP tower of 23 layers, pooling of 2 x 2 patches.

    att_proj and ff_proj are fused; `intermediate_size` counts gate and up together
    pooling: attention with a mean query over two layers' features (2 W); projector: gated MLP

The sizes of the tower are fixed in the code. Source: allenai/Molmo-7B-D-0924 modeling_molmo.py,
config_molmo.py; names checked against the index of reubzdubz/Molmo-7B-D-0924-NF4.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.model_types import ModelType, VllmFacts
from weighbridge.arch.vision import layernorm, nothing

# VisionBackboneConfig of modeling_molmo.py
WIDTH, INNER, LAYERS, PATCHES, PIXELS = 1024, 4096, 23, 24 * 24, 3 * 14 * 14
ADDED = 128  # additional_vocab_size


def layer(c: Config, at: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), max(1, c.num("num_attention_heads"))
    size, inner = width // heads, c.num("intermediate_size")
    fused = width + 2 * size * c.num("num_key_value_heads", default=heads)
    yield from linear(f"{at}att_proj", fused, width, bias=c.flag("qkv_bias"))
    yield from linear(f"{at}attn_out", width, width)
    yield from linear(f"{at}ff_proj", inner, width)
    yield from linear(f"{at}ff_out", width, inner // 2)
    yield from norm(f"{at}attn_norm", width)
    yield from norm(f"{at}ff_norm", width)
    if c.flag("attention_layer_norm"):
        yield from norm(f"{at}q_norm", width)
        yield from norm(f"{at}k_norm", fused // 2 - width // 2)


def text(c: Config, at: str) -> Iterator[Param]:
    width, rows = c.num("hidden_size"), c.num("embedding_size", "vocab_size")
    yield Param(f"{at}wte.embedding", (rows, width), "embedding")
    yield Param(f"{at}wte.new_embedding", (ADDED, width), "embedding")
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{at}blocks.{i}.")
    yield from norm(f"{at}ln_f", width)
    if not c.flag("weight_tying"):
        yield from linear(f"{at}ff_out", rows, width)


def attention(at: str, into: int) -> Iterator[Param]:
    for name in ("wq", "wk", "wv"):
        yield from linear(f"{at}{name}", WIDTH, into, bias=True)
    yield from linear(f"{at}wo", WIDTH, WIDTH, bias=True)


def vision(at: str) -> Iterator[Param]:
    yield Param(f"{at}class_embedding", (WIDTH,), "other")
    yield Param(f"{at}positional_embedding", (PATCHES + 1, WIDTH), "other")
    yield from linear(f"{at}patch_embedding", WIDTH, PIXELS)
    yield from layernorm(f"{at}pre_ln", WIDTH)
    for i in range(LAYERS):
        path = f"{at}transformer.resblocks.{i}."
        yield from attention(f"{path}attention.", WIDTH)
        yield from linear(f"{path}feed_forward.w1", INNER, WIDTH, bias=True)
        yield from linear(f"{path}feed_forward.w2", WIDTH, INNER, bias=True)
        yield from layernorm(f"{path}attention_norm", WIDTH)
        yield from layernorm(f"{path}ffn_norm", WIDTH)


def molmo(c: Config, at: str) -> Iterator[Param]:
    width, inner, path = (
        c.num("hidden_size"),
        c.num("intermediate_size") // 2,
        f"{at}vision_backbone.",
    )
    yield from text(c, f"{at}transformer.")
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

TYPES = {
    "molmo": ModelType(MOLMO, layers="usual", vllm=VllmFacts(every_stage="both")),
}

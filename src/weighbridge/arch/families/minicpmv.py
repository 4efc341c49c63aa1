"""MiniCPM-V: a SigLIP tower, n learned queries that attend to it, a whole language model.

    resampler: query n x D, kv_proj D x W, nn.MultiheadAttention, three LayerNorms, proj D x D

The first two releases take their tower from timm and name it only; 2.5 and later describe it.
Which language model it is follows from `version`. Source: openbmb/MiniCPM-V, -V-2,
-Llama3-V-2_5 modeling_minicpmv.py and resampler.py; names checked against their indexes.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, embedding, linear
from weighbridge.arch.compose import Inner, buffers, nested, params
from weighbridge.arch.config import Config
from weighbridge.arch.families.clip import layers, patch_kernel, side
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight
from weighbridge.arch.vision import layernorm, nothing

if TYPE_CHECKING:
    from weighbridge.arch.mixers import Layer

# modeling_minicpmv.py of each release: the class of `self.llm`, which the table names
VERSIONS = ("", "2.0", "2.5", "2.6", "4.5")
# timm's vit_so400m_patch14_siglip: what `vision_encoder` of the first two releases names
SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
}


def language(c: Config) -> Inner:
    version = c.word("version")
    if version not in VERSIONS:
        known = ", ".join(sorted(v for v in VERSIONS if v))
        raise c.error(
            "version", f"is {version!r}; its language model is not known (known: {known})"
        )
    return Inner(
        path="llm.",
        config=version,
        label="language model",
        flat=True,
        head="ForCausalLM",
    )


def timm_block(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from layernorm(f"{prefix}norm1", width)
    yield from linear(f"{prefix}attn.qkv", 3 * width, width, bias=True)
    yield from linear(f"{prefix}attn.proj", width, width, bias=True)
    yield from layernorm(f"{prefix}norm2", width)
    yield from linear(f"{prefix}mlp.fc1", inner, width, bias=True)
    yield from linear(f"{prefix}mlp.fc2", width, inner, bias=True)


def timm_tower(c: Config, prefix: str) -> Iterator[Param]:
    """The name says which images it was trained on: as many positions as those have patches."""
    name = c.word("vision_encoder")
    found = re.match(r"vit_so400m_patch14_siglip_(\d+)", name)
    if not found:
        raise c.error("vision_encoder", f"is {name!r}; known: vit_so400m_patch14_siglip_384")
    tower = Config({**SO400M, "image_size": int(found[1])})
    width = tower.num("hidden_size")
    yield Param(f"{prefix}pos_embed", (1, side(tower) ** 2, width), "other")
    yield from conv(f"{prefix}patch_embed.proj", patch_kernel(tower, width))
    dropped = 1 if c.flag("drop_vision_last_layer", default=True) else 0
    for i in range(tower.num("num_hidden_layers") - dropped):
        yield from timm_block(tower, f"{prefix}blocks.{i}.")
    yield from layernorm(f"{prefix}norm", width)


def tower(c: Config, prefix: str) -> Iterator[Param]:
    vision = c.sub("vision_config")
    width = vision.num("hidden_size")
    dropped = 1 if c.flag("drop_vision_last_layer") else 0
    count = max(0, vision.layers("num_hidden_layers") - dropped)
    yield from conv(f"{prefix}embeddings.patch_embedding", patch_kernel(vision, width))
    yield from embedding(f"{prefix}embeddings.position_embedding", side(vision) ** 2, width)
    yield from layers(Config({**vision.raw, "num_hidden_layers": count}), prefix)
    yield from layernorm(f"{prefix}post_layernorm", width)


def resampler(c: Config, prefix: str, seen: int) -> Iterator[Param]:
    width, queries = nested(c, language(c)).num("hidden_size"), c.num("query_num")
    yield Param(f"{prefix}query", (queries, width), "other")
    if not c.has("vision_config"):
        yield Param(f"{prefix}pos_embed", (queries, width), "other")
    yield Param(f"{prefix}proj", (width, width), "other")
    yield from linear(f"{prefix}kv_proj", width, seen)
    yield Param(f"{prefix}attn.in_proj_weight", (3 * width, width), "other")
    yield Param(f"{prefix}attn.in_proj_bias", (3 * width,), "bias")
    yield from linear(f"{prefix}attn.out_proj", width, width, bias=True)
    for name in ("ln_q", "ln_kv", "ln_post"):
        yield from layernorm(f"{prefix}{name}", width)


def minicpmv(c: Config, prefix: str) -> Iterator[Param]:
    described = c.has("vision_config")
    seen = c.sub("vision_config").num("hidden_size") if described else SO400M["hidden_size"]
    yield from params(c, prefix, [language(c)])
    yield from (tower if described else timm_tower)(c, f"{prefix}vpm.")
    yield from resampler(c, f"{prefix}resampler.", seen)


def language_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from buffers(c, prefix, [language(c)])


MINICPMV = Family(
    body=minicpmv,
    base="",
    cls="MiniCPMV",
    heads={"MiniCPMV": nothing},
    buffers=language_buffers,
    blocks=("llm.model.layers.*", "vpm.blocks.*", "vpm.encoder.layers.*"),
    parts=(("llm.", "language model"), ("vpm.", "vision tower"), ("resampler.", "projector")),
)


def language_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the layers of the language model, which the `version` tells."""
    from weighbridge.arch.cache_layers import layers

    return layers(nested(c, language(c)))


TYPES = {
    "minicpmv": ModelType(
        MINICPMV,
        layers=language_layers,
        holds={
            "": "minicpm",
            "2.0": "minicpm",
            "2.5": "llama",
            "2.6": "qwen2",
            "4.5": "qwen3",
            "tower": "siglip_vision_model",
        },
        sees=Sight(images.minicpmv, in_code={**SO400M, "image_size": 448}),
    ),
}

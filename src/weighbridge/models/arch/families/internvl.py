"""InternVL, as transformers writes it (InternVL3-*-hf) and as its own code does (InternVL2).

    projector: LayerNorm and Linear over (1 / downsample)^2 merged patches, Linear D x D

Sources: transformers 5.23 models/internvl/modeling_internvl.py; OpenGVLab/InternVL2-2B
modeling_internvl_chat.py and modeling_intern_vit.py, names checked against its published index.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Family, Param, affine, conv, linear, norm
from weighbridge.models.arch.compose import (
    SIDE_BY_SIDE,
    TEXT,
    Inner,
    composite,
    either,
    nested,
    text_head,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import layernorm, patch_shape, patches

VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower")


def norm_of(c: Config, path: str, width: int) -> Iterator[Param]:
    yield from norm(path, width, bias=c.word("norm_type", default="layer_norm") == "layer_norm")


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from linear(f"{prefix}attention.{name}", width, width, bias=c.flag("attention_bias"))
    yield from affine(f"{prefix}attention.projection_layer", width, width)
    for name in ("q_norm", "k_norm") if c.flag("use_qk_norm") else ():
        yield from norm(f"{prefix}attention.{name}", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)
    yield from norm_of(c, f"{prefix}layernorm_before", width)
    yield from norm_of(c, f"{prefix}layernorm_after", width)
    yield Param(f"{prefix}lambda_1", (width,), "other")
    yield Param(f"{prefix}lambda_2", (width,), "other")


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield Param(f"{prefix}embeddings.cls_token", (1, 1, width), "other")
    if c.flag("use_mask_token"):
        yield Param(f"{prefix}embeddings.mask_token", (1, 1, width), "other")
    if c.enabled("use_absolute_position_embeddings"):
        shape = (1, patches(c) + 1, width)
        yield Param(f"{prefix}embeddings.position_embeddings", shape, "other")
    yield from conv(f"{prefix}embeddings.patch_embeddings.projection", patch_shape(c, width))
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}encoder.layer.{i}.")
    if not c.enabled("use_mean_pooling"):
        yield from layernorm(f"{prefix}layernorm", width)


def projector(c: Config, prefix: str) -> Iterator[Param]:
    path = f"{prefix}multi_modal_projector."
    into = nested(c, VISION).num("hidden_size") * merged(c)
    width = nested(c, TEXT).num("hidden_size")
    yield from layernorm(f"{path}layer_norm", into)
    yield from affine(f"{path}linear_1", width, into)
    yield from affine(f"{path}linear_2", width, width)


def merged(c: Config) -> int:
    """Return the number of patches merged into one: int(1 / downsample_ratio) squared."""
    ratio = c.ratio("downsample_ratio", default=0.5)
    if not ratio:
        raise c.error("downsample_ratio", "is.zero")
    return int(1 / ratio) ** 2


INTERNVL_VISION = Family(body=vision, cls="InternVLVisionModel", blocks=("encoder.layer.*",))
INTERNVL = composite(
    TEXT,
    VISION,
    own=projector,
    projectors=("multi_modal_projector.",),
    cls="InternVLForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head()},
    ties=either(default=True),
    renames=SIDE_BY_SIDE,
)

# The code that comes with InternVL2, 2.5 and 3: an InternViT, mlp1, a whole language model.

VISION_CHAT = Inner(path="vision_model.", config="vision_config", label="vision tower")
LLM = Inner(path="language_model.", config="llm_config", head="ForCausalLM")


def vit_norm(c: Config, path: str, width: int) -> Iterator[Param]:
    yield from norm(path, width, bias=c.word("norm_type", default="rms_norm") == "layer_norm")


def vit_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from linear(f"{prefix}attn.qkv", 3 * width, width, bias=c.flag("qkv_bias"))
    yield from affine(f"{prefix}attn.proj", width, width)
    for name in ("q_norm", "k_norm") if c.flag("qk_normalization") else ():
        yield from norm(f"{prefix}attn.{name}", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)
    yield from vit_norm(c, f"{prefix}norm1", width)
    yield from vit_norm(c, f"{prefix}norm2", width)
    yield Param(f"{prefix}ls1", (width,), "other")
    yield Param(f"{prefix}ls2", (width,), "other")


def intern_vit(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield Param(f"{prefix}embeddings.class_embedding", (1, 1, width), "other")
    yield from conv(f"{prefix}embeddings.patch_embedding", patch_shape(c, width))
    shape = (1, patches(c) + 1, width)
    yield Param(f"{prefix}embeddings.position_embedding", shape, "other")
    for i in range(c.layers("num_hidden_layers")):
        yield from vit_layer(c, f"{prefix}encoder.layers.{i}.")


def mlp1(c: Config, prefix: str) -> Iterator[Param]:
    into = nested(c, VISION_CHAT).num("hidden_size") * merged(c)
    width = nested(c, LLM).num("hidden_size")
    yield from layernorm(f"{prefix}mlp1.0", into)
    yield from affine(f"{prefix}mlp1.1", width, into)
    yield from affine(f"{prefix}mlp1.3", width, width)


INTERN_VIT = Family(body=intern_vit, cls="InternVisionModel", blocks=("encoder.layers.*",))
INTERNVL_CHAT = composite(
    LLM, VISION_CHAT, own=mlp1, projectors=("mlp1.",), cls="InternVLChatModel"
)

TYPES = {
    "internvl": ModelType(INTERNVL, language="text_config", sees=Sight(images.internvl)),
    "internvl_vision": ModelType(INTERNVL_VISION, no_cache="image", beside_patches=1),
    "intern_vit_6b": ModelType(INTERN_VIT, no_cache="image", beside_patches=1),
    "internvl_chat": ModelType(
        INTERNVL_CHAT,
        language="llm_config",
        holds={"vision_config": "intern_vit_6b"},
        sees=Sight(images.internvl),
    ),
}

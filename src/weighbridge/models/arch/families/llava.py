"""LLaVA and the models of its kind, from Pixtral's tower to ColPali's embeddings.

LLaVA and the models built as it is: a tower, a small projector, a language model.

    projector: hidden size of the tower (times feature layers, times merged patches) -> D -> D

Sources: transformers 5.23 models/{llava,llava_next,llava_next_video,llava_onevision,vipllava,
paligemma,mistral3,aya_vision,cohere2_vision,gemma3,lfm2_vl}/modeling_*.py; the names of
checkpoints in conversion_mapping.py there.

Pixtral's tower: rotary positions in two directions, no class token, gated MLPs, no biases.

Source: transformers 5.23 models/pixtral/modeling_pixtral.py.

ColPali and ColQwen2: a vision-language model without its head, and one Linear to 128.

Sources: transformers 5.23 models/{colpali,colqwen2}/modeling_*.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.records import replace
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.models.arch.compose import (
    SIDE_BY_SIDE,
    TEXT,
    Inner,
    composite,
    either,
    nested,
    text_alone,
    text_head,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import labels
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import (
    ModelType,
    Sight,
)
from weighbridge.models.arch.vision import layernorm, patch_shape

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Layer


VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower")
PROJECTOR = "multi_modal_projector."
RESAMPLER = ("model.vision_resampler.", "model.vision_resampler.")  # came after the old names


def widths(c: Config) -> tuple[int, int]:
    """Return the widths of the tower and of the language model."""
    return nested(c, VISION).num("hidden_size"), nested(c, TEXT).num("hidden_size")


def feature_layers(c: Config) -> int:
    """Return how many of the tower's layers are concatenated as its features."""
    chosen = c.get("vision_feature_layer", "vision_feature_layers")
    return len(chosen) if isinstance(chosen, Sequence) else 1


def two_layers(prefix: str, into: int, width: int, *, bias: bool = True) -> Iterator[Param]:
    yield from linear(f"{prefix}linear_1", width, into, bias=bias)
    yield from linear(f"{prefix}linear_2", width, width, bias=bias)


def llava(c: Config, prefix: str) -> Iterator[Param]:
    vision, text = widths(c)
    bias = c.enabled("multimodal_projector_bias")
    yield from two_layers(f"{prefix}{PROJECTOR}", vision * feature_layers(c), text, bias=bias)


def newline(c: Config, prefix: str) -> Iterator[Param]:
    """Yield LLaVA's projector and a learned token, which ends each row of a tiled image."""
    yield from llava(c, prefix)
    yield Param(f"{prefix}image_newline", (widths(c)[1],), "other")


def video(c: Config, prefix: str) -> Iterator[Param]:
    yield from newline(c, prefix)
    if c.word("spatial_pool_mode") == "conv":
        width = widths(c)[0]
        out = c.num("spatial_pool_out_channels", default=width)
        kernel = c.num("spatial_pool_stride")
        yield from conv(f"{prefix}vision_resampler.pool", (out, width, kernel, kernel))


def vipllava(c: Config, prefix: str) -> Iterator[Param]:
    vision, text = widths(c)
    into = vision * feature_layers(c)
    yield from layernorm(f"{prefix}{PROJECTOR}projector_layernorm", into)
    yield from two_layers(f"{prefix}{PROJECTOR}", into, text)


def paligemma(c: Config, prefix: str) -> Iterator[Param]:
    """Yield PaliGemma's projector, a Linear to `projection_dim`: the language model's width in all
    releases."""
    vision, _ = widths(c)
    yield from affine(f"{prefix}{PROJECTOR}linear", c.num("projection_dim"), vision)


def mistral3(c: Config, prefix: str) -> Iterator[Param]:
    vision, text = widths(c)
    merged = c.num("spatial_merge_size") ** 2 * vision
    yield from norm(f"{prefix}{PROJECTOR}norm", vision)
    yield from linear(f"{prefix}{PROJECTOR}patch_merger.merging_layer", vision, merged)
    bias = c.flag("multimodal_projector_bias")
    yield from two_layers(f"{prefix}{PROJECTOR}", vision * feature_layers(c), text, bias=bias)


def gated(c: Config, prefix: str, inner: int) -> Iterator[Param]:
    """Yield a SwiGLU projector: its first Linear gives value and gate, so the second reads half."""
    vision, text = widths(c)
    into = vision * c.num("downsample_factor") ** 2
    yield from affine(f"{prefix}{PROJECTOR}linear_1", inner, into)
    yield from affine(f"{prefix}{PROJECTOR}linear_2", text, inner // 2)


def aya(c: Config, prefix: str) -> Iterator[Param]:
    vision, text = widths(c)
    yield from layernorm(f"{prefix}{PROJECTOR}layernorm", vision * c.num("downsample_factor") ** 2)
    yield from gated(c, prefix, c.num("alignment_intermediate_size", default=text))


def cohere2(c: Config, prefix: str) -> Iterator[Param]:
    yield from gated(c, prefix, c.num("alignment_intermediate_size"))


def lfm2(c: Config, prefix: str) -> Iterator[Param]:
    vision, text = widths(c)
    into, inner = vision * c.num("downsample_factor") ** 2, c.num("projector_hidden_size")
    bias = c.enabled("projector_bias")
    if c.enabled("projector_use_layernorm"):
        yield from layernorm(f"{prefix}{PROJECTOR}layer_norm", into)
    yield from linear(f"{prefix}{PROJECTOR}linear_1", inner, into, bias=bias)
    yield from linear(f"{prefix}{PROJECTOR}linear_2", text, inner, bias=bias)


def gemma3(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Gemma 3's projector: a norm and a bare matrix [in, out], not a Linear."""
    vision, text = widths(c)
    yield Param(f"{prefix}{PROJECTOR}mm_input_projection_weight", (vision, text), "other")
    yield from norm(f"{prefix}{PROJECTOR}mm_soft_emb_norm", vision)


def text_score(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}score", labels(c), nested(c, TEXT).num("hidden_size"))


# LLaVA's own code: the language model's class with a projector inside. Its tower is another
# repository (`mm_vision_tower`), which the config does not describe.


def own_projector(c: Config, prefix: str) -> Iterator[Param]:
    into, width = c.num("mm_hidden_size"), c.num("hidden_size")
    kind = c.word("mm_projector_type", default="linear")
    depth = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if kind == "linear":
        yield from affine(f"{prefix}mm_projector", width, into)
    elif depth:
        for i in range(min(int(depth[1]), 64)):
            inputs = width if i else into
            yield from affine(f"{prefix}mm_projector.{2 * i}", width, inputs)
    else:
        raise c.error("mm_projector_type", "is.unknown", known="linear, mlp2x_gelu", kind=kind)


def own() -> Family:
    text = Inner(path="", flat=True)
    return composite(
        text,
        own=own_projector,
        projectors=("mm_projector.",),
        cls="LlavaLlamaForCausalLM",
        stems=("Llava",),
        heads={"ForCausalLM": text_head(text)},
    )


OWN = own()


def family_of(
    own: ParamRule,
    name: str,
    *,
    extra: tuple[str, ...] = (),
    old: bool = True,
    blocks: tuple[str, ...] = (),
    classes: Mapping[str, Family] | None = None,
) -> Family:
    """Return a family of LLaVA's kind with projector `own`. With `old`, checkpoints have the parts
    side by side."""
    return composite(
        TEXT,
        VISION,
        own=own,
        projectors=(PROJECTOR, *extra),
        cls=f"{name}ForConditionalGeneration",
        heads={"ForConditionalGeneration": text_head(), "ForSequenceClassification": text_score},
        classes=classes or {},
        own_blocks=blocks,
        ties=either(),
        renames=(RESAMPLER, *SIDE_BY_SIDE) if old else (),
    )


LLAVA = family_of(llava, "Llava", classes={"LlamaForCausalLM": OWN})
LLAVA_NEXT = family_of(newline, "LlavaNext", extra=("image_newline",))
LLAVA_NEXT_VIDEO = family_of(video, "LlavaNextVideo", extra=("image_newline", "vision_resampler."))
LLAVA_ONEVISION = family_of(newline, "LlavaOnevision", extra=("image_newline",))
VIPLLAVA = family_of(vipllava, "VipLlava")
PALIGEMMA = family_of(paligemma, "PaliGemma", blocks=("multi_modal_projector",))
MISTRAL3 = family_of(mistral3, "Mistral3")
AYA_VISION = family_of(aya, "AyaVision")
COHERE2_VISION = family_of(cohere2, "Cohere2Vision", old=False)
GEMMA3_ALONE = text_alone(TEXT)
GEMMA3 = family_of(gemma3, "Gemma3", classes={"ForCausalLM": GEMMA3_ALONE})
LFM2_VL = family_of(lfm2, "Lfm2Vl", old=False)

# LLaVA's authors' class, which keeps Llama's own keys
FLAT = "LlavaLlamaForCausalLM"


def language_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the caches of the language model's layers, from its config or, if flat, the outer
    one."""
    from weighbridge.models.arch.cache_layers import layers

    return layers(nested(c, replace(TEXT, flat=c.cls == FLAT)))


def pixtral(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from conv(f"{prefix}patch_conv", patch_shape(c, width), bias=False)
    yield from norm(f"{prefix}ln_pre", width)
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}transformer.layers.{i}."
        for name in ("k_proj", "v_proj", "q_proj", "o_proj"):
            yield from linear(f"{path}attention.{name}", width, width)
        yield from norm(f"{path}attention_norm", width)
        yield from gated_mlp(f"{path}feed_forward", width, inner)
        yield from norm(f"{path}ffn_norm", width)


def rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{prefix}patch_positional_embedding.{name}", (size // 2,), "float32")


PIXTRAL = Family(
    body=pixtral, cls="PixtralVisionModel", buffers=rotary, blocks=("transformer.layers.*",)
)


def colpali_family_of(name: str, renames: tuple[tuple[str, str], ...] = ()) -> Family:
    vlm = Inner(path="vlm.", config="vlm_config")

    def projection(c: Config, prefix: str) -> Iterator[Param]:
        text = nested(c, vlm).sub("text_config")
        out = c.num("embedding_dim", default=128)
        yield from affine(f"{prefix}embedding_proj_layer", out, text.num("hidden_size"))

    return composite(
        vlm,
        projectors=("embedding_proj_layer.",),
        base="",
        cls=f"{name}ForRetrieval",
        heads={"ForRetrieval": projection},
        renames=renames,
    )


COLPALI = colpali_family_of("ColPali", (("vlm.language_model.", "vlm.language_model.model."),))
COLQWEN2 = colpali_family_of("ColQwen2")


TYPES = {
    "aya_vision": ModelType(AYA_VISION, language="text_config", sees=Sight(images.aya)),
    "cohere2_vision": ModelType(COHERE2_VISION, language="text_config", sees=Sight(images.cohere2)),
    "gemma3": ModelType(
        GEMMA3,
        language="text_config",
        sees=Sight(images.pooled),
        positions="stretched",
        computes=("rotary_by_window",),
    ),
    "llava": ModelType(LLAVA, layers=language_layers, sees=Sight(images.patches_alone)),
    "llava_llama": ModelType(
        OWN, language="text_config", flat=True, holds={"text_config": "llama"}
    ),
    "llava_mistral": ModelType(
        OWN, language="text_config", flat=True, holds={"text_config": "mistral"}
    ),
    "llava_next": ModelType(LLAVA_NEXT, language="text_config", sees=Sight(images.llava_next)),
    "llava_qwen": ModelType(OWN, language="text_config", flat=True, holds={"text_config": "qwen2"}),
    "llava_next_video": ModelType(
        LLAVA_NEXT_VIDEO, language="text_config", sees=Sight(images.llava_next)
    ),
    "llava_onevision": ModelType(
        LLAVA_ONEVISION, language="text_config", sees=Sight(images.llava_next)
    ),
    "mistral3": ModelType(MISTRAL3, language="text_config", sees=Sight(images.pixtral)),
    "paligemma": ModelType(PALIGEMMA, language="text_config", sees=Sight(images.native)),
    "vipllava": ModelType(VIPLLAVA, language="text_config", sees=Sight(images.patches_alone)),
    "lfm2_vl": ModelType(LFM2_VL, language="text_config", sees=Sight(images.lfm2)),
    "pixtral": ModelType(PIXTRAL, no_cache="image"),
    "colpali": ModelType(COLPALI, no_cache="embeds", seen_by="vlm_config"),
    "colqwen2": ModelType(COLQWEN2, no_cache="embeds", seen_by="vlm_config"),
}

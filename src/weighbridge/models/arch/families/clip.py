"""CLIP, SigLIP, SigLIP 2, Chinese CLIP: an image tower and a text tower of one make.

    L layers of (q, k, v, out; fc1, fc2; two LayerNorms, all with bias)

Towers sit below `vision_model.` and `text_model.` wherever they are: alone, in the pair, and
(as all checkpoints of LLaVA's kind have it) inside a larger model.
Source: transformers 5.23 models/{clip,siglip,siglip2,chinese_clip}/modeling_*.py.
"""

from collections.abc import Callable, Iterable, Iterator

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    embedding,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import labels
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import layernorm

Ids = Callable[[Config, str], Iterable[Buffer]]


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield from affine(f"{prefix}self_attn.{name}", width, width)
    yield from layernorm(f"{prefix}layer_norm1", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)
    yield from layernorm(f"{prefix}layer_norm2", width)


def layers(c: Config, prefix: str) -> Iterator[Param]:
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}encoder.layers.{i}.")


def side(c: Config) -> int:
    """Return the patches along one side of the (square) image."""
    return c.num("image_size") // max(1, c.num("patch_size"))


def patch_kernel(c: Config, width: int) -> tuple[int, ...]:
    patch = c.num("patch_size")
    return (width, c.num("num_channels", default=3), patch, patch)


def clip_vision(c: Config, prefix: str) -> Iterator[Param]:
    prefix, width = f"{prefix}vision_model.", c.num("hidden_size")
    yield Param(f"{prefix}embeddings.class_embedding", (width,), "other")
    yield from conv(f"{prefix}embeddings.patch_embedding", patch_kernel(c, width), bias=False)
    yield from embedding(f"{prefix}embeddings.position_embedding", side(c) ** 2 + 1, width)
    yield from layernorm(f"{prefix}pre_layrnorm", width)  # so spelt
    yield from layers(c, prefix)
    yield from layernorm(f"{prefix}post_layernorm", width)


def clip_text(c: Config, prefix: str) -> Iterator[Param]:
    prefix, width = f"{prefix}text_model.", c.num("hidden_size")
    yield from embedding(f"{prefix}embeddings.token_embedding", c.num("vocab_size"), width)
    positions = c.num("max_position_embeddings")
    yield from embedding(f"{prefix}embeddings.position_embedding", positions, width)
    yield from layers(c, prefix)
    yield from layernorm(f"{prefix}final_layer_norm", width)


def pooling(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the attention pooling head: one learned query over all patches (nn.MultiheadAttention),
    then an MLP."""
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield Param(f"{prefix}probe", (1, 1, width), "other")
    yield Param(f"{prefix}attention.in_proj_weight", (3 * width, width), "other")
    yield Param(f"{prefix}attention.in_proj_bias", (3 * width,), "bias")
    yield from affine(f"{prefix}attention.out_proj", width, width)
    yield from layernorm(f"{prefix}layernorm", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)


def siglip_rest(c: Config, prefix: str) -> Iterator[Param]:
    yield from layers(c, prefix)
    yield from layernorm(f"{prefix}post_layernorm", c.num("hidden_size"))
    if c.enabled("vision_use_head"):
        yield from pooling(c, f"{prefix}head.")


def siglip_vision(c: Config, prefix: str) -> Iterator[Param]:
    prefix, width = f"{prefix}vision_model.", c.num("hidden_size")
    yield from conv(f"{prefix}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{prefix}embeddings.position_embedding", side(c) ** 2, width)
    yield from siglip_rest(c, prefix)


def siglip2_vision(c: Config, prefix: str) -> Iterator[Param]:
    """Yield SigLIP 2's tower: the processor cuts the patches, so a Linear embeds them, no
    convolution."""
    prefix, width = f"{prefix}vision_model.", c.num("hidden_size")
    pixels = c.num("num_channels", default=3) * c.num("patch_size") ** 2
    yield from affine(f"{prefix}embeddings.patch_embedding", width, pixels)
    yield from embedding(f"{prefix}embeddings.position_embedding", c.num("num_patches"), width)
    yield from siglip_rest(c, prefix)


def siglip_text(c: Config, prefix: str) -> Iterator[Param]:
    yield from clip_text(c, prefix)
    width = c.num("hidden_size")
    out = c.num("projection_size", default=width)
    yield from affine(f"{prefix}text_model.head", out, width)


def chinese_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("query", "key", "value"):
        yield from affine(f"{prefix}attention.self.{name}", width, width)
    yield from affine(f"{prefix}attention.output.dense", width, width)
    yield from layernorm(f"{prefix}attention.output.LayerNorm", width)
    yield from affine(f"{prefix}intermediate.dense", inner, width)
    yield from affine(f"{prefix}output.dense", width, inner)
    yield from layernorm(f"{prefix}output.LayerNorm", width)


def chinese_text(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Chinese CLIP's text tower, a BERT without pooler."""
    prefix, width = f"{prefix}text_model.", c.num("hidden_size")
    tables = {
        "word": c.num("vocab_size"),
        "position": c.num("max_position_embeddings"),
        "token_type": c.num("type_vocab_size"),
    }
    for name, rows in tables.items():
        yield from embedding(f"{prefix}embeddings.{name}_embeddings", rows, width)
    yield from layernorm(f"{prefix}embeddings.LayerNorm", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from chinese_layer(c, f"{prefix}encoder.layer.{i}.")


def chinese_text_pooled(c: Config, prefix: str) -> Iterator[Param]:
    yield from chinese_text(c, prefix)
    width = c.num("hidden_size")
    yield from affine(f"{prefix}text_model.pooler.dense", width, width)


def halves(c: Config) -> tuple[Config, Config]:
    """Return the text and the vision config; early files call them `text_config_dict` and so on."""
    return (c.sub("text_config", "text_config_dict"), c.sub("vision_config", "vision_config_dict"))


def clip_pair(text_tower: ParamRule) -> ParamRule:
    def pair(c: Config, prefix: str) -> Iterator[Param]:
        text, vision = halves(c)
        out = c.num("projection_dim")
        yield from text_tower(text, prefix)
        yield from clip_vision(vision, prefix)
        yield from linear(f"{prefix}visual_projection", out, vision.num("hidden_size"))
        yield from linear(f"{prefix}text_projection", out, text.num("hidden_size"))
        yield Param(f"{prefix}logit_scale", (), "other")

    return pair


def siglip_pair(vision_tower: ParamRule) -> ParamRule:
    def pair(c: Config, prefix: str) -> Iterator[Param]:
        text, vision = halves(c)
        yield from siglip_text(text, prefix)
        yield from vision_tower(vision, prefix)
        yield Param(f"{prefix}logit_scale", (1,), "other")
        yield Param(f"{prefix}logit_bias", (1,), "other")

    return pair


def vision_only(tower: ParamRule) -> ParamRule:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        yield from tower(halves(c)[1], prefix)

    return body


def image_classifier() -> ParamRule:
    def head(c: Config, prefix: str) -> Iterator[Param]:
        width = halves(c)[1].num("hidden_size")
        yield from affine(f"{prefix}classifier", labels(c), width)

    return head


def text_projection(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}text_projection", c.num("projection_dim"), c.num("hidden_size"))


def visual_projection(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}visual_projection", c.num("projection_dim"), c.num("hidden_size"))


def concepts(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the heads of diffusers' StableDiffusionSafetyChecker: 17 concepts and 3 special-care
    ones."""
    vision, out = halves(c)[1], c.num("projection_dim")
    yield from linear(f"{prefix}visual_projection", out, vision.num("hidden_size"))
    for name, count in (("concept", 17), ("special_care", 3)):
        yield Param(f"{prefix}{name}_embeds", (count, out), "other")
        yield Param(f"{prefix}{name}_embeds_weights", (count,), "other")


def text_ids(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the buffer of position indexes; releases before 4.31 stored it in the checkpoint."""
    rows = c.num("max_position_embeddings")
    yield Buffer(f"{prefix}text_model.embeddings.position_ids", (1, rows), "int64")


def chinese_ids(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from text_ids(c, prefix)
    rows = c.num("max_position_embeddings")
    yield Buffer(f"{prefix}text_model.embeddings.token_type_ids", (1, rows), "int64")


def clip_ids(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}vision_model.embeddings.position_ids", (1, side(c) ** 2 + 1), "int64")


def siglip_ids(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}vision_model.embeddings.position_ids", (1, side(c) ** 2), "int64")


def no_ids(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield no buffers: SigLIP 2 interpolates its positions and keeps no index."""
    return iter(())


def pair_ids(text: Ids, vision: Ids) -> Ids:
    def ids(c: Config, prefix: str) -> Iterator[Buffer]:
        yield from text(halves(c)[0], prefix)
        yield from vision(halves(c)[1], prefix)

    return ids


def vision_ids(vision: Ids) -> Ids:
    def ids(c: Config, prefix: str) -> Iterator[Buffer]:
        yield from vision(halves(c)[1], prefix)

    return ids


PARTS = (
    ("vision_model.", "vision tower"),
    ("visual_projection.", "projector"),
    ("text_projection.", "projector"),
    ("logit_", "projector"),
)
TEXT_BLOCKS = ("text_model.embeddings", "text_model.encoder.layers.*")
VISION_BLOCKS = ("vision_model.embeddings", "vision_model.encoder.layers.*")


def pooled_blocks(c: Config) -> tuple[str, ...]:
    """Return the modules that device_map="auto" never splits; the pooling head, if there is one, is
    among them."""
    head = ("vision_model.head",) if c.enabled("vision_use_head") else ()
    return (*VISION_BLOCKS, *head)


def pooled_half(*more: str) -> Callable[[Config], tuple[str, ...]]:
    def blocks(c: Config) -> tuple[str, ...]:
        return (*more, *pooled_blocks(halves(c)[1]))

    return blocks


CHINESE_BLOCKS = ("text_model.embeddings", "text_model.encoder.layer.*")

CLIP_TEXT = Family(
    body=clip_text,
    base="",
    cls="CLIPTextModel",
    heads={"WithProjection": text_projection},
    buffers=text_ids,
    blocks=TEXT_BLOCKS,
)
CLIP_VISION = Family(
    body=clip_vision,
    base="",
    cls="CLIPVisionModel",
    heads={"WithProjection": visual_projection},
    buffers=clip_ids,
    blocks=VISION_BLOCKS,
)
CLIP = Family(
    body=clip_pair(clip_text),
    cls="CLIPModel",
    classes={
        "ForImageClassification": Family(
            body=vision_only(clip_vision),
            base="",
            heads={"ForImageClassification": image_classifier()},
            buffers=vision_ids(clip_ids),
            blocks=VISION_BLOCKS,
        ),
        "StableDiffusionSafetyChecker": Family(
            body=vision_only(clip_vision),
            base="vision_model",
            heads={"SafetyChecker": concepts},
            buffers=vision_ids(clip_ids),
            blocks=VISION_BLOCKS,
        ),
    },
    buffers=pair_ids(text_ids, clip_ids),
    blocks=(*TEXT_BLOCKS, *VISION_BLOCKS),
    parts=PARTS,
)
CHINESE_TEXT = Family(
    body=chinese_text_pooled, cls="ChineseCLIPTextModel", buffers=chinese_ids, blocks=CHINESE_BLOCKS
)
CHINESE_VISION = Family(
    body=clip_vision, cls="ChineseCLIPVisionModel", buffers=clip_ids, blocks=VISION_BLOCKS
)
CHINESE = Family(
    body=clip_pair(chinese_text),
    cls="ChineseCLIPModel",
    buffers=pair_ids(chinese_ids, clip_ids),
    blocks=(*CHINESE_BLOCKS, *VISION_BLOCKS),
    parts=PARTS,
)


def siglip(name: str, tower: ParamRule, ids: Ids) -> Family:
    only = Family(
        body=vision_only(tower),
        base="",
        heads={"ForImageClassification": image_classifier()},
        buffers=vision_ids(ids),
        blocks=pooled_half(),
    )
    return Family(
        body=siglip_pair(tower),
        cls=f"{name}Model",
        classes={"ForImageClassification": only},
        buffers=pair_ids(text_ids, ids),
        blocks=pooled_half(*TEXT_BLOCKS),
        parts=PARTS,
    )


SIGLIP_TEXT = Family(body=siglip_text, cls="SiglipTextModel", buffers=text_ids, blocks=TEXT_BLOCKS)
SIGLIP_VISION = Family(
    body=siglip_vision, cls="SiglipVisionModel", buffers=siglip_ids, blocks=pooled_blocks
)
SIGLIP = siglip("Siglip", siglip_vision, siglip_ids)
SIGLIP2_VISION = Family(body=siglip2_vision, cls="Siglip2VisionModel", blocks=pooled_blocks)
SIGLIP2 = siglip("Siglip2", siglip2_vision, no_ids)

TYPES = {
    "chinese_clip": ModelType(CHINESE, no_cache="encoder", sees=Sight(images.native), paired=True),
    "chinese_clip_text_model": ModelType(CHINESE_TEXT, no_cache="encoder"),
    "chinese_clip_vision_model": ModelType(
        CHINESE_VISION, no_cache="image", sees=Sight(images.native, tower=""), beside_patches=1
    ),
    "clip": ModelType(
        CLIP, no_cache="encoder", sees=Sight(images.native), paired=True, gguf="none"
    ),
    "clip_text_model": ModelType(
        CLIP_TEXT, no_cache="encoder", encodes="causal", computes=("own_items",), gguf="none"
    ),
    "clip_vision_model": ModelType(
        CLIP_VISION, no_cache="image", sees=Sight(images.native, tower=""), beside_patches=1
    ),
    "siglip": ModelType(
        SIGLIP, no_cache="encoder", sees=Sight(images.native), paired=True, gguf="none"
    ),
    "siglip_text_model": ModelType(
        SIGLIP_TEXT, no_cache="encoder", computes=("own_items",), gguf="none"
    ),
    "siglip_vision_model": ModelType(
        SIGLIP_VISION, no_cache="image", sees=Sight(images.native, tower="")
    ),
    "siglip2": ModelType(
        SIGLIP2, no_cache="encoder", sees=Sight(images.siglip2), paired=True, gguf="none"
    ),
    "siglip2_text_model": ModelType(SIGLIP_TEXT, no_cache="encoder"),
    "siglip2_vision_model": ModelType(SIGLIP2_VISION, no_cache="image"),
}

"""Captions: BLIP and GIT.

BLIP: a ViT with fused queries, keys and values, and a BERT that can look at its output.

    text decoder: BERT layers with cross-attention over the tower's width, and BERT's head

Source: transformers 5.23 models/blip/modeling_blip.py and modeling_blip_text.py.

GIT: a BERT that reads the output of a CLIP tower before its words.

    projection: Linear W x D and LayerNorm; one learned vector for each of several frames

Source: transformers 5.23 models/git/modeling_git.py.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

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
from weighbridge.models.arch.families.clip import (
    CLIP_VISION,
    chinese_layer,
    clip_ids,
    clip_vision,
    side,
)
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import layernorm, nothing

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Layer


WORDS = "bert.embeddings.word_embeddings.weight"


def parts(c: Config) -> tuple[Config, Config]:
    return (c.sub("text_config"), c.sub("vision_config"))


def vision_layer(c: Config, prefix: str, *, bias: bool) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from linear(f"{prefix}self_attn.qkv", 3 * width, width, bias=bias)
    yield from affine(f"{prefix}self_attn.projection", width, width)
    yield from layernorm(f"{prefix}layer_norm1", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)
    yield from layernorm(f"{prefix}layer_norm2", width)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width, patch = c.num("hidden_size"), c.num("patch_size")
    yield Param(f"{prefix}embeddings.class_embedding", (1, 1, width), "other")
    yield Param(f"{prefix}embeddings.position_embedding", (1, side(c) ** 2 + 1, width), "other")
    yield from conv(f"{prefix}embeddings.patch_embedding", (width, 3, patch, patch))
    for i in range(c.layers("num_hidden_layers")):
        bias = c.enabled("qkv_bias")
        yield from vision_layer(c, f"{prefix}encoder.layers.{i}.", bias=bias)
    yield from layernorm(f"{prefix}post_layernorm", width)


def attention(prefix: str, width: int, seen: int) -> Iterator[Param]:
    """Yield an attention whose keys and values are computed from an input of width `seen`."""
    yield from affine(f"{prefix}self.query", width, width)
    yield from affine(f"{prefix}self.key", width, seen)
    yield from affine(f"{prefix}self.value", width, seen)
    yield from affine(f"{prefix}output.dense", width, width)
    yield from layernorm(f"{prefix}output.LayerNorm", width)


def text_layer(c: Config, prefix: str, seen: int) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from attention(f"{prefix}attention.", width, width)
    if c.enabled("is_decoder"):
        yield from attention(f"{prefix}crossattention.", width, seen)
    yield from affine(f"{prefix}intermediate.dense", inner, width)
    yield from affine(f"{prefix}output.dense", width, inner)
    yield from layernorm(f"{prefix}output.LayerNorm", width)


def text(c: Config, prefix: str, seen: int) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{prefix}embeddings.word_embeddings", c.num("vocab_size"), width)
    positions = c.num("max_position_embeddings")
    yield from embedding(f"{prefix}embeddings.position_embeddings", positions, width)
    yield from layernorm(f"{prefix}embeddings.LayerNorm", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from text_layer(c, f"{prefix}encoder.layer.{i}.", seen)


def decoder(c: Config, prefix: str, seen: int, *, ties: bool) -> Iterator[Param]:
    """Yield the decoder with BERT's head. The weight and bias of the head's last Linear are tied:
    each belongs to another module."""
    width, rows = c.num("hidden_size"), c.num("vocab_size")
    head = f"{prefix}cls.predictions."
    yield from text(c, f"{prefix}bert.", seen)
    yield from affine(f"{head}transform.dense", width, width)
    yield from layernorm(f"{head}transform.LayerNorm", width)
    yield Param(f"{head}bias", (rows,), "bias")
    yield Param(f"{head}decoder.weight", (rows, width), tied=f"{prefix}{WORDS}" if ties else "")
    yield Param(f"{head}decoder.bias", (rows,), "bias", tied=f"{head}bias" if ties else "")


def pair(c: Config, prefix: str) -> Iterator[Param]:
    language, tower = parts(c)
    width, seen, out = (
        language.num("hidden_size"),
        tower.num("hidden_size"),
        c.num("projection_dim"),
    )
    yield from text(language, f"{prefix}text_model.", seen)
    yield from affine(f"{prefix}text_model.pooler.dense", width, width)
    yield from vision(tower, f"{prefix}vision_model.")
    yield from linear(f"{prefix}visual_projection", out, seen)
    yield from linear(f"{prefix}text_projection", out, width)
    yield Param(f"{prefix}logit_scale", (), "other")


def tower_and(*names: str) -> ParamRule:
    """Return a rule for the image tower, and "text_encoder" and "text_decoder" if in `names`."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        language, tower = parts(c)
        seen = tower.num("hidden_size")
        ties = any(k.enabled("tie_word_embeddings") for k in (c, language))
        yield from vision(tower, f"{prefix}vision_model.")
        if "text_encoder" in names:
            yield from text(language, f"{prefix}text_encoder.", seen)
        if "text_decoder" in names:
            yield from decoder(language, f"{prefix}text_decoder.", seen, ties=ties)

    return body


def retrieval(c: Config, prefix: str) -> Iterator[Param]:
    language, tower = parts(c)
    out, width = c.num("image_text_hidden_size"), language.num("hidden_size")
    yield from affine(f"{prefix}vision_proj", out, tower.num("hidden_size"))
    yield from affine(f"{prefix}text_proj", out, width)
    yield from affine(f"{prefix}itm_head", 2, width)


def ids(*paths: str) -> Callable[[Config, str], Iterator[Buffer]]:
    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        rows = parts(c)[0].num("max_position_embeddings")
        for path in paths:
            yield Buffer(f"{prefix}{path}.embeddings.position_ids", (1, rows), "int64")

    return buffers


PARTS = (("vision_model.", "vision tower"),)
BLOCKS = ("vision_model.encoder.layers.*",)


def with_head(ending: str, head: ParamRule, *names: str) -> Family:
    inside = {"text_decoder": "text_decoder.bert", "text_encoder": "text_encoder"}
    words = tuple(f"{inside[n]}.embeddings" for n in names)
    return Family(
        body=tower_and(*names),
        base="",
        heads={ending: head},
        buffers=ids(*(inside[n] for n in names)),
        blocks=(*BLOCKS, *words),
        parts=PARTS,
    )


BLIP_VISION = Family(body=vision, cls="BlipVisionModel", blocks=("encoder.layers.*",))
BLIP = Family(
    body=pair,
    cls="BlipForConditionalGeneration",
    buffers=ids("text_model"),
    blocks=(*BLOCKS, "text_model.embeddings"),
    classes={
        "ForConditionalGeneration": with_head("ForConditionalGeneration", nothing, "text_decoder"),
        "ForQuestionAnswering": with_head(
            "ForQuestionAnswering", nothing, "text_encoder", "text_decoder"
        ),
        "ForImageTextRetrieval": with_head("ForImageTextRetrieval", retrieval, "text_encoder"),
    },
    parts=(
        *PARTS,
        ("visual_projection.", "projector"),
        ("text_projection.", "projector"),
        ("logit_", "projector"),
    ),
)


def decoder_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the decoder's layers, with self-attention to the caption and cross-attention to an
    image's patches and class token."""

    from weighbridge.models.arch import cache_layers

    text, length = c.sub("text_config"), side(c.sub("vision_config")) ** 2 + 1
    sizes = cache_layers.even(text.num("num_attention_heads"), text.num("hidden_size"))
    return cache_layers.pairs(text, text.layers("num_hidden_layers"), sizes, "image", length)


def tower(c: Config) -> Config:
    return c.sub("vision_config")


def git(c: Config, prefix: str) -> Iterator[Param]:
    vision, width = tower(c), c.num("hidden_size")
    yield from embedding(f"{prefix}embeddings.word_embeddings", c.num("vocab_size"), width)
    positions = c.num("max_position_embeddings")
    yield from embedding(f"{prefix}embeddings.position_embeddings", positions, width)
    yield from layernorm(f"{prefix}embeddings.LayerNorm", width)
    yield from clip_vision(vision, f"{prefix}image_encoder.")
    for i in range(c.layers("num_hidden_layers")):
        yield from chinese_layer(c, f"{prefix}encoder.layer.{i}.")
    path = f"{prefix}visual_projection.visual_projection."
    yield from affine(f"{path}0", width, vision.num("hidden_size"))
    yield from layernorm(f"{path}1", width)
    for i in range(c.layers("num_image_with_embedding", default=0)):
        shape = (1, 1, vision.num("hidden_size"))
        yield Param(f"{prefix}img_temporal_embedding.{i}", shape, "other")


def git_ids(c: Config, prefix: str) -> Iterator[Buffer]:
    rows = c.num("max_position_embeddings")
    yield Buffer(f"{prefix}embeddings.position_ids", (1, rows), "int64")
    yield from clip_ids(tower(c), f"{prefix}image_encoder.")


def output(c: Config, prefix: str) -> Iterator[Param]:
    words = "git.embeddings.word_embeddings.weight"
    owner = f"{prefix}{words}" if c.flag("tie_word_embeddings") else ""
    shape = (c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{prefix}output.weight", shape, tied=owner)
    yield Param(f"{prefix}output.bias", shape[:1], "bias")


GIT = Family(
    body=git,
    base="git",
    cls="GitForCausalLM",
    heads={"ForCausalLM": output},
    buffers=git_ids,
    blocks=(),
    parts=(
        ("image_encoder.", "vision tower"),
        ("visual_projection.", "projector"),
        ("img_temporal_embedding.", "projector"),
    ),
)


TYPES = {
    "blip": ModelType(
        BLIP, layers=decoder_layers, sees=Sight(images.native), encoder="vision_config"
    ),
    "blip_vision_model": ModelType(BLIP_VISION, no_cache="image", beside_patches=1),
    "git": ModelType(GIT, layers="multi_head", sees=Sight(images.native), computes=("not_rotary",)),
    "git_vision_model": ModelType(
        CLIP_VISION, no_cache="image", sees=Sight(images.native, tower=""), beside_patches=1
    ),
}

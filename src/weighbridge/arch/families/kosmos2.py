"""Kosmos-2: a CLIP tower, n latent queries that attend to it, a decoder with extra norms.

    decoder layer: q, k, v, out with a norm before out; fc1, norm, fc2; positions are computed

Source: transformers 5.23 models/kosmos2/modeling_kosmos2.py.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.arch.blueprint import Buffer, Family, Param, ParamRule, embedding, linear
from weighbridge.arch.config import Config
from weighbridge.arch.families.clip import clip_vision, side
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight, TransformersFacts
from weighbridge.arch.vision import layernorm, nothing

if TYPE_CHECKING:
    from weighbridge.arch.mixers import Layer


def parts(c: Config) -> tuple[Config, Config]:
    return (
        c.sub("text_config"),
        c.sub("vision_config"),
    )


def attention(prefix: str, width: int, *, norm: bool) -> Iterator[Param]:
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield from linear(f"{prefix}{name}", width, width, bias=True)
    if norm:
        yield from layernorm(f"{prefix}inner_attn_ln", width)


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("embed_dim"), c.num("ffn_dim")
    yield from attention(f"{prefix}self_attn.", width, norm=True)
    yield from layernorm(f"{prefix}self_attn_layer_norm", width)
    if c.flag("add_cross_attention"):
        yield from attention(f"{prefix}encoder_attn.", width, norm=False)
        yield from layernorm(f"{prefix}encoder_attn_layer_norm", width)
    yield from linear(f"{prefix}ffn.fc1", inner, width, bias=True)
    yield from linear(f"{prefix}ffn.fc2", width, inner, bias=True)
    yield from layernorm(f"{prefix}ffn.ffn_layernorm", inner)
    yield from layernorm(f"{prefix}final_layer_norm", width)


def text(c: Config, prefix: str) -> Iterator[Param]:
    yield from embedding(f"{prefix}embed_tokens", c.num("vocab_size"), c.num("embed_dim"))
    for i in range(c.layers("layers")):
        yield from layer(c, f"{prefix}layers.{i}.")
    yield from layernorm(f"{prefix}layer_norm", c.num("embed_dim"))


def vision(c: Config, prefix: str) -> Iterator[Param]:
    """CLIP's, below `model.` in place of `vision_model.`"""
    for p in clip_vision(c, ""):
        yield p._replace(name=f"{prefix}model." + p.name.removeprefix("vision_model."))


def body(*, head: bool) -> ParamRule:
    def kosmos(c: Config, prefix: str) -> Iterator[Param]:
        language, tower = parts(c)
        width = language.num("embed_dim")
        words = f"{prefix}text_model.model.embed_tokens.weight"
        yield from text(language, f"{prefix}text_model.model.")
        if head:
            owner = words if ties(c) else ""
            shape = (language.num("vocab_size"), width)
            yield Param(f"{prefix}text_model.lm_head.weight", shape, tied=owner)
        yield from vision(tower, f"{prefix}vision_model.")
        path = f"{prefix}image_to_text_projection."
        yield from linear(f"{path}dense", width, tower.num("hidden_size"), bias=True)
        yield Param(f"{path}latent_query", (c.num("latent_query_num"), width), "other")
        yield from attention(f"{path}x_attn.", width, norm=False)

    return kosmos


def ties(c: Config) -> bool:
    return any(k.flag("tie_word_embeddings", default=True) for k in (c, parts(c)[0]))


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """The sines are computed, two rows more than positions."""
    language, tower = parts(c)
    rows = (language.num("max_position_embeddings") + 2, language.num("embed_dim"))
    yield Buffer(f"{prefix}text_model.model.embed_positions.weights", rows, "")
    places = (1, side(tower) ** 2 + 1)
    yield Buffer(f"{prefix}vision_model.model.embeddings.position_ids", places, "int64")


BLOCKS = ("text_model.model.layers.*", "vision_model.model.encoder.layers.*")
PARTS = (("vision_model.", "vision tower"), ("image_to_text_projection.", "projector"))
KOSMOS2 = Family(
    body=body(head=False),
    cls="Kosmos2ForConditionalGeneration",
    buffers=buffers,
    blocks=BLOCKS,
    parts=PARTS,
    classes={
        "ForConditionalGeneration": Family(
            body=body(head=True),
            base="",
            heads={"ForConditionalGeneration": nothing},
            buffers=buffers,
            blocks=BLOCKS,
            parts=PARTS,
        )
    },
)


def decoder_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the layers of the language model, which spells its heads as fairseq does."""
    from weighbridge.arch.cache_layers import AttentionSizes, attention
    from weighbridge.arch.mixers import Layer

    language = c.sub("text_config")
    heads = language.num("attention_heads")
    sizes = AttentionSizes(heads, heads, language.num("embed_dim") // max(1, heads))
    return (Layer(mixers=(attention(language, sizes),)),) * language.layers("layers")


TYPES = {
    "kosmos-2": ModelType(
        KOSMOS2,
        layers=decoder_layers,
        sees=Sight(images.latent),
        transformers=TransformersFacts(last_logits=(5, 0), sdpa=(4, 53)),
    ),
}

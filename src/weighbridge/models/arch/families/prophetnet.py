"""ProphetNet: an encoder-decoder whose decoder predicts the next `ngram` tokens at once.

    word_embeddings V x D, shared; each half: positions P x D, a norm, L layers
    the decoder's self-attention has relative_pos_embeddings, D to N x buckets, in every layer

Source: transformers 5.23 models/prophetnet/modeling_prophetnet.py.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.models.arch.blueprint import (
    Family,
    Param,
    affine,
    embedding,
    layer_norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import causal_lm, joined
from weighbridge.models.arch.model_types import ModelType

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Layer

# Heads only split a projection; the rest is idle where there is no encoder.
IDLE = ("num_encoder_attention_heads", "num_encoder_layers", "encoder_ffn_dim")


def attention(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    for name in ("key_proj", "value_proj", "query_proj", "out_proj"):
        yield from affine(f"{prefix}.{name}", width, width)
    yield from layer_norm(f"{prefix}_layer_norm", width)


def layer(c: Config, prefix: str, half: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num(f"{half}_ffn_dim")
    yield from attention(c, f"{prefix}self_attn")
    if half == "decoder":
        rows = c.num("num_buckets") * c.num("num_decoder_attention_heads")
        yield from affine(f"{prefix}self_attn.relative_pos_embeddings", rows, width)
        if c.enabled("add_cross_attention"):
            yield from attention(c, f"{prefix}cross_attn")
    yield from affine(f"{prefix}feed_forward.intermediate", inner, width)
    yield from affine(f"{prefix}feed_forward.output", width, inner)
    yield from layer_norm(f"{prefix}feed_forward_layer_norm", width)


def half_of(c: Config, prefix: str, half: str, owner: str) -> Iterator[Param]:
    path, width = f"{prefix}{half}.", c.num("hidden_size")
    c.skip(*IDLE)
    owner = owner if c.enabled("tie_word_embeddings") else ""
    shape = (c.num("vocab_size"), width)
    yield Param(f"{path}word_embeddings.weight", shape, "embedding", tied=owner)
    yield from embedding(f"{path}position_embeddings", c.num("max_position_embeddings"), width)
    if half == "decoder":
        yield from embedding(f"{path}ngram_embeddings", c.num("ngram"), width)
    for i in range(c.layers(f"num_{half}_layers")):
        yield from layer(c, f"{path}layers.{i}.", half)
    yield from layer_norm(f"{path}embeddings_layer_norm", width)


def words(c: Config, prefix: str) -> Iterator[Param]:
    yield from embedding(f"{prefix}word_embeddings", c.num("vocab_size"), c.num("hidden_size"))


def encoder(c: Config, prefix: str) -> Iterator[Param]:
    yield from half_of(c, prefix, "encoder", f"{prefix}word_embeddings.weight")


def decoder(c: Config, prefix: str) -> Iterator[Param]:
    yield from half_of(c, prefix, "decoder", f"{prefix}word_embeddings.weight")


ALONE = Family(
    body=joined(words, decoder), base="prophetnet", heads={"ForCausalLM": causal_lm}, blocks=()
)
PROPHETNET = Family(
    body=joined(words, encoder, decoder),
    base="prophetnet",
    cls="ProphetNetForConditionalGeneration",
    heads={"ForConditionalGeneration": causal_lm},
    classes={"ForCausalLM": ALONE},
    blocks=(),
)


def decoder_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the decoder's layers, with self-attention and cross-attention to a text."""

    from weighbridge.models.arch import cache_layers

    sizes = cache_layers.even(c.num("num_decoder_attention_heads"), c.num("hidden_size"))
    return cache_layers.pairs(c, c.layers("num_decoder_layers"), sizes, "text")


TYPES = {
    "prophetnet": ModelType(
        PROPHETNET,
        layers=decoder_layers,
        heads_key="num_encoder_attention_heads",
        computes=("own_softmax",),
        gguf="none",
    )
}

"""BLOOM and MPT: decoders with ALiBi, so without position embeddings.

    BLOOM  query_key_value 3 D x D and biases everywhere; a norm after the embedding
    MPT    Wqkv 3 D x D, no biases at all, not even in LayerNorm

Source: transformers 5.23 models/{bloom,mpt}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import LEGACY_HEADS
from weighbridge.errors import UnsupportedError


def bloom_layer(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from norm(f"{at}input_layernorm", width, bias=True)
    yield from linear(f"{at}self_attention.query_key_value", 3 * width, width, bias=True)
    yield from linear(f"{at}self_attention.dense", width, width, bias=True)
    yield from norm(f"{at}post_attention_layernorm", width, bias=True)
    yield from linear(f"{at}mlp.dense_h_to_4h", 4 * width, width, bias=True)
    yield from linear(f"{at}mlp.dense_4h_to_h", width, 4 * width, bias=True)


def bloom(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{at}word_embeddings", c.num("vocab_size"), width)
    yield from norm(f"{at}word_embeddings_layernorm", width, bias=True)
    for i in range(c.layers("num_hidden_layers")):
        yield from bloom_layer(c, f"{at}h.{i}.")
    yield from norm(f"{at}ln_f", width, bias=True)


def mpt_layer(c: Config, at: str) -> Iterator[Param]:
    width = c.num("d_model")
    yield from norm(f"{at}norm_1", width)
    yield from linear(f"{at}attn.Wqkv", 3 * width, width)
    yield from linear(f"{at}attn.out_proj", width, width)
    yield from norm(f"{at}norm_2", width)
    # MptMLP has 4 written into it; the config's expansion_ratio decides nothing.
    yield from linear(f"{at}ffn.up_proj", 4 * width, width)
    yield from linear(f"{at}ffn.down_proj", width, 4 * width)


def mpt(c: Config, at: str) -> Iterator[Param]:
    width = c.num("d_model")
    if not c.sub("attn_config").flag("alibi", default=True):
        raise UnsupportedError(f"{c.where}: attn_config.alibi is false; MPT is known with ALiBi")
    yield from embedding(f"{at}wte", c.num("vocab_size"), width)
    for i in range(c.layers("n_layers")):
        yield from mpt_layer(c, f"{at}blocks.{i}.")
    yield from norm(f"{at}norm_f", width)


BLOOM = Family(
    body=bloom,
    base="transformer",
    cls="BloomForCausalLM",
    heads=LEGACY_HEADS,
    blocks=("h.*",),
)
MPT = Family(
    body=mpt,
    base="transformer",
    cls="MptForCausalLM",
    heads=LEGACY_HEADS,
    blocks=("blocks.*",),
)

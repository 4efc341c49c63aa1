"""BLOOM and MPT: decoders with ALiBi, so without position embeddings.

    BLOOM  query_key_value 3 D x D and biases everywhere; a norm after the embedding
    MPT    Wqkv 3 D x D, no biases at all, not even in LayerNorm; 4 D wide whatever the config says

MPT's remote class, MPTForCausalLM, follows its config in all of this.
Source: transformers 5.23 models/{bloom,mpt}/modeling_*.py; mosaicml/llm-foundry models/mpt and
models/layers/attention.py for the remote class.
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
    c.skip("n_head", "num_attention_heads")
    yield from embedding(f"{at}word_embeddings", c.num("vocab_size"), width)
    yield from norm(f"{at}word_embeddings_layernorm", width, bias=True)
    for i in range(c.layers("num_hidden_layers")):
        yield from bloom_layer(c, f"{at}h.{i}.")
    yield from norm(f"{at}ln_f", width, bias=True)


def remote(c: Config) -> bool:
    """MPTForCausalLM (llm-foundry) reads keys that MptForCausalLM has no use for."""
    return c.cls.startswith("MPT")


def mpt_heads(c: Config) -> int:
    """Key-value heads of the remote class."""
    heads, attn = c.num("n_heads"), c.sub("attn_config")
    kinds = {
        "multihead_attention": heads,
        "multiquery_attention": 1,
        "grouped_query_attention": attn.num("kv_n_heads", default=heads),
    }
    kind = attn.word("attn_type", default="multihead_attention")
    if kind not in kinds:
        raise attn.error("attn_type", f"is {kind!r}; known: {', '.join(kinds)}")
    return kinds[kind]


def mpt_layer(c: Config, at: str) -> Iterator[Param]:
    width, keys, inner, bias = c.num("d_model"), c.num("d_model"), 4 * c.num("d_model"), False
    if remote(c):
        keys = mpt_heads(c) * (width // max(1, c.num("n_heads")))
        inner = int(c.ratio("expansion_ratio", default=4) * width)
        bias = not c.flag("no_bias")
    yield from norm(f"{at}norm_1", width, bias=bias)
    yield from linear(f"{at}attn.Wqkv", width + 2 * keys, width, bias=bias)
    yield from linear(f"{at}attn.out_proj", width, width, bias=bias)
    yield from norm(f"{at}norm_2", width, bias=bias)
    yield from linear(f"{at}ffn.up_proj", inner, width, bias=bias)
    yield from linear(f"{at}ffn.down_proj", width, inner, bias=bias)


def mpt(c: Config, at: str) -> Iterator[Param]:
    width, attn = c.num("d_model"), c.sub("attn_config")
    if remote(c) and (attn.flag("qk_ln") or not attn.flag("alibi")):
        what = "MPT is known with ALiBi and without qk_ln"
        raise UnsupportedError(f"{c.where}: attn_config: {what}")
    c.skip("n_heads")
    yield from embedding(f"{at}wte", c.num("vocab_size"), width)
    for i in range(c.layers("n_layers")):
        yield from mpt_layer(c, f"{at}blocks.{i}.")
    bias = remote(c) and not c.flag("no_bias")
    yield from norm(f"{at}norm_f", width, bias=bias)


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

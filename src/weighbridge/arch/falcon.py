"""Falcon, and RefinedWeb as it was called while its code was remote.

    query_key_value    new decoder architecture (2 K + N) H; multi query D + 2 H; else 3 D
    norms              new architecture with two: ln_attn, ln_mlp; parallel: one; else two

Source: transformers 5.23 models/falcon/modeling_falcon.py; the remote configs of RefinedWebModel
(7B: multi_query) and RefinedWeb (40B: n_head_kv, always the new architecture).
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import LEGACY_HEADS
from weighbridge.arch.rotary import rotary
from weighbridge.arch.table import differs


def heads(c: Config) -> int:
    return c.num("num_attention_heads", "n_head")


def new_architecture(c: Config) -> bool:
    return c.flag("new_decoder_architecture", default=differs(c.model_type, "two_norms"))


def qkv_rows(c: Config) -> int:
    width = c.num("hidden_size")
    size = width // max(1, heads(c))
    if new_architecture(c):
        return (2 * c.num("num_kv_heads", "n_head_kv", default=heads(c)) + heads(c)) * size
    return width + 2 * size if c.flag("multi_query") else 3 * width


def norm_names(c: Config) -> tuple[str, ...]:
    if not c.flag("parallel_attn", default=new_architecture(c)):
        return ("post_attention_layernorm", "input_layernorm")
    count = c.num("num_ln_in_parallel_attn", default=2 if new_architecture(c) else 1)
    return ("ln_attn", "ln_mlp") if count == 2 else ("input_layernorm",)


def layer(c: Config, at: str) -> Iterator[Param]:
    width, bias = c.num("hidden_size"), c.flag("bias")
    inner = c.num("ffn_hidden_size", default=4 * width)
    yield from linear(f"{at}self_attention.query_key_value", qkv_rows(c), width, bias=bias)
    yield from linear(f"{at}self_attention.dense", width, width, bias=bias)
    yield from linear(f"{at}mlp.dense_h_to_4h", inner, width, bias=bias)
    yield from linear(f"{at}mlp.dense_4h_to_h", width, inner, bias=bias)
    for name in norm_names(c):
        yield from norm(f"{at}{name}", width, bias=True)


def body(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{at}word_embeddings", c.num("vocab_size"), width)
    for i in range(c.layers("num_hidden_layers", "n_layer")):
        yield from layer(c, f"{at}h.{i}.")
    yield from norm(f"{at}ln_f", width, bias=True)


FALCON = Family(
    body=body,
    base="transformer",
    cls="FalconForCausalLM",
    heads=LEGACY_HEADS,
    buffers=rotary,
    blocks=("h.*",),
)
REFINED_WEB = Family(
    body=body,
    base="transformer",
    cls="RWForCausalLM",
    heads=LEGACY_HEADS,
    blocks=("h.*",),
    ties=True,
)

"""EXAONE 3 and 3.5 (remote code): GPT-Neo's names around Llama's layer.

    attn.attention.{q,k,v,out}_proj; mlp.c_fc_0, c_fc_1 F x D, c_proj D x F; two RMSNorms

Source: LGAI-EXAONE/EXAONE-3.5-* modeling_exaone.py (remote code).
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import head_dim
from weighbridge.arch.written import kv_heads


def layer(c: Config, at: str) -> Iterator[Param]:
    width, inner, size = c.num("hidden_size"), c.num("intermediate_size"), head_dim(c)
    queries, keys = c.num("num_attention_heads") * size, kv_heads(c) * size
    for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        yield from linear(f"{at}attn.attention.{name}", rows, width)
    yield from linear(f"{at}attn.attention.out_proj", width, queries)
    yield from linear(f"{at}mlp.c_fc_0", inner, width)
    yield from linear(f"{at}mlp.c_fc_1", inner, width)
    yield from linear(f"{at}mlp.c_proj", width, inner)
    yield from norm(f"{at}ln_1", width)
    yield from norm(f"{at}ln_2", width)


def body(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{at}wte", c.num("vocab_size"), width)
    for i in range(c.layers("num_layers", "num_hidden_layers")):
        yield from layer(c, f"{at}h.{i}.")
    yield from norm(f"{at}ln_f", width)


EXAONE = Family(
    body=body,
    base="transformer",
    cls="ExaoneForCausalLM",
    heads=DECODER_HEADS,
    blocks=("h.*",),
    ties=True,
)

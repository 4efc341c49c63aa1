"""GPT-Neo: GPT-2 with plain Linears and every other layer local.

    wte V x D, wpe P x D, L layers of (q, k, v without bias, out; c_fc, c_proj; two norms), ln_f

Every layer holds its mask, P x P booleans, in transformers 4 and 5 alike.
Source: transformers 5.23 models/gpt_neo/modeling_gpt_neo.py; 4.57.1 for `masked_bias`.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import LEGACY_HEADS


def layer(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    inner = c.num("intermediate_size", default=4 * width)
    yield from norm(f"{at}ln_1", width, bias=True)
    for name in ("k_proj", "v_proj", "q_proj"):
        yield from linear(f"{at}attn.attention.{name}", width, width)
    yield from linear(f"{at}attn.attention.out_proj", width, width, bias=True)
    yield from norm(f"{at}ln_2", width, bias=True)
    yield from linear(f"{at}mlp.c_fc", inner, width, bias=True)
    yield from linear(f"{at}mlp.c_proj", width, inner, bias=True)


def body(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{at}wte", c.num("vocab_size"), width)
    yield from embedding(f"{at}wpe", c.num("max_position_embeddings"), width)
    for i in range(c.layers("num_layers")):
        yield from layer(c, f"{at}h.{i}.")
    yield from norm(f"{at}ln_f", width, bias=True)


def masks(c: Config, at: str) -> Iterator[Buffer]:
    side = c.num("max_position_embeddings")
    for i in range(c.layers("num_layers")):
        here = f"{at}h.{i}.attn.attention"
        yield Buffer(f"{here}.bias", (1, 1, side, side), "bool")
        yield Buffer(f"{here}.masked_bias", (), "", until=5)


GPT_NEO = Family(
    body=body,
    base="transformer",
    cls="GPTNeoForCausalLM",
    heads=LEGACY_HEADS,
    buffers=masks,
    blocks=("h.*",),
)

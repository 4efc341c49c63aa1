"""GPT-2 and GPT-BigCode (StarCoder, SantaCoder), which is GPT-2 with one key-value head.

    wte V x D, wpe P x D, L layers of (c_attn, c_proj; c_fc, c_proj; two LayerNorms), ln_f

GPT-2's weights are Conv1D: [in, out]. transformers 4 kept a causal mask of P x P booleans in every
layer (models/gpt2/modeling_gpt2.py @ 4.57.1: `bias`, `masked_bias`); 5 keeps none. GPT-BigCode has
one mask in all. Source: transformers 5.23 models/{gpt2,gpt_bigcode}/modeling_*.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.arch.blueprint import (
    Buffer,
    Family,
    Param,
    conv1d,
    embedding,
    linear,
    norm,
)
from weighbridge.arch.config import Config
from weighbridge.arch.heads import LEGACY_HEADS, causal_lm

Module = Callable[..., Iterator[Param]]  # (path, outputs, inputs, *, bias)


def attention(module: Module, at: str, width: int, keys: int) -> Iterator[Param]:
    yield from module(f"{at}c_attn", width + 2 * keys, width, bias=True)
    yield from module(f"{at}c_proj", width, width, bias=True)


def cross_attention(module: Module, at: str, width: int) -> Iterator[Param]:
    """Keys and values come from an encoder, queries from here."""
    yield from module(f"{at}crossattention.c_attn", 2 * width, width, bias=True)
    yield from module(f"{at}crossattention.q_attn", width, width, bias=True)
    yield from module(f"{at}crossattention.c_proj", width, width, bias=True)
    yield from norm(f"{at}ln_cross_attn", width, bias=True)


def layer(c: Config, at: str, module: Module, keys: int) -> Iterator[Param]:
    width = c.num("n_embd")
    inner = c.num("n_inner", default=4 * width)
    yield from norm(f"{at}ln_1", width, bias=True)
    yield from attention(module, f"{at}attn.", width, keys)
    yield from norm(f"{at}ln_2", width, bias=True)
    if c.flag("add_cross_attention"):
        yield from cross_attention(module, at, width)
    yield from module(f"{at}mlp.c_fc", inner, width, bias=True)
    yield from module(f"{at}mlp.c_proj", width, inner, bias=True)


def decoder(c: Config, at: str, module: Module, keys: int) -> Iterator[Param]:
    width = c.num("n_embd")
    c.skip("n_head", "n_ctx")
    yield from embedding(f"{at}wte", c.num("vocab_size"), width)
    yield from embedding(f"{at}wpe", c.num("n_positions"), width)
    for i in range(c.layers("n_layer")):
        yield from layer(c, f"{at}h.{i}.", module, keys)
    yield from norm(f"{at}ln_f", width, bias=True)


def gpt2(c: Config, at: str) -> Iterator[Param]:
    yield from decoder(c, at, conv1d, c.num("n_embd"))


def gpt_bigcode(c: Config, at: str) -> Iterator[Param]:
    width = c.num("n_embd")
    keys = width // max(1, c.num("n_head")) if c.flag("multi_query", default=True) else width
    yield from decoder(c, at, linear, keys)


def masks(c: Config, at: str) -> Iterator[Buffer]:
    side = c.num("n_positions")
    for i in range(c.layers("n_layer")):
        yield Buffer(f"{at}h.{i}.attn.bias", (1, 1, side, side), "bool", until=5)
        yield Buffer(f"{at}h.{i}.attn.masked_bias", (), "", until=5)


def one_mask(c: Config, at: str) -> Iterator[Buffer]:
    yield Buffer(f"{at}bias", (c.num("n_positions"), c.num("n_positions")), "bool")


def double_heads(c: Config, at: str) -> Iterator[Param]:
    """The language model, and a classifier of a summary (GPT2SequenceSummary)."""
    yield from causal_lm(c, at)
    if c.flag("summary_use_proj", default=True):
        width = c.num("n_embd")
        # The class sets num_labels to 1, whatever the config says.
        rows = 1 if c.flag("summary_proj_to_labels", default=True) else width
        yield from linear(f"{at}multiple_choice_head.summary", rows, width, bias=True)


GPT2 = Family(
    body=gpt2,
    base="transformer",
    cls="GPT2LMHeadModel",
    heads={**LEGACY_HEADS, "DoubleHeadsModel": double_heads},
    buffers=masks,
    blocks=("h.*",),
)
GPT_BIGCODE = Family(
    body=gpt_bigcode,
    base="transformer",
    cls="GPTBigCodeForCausalLM",
    heads=LEGACY_HEADS,
    buffers=one_mask,
    blocks=("h.*",),
)

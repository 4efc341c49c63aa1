"""GPT-NeoX, Pythia, GPT-NeoX Japanese and Persimmon: queries, keys and values in one Linear.

    embed_in V x D, L layers of (query_key_value 3 D x D, dense; h_to_4h, 4h_to_h; two LayerNorms),
    final_layer_norm, embed_out V x D

Checkpoints call the head `embed_out`. Japanese has no biases in its Linears; its last layer alone
has a bare `dense_bias`. Persimmon spells embedding and head as Llama does.
Source: transformers 5.23 models/{gpt_neox,gpt_neox_japanese,persimmon}/modeling_*.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Body, Buffer, Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS, LEGACY_HEADS, lm_called
from weighbridge.arch.rotary import frequencies, head_dim, partly_rotary, share
from weighbridge.arch.written import stack


def neox_layer(c: Config, at: str) -> Iterator[Param]:
    width, inner, bias = c.num("hidden_size"), c.num("intermediate_size"), c.flag("attention_bias")
    yield from linear(f"{at}attention.query_key_value", 3 * width, width, bias=bias)
    yield from linear(f"{at}attention.dense", width, width, bias=bias)
    yield from linear(f"{at}mlp.dense_h_to_4h", inner, width, bias=True)
    yield from linear(f"{at}mlp.dense_4h_to_h", width, inner, bias=True)
    yield from norm(f"{at}input_layernorm", width, bias=True)
    yield from norm(f"{at}post_attention_layernorm", width, bias=True)


def japanese_layer(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    inner = width * c.num("intermediate_multiple_size")
    yield from linear(f"{at}attention.query_key_value", 3 * width, width)
    yield from linear(f"{at}attention.dense", width, width)
    yield from linear(f"{at}mlp.dense_h_to_4h", inner, width)
    yield from linear(f"{at}mlp.dense_4h_to_h", width, inner)
    yield from norm(f"{at}input_layernorm", width, bias=True)
    yield from norm(f"{at}post_attention_layernorm", width, bias=True)


def neox(c: Config, at: str, one: Body) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{at}embed_in", c.num("vocab_size"), width)
    for i in range(c.layers("num_hidden_layers")):
        yield from one(c, f"{at}layers.{i}.")
    yield from norm(f"{at}final_layer_norm", width, bias=True)


def japanese(c: Config, at: str) -> Iterator[Param]:
    yield from neox(c, at, japanese_layer)
    last = c.layers("num_hidden_layers") - 1
    if last >= 0:
        path = f"{at}layers.{last}.attention.dense_bias"
        yield Param(path, (c.num("hidden_size"),), "bias")


def persimmon_layer(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from linear(f"{at}self_attn.query_key_value", 3 * width, width, bias=True)
    yield from linear(f"{at}self_attn.dense", width, width, bias=True)
    if c.flag("qk_layernorm"):
        for name in ("q_layernorm", "k_layernorm"):
            size = width // max(1, c.num("num_attention_heads"))
            yield from norm(f"{at}self_attn.{name}", size, bias=True)
    yield from linear(f"{at}mlp.dense_h_to_4h", inner, width, bias=True)
    yield from linear(f"{at}mlp.dense_4h_to_h", width, inner, bias=True)
    yield from norm(f"{at}input_layernorm", width, bias=True)
    yield from norm(f"{at}post_attention_layernorm", width, bias=True)


def rotary(c: Config, at: str, *, part: float) -> Iterator[Buffer]:
    """`rotary_pct` is their name for the share that is rotated."""
    yield from frequencies(
        f"{at}rotary_emb.", int(head_dim(c) * share(c, "rotary_pct", default=part))
    )


def reward(c: Config, at: str) -> Iterator[Param]:
    """GPTNeoXRewardModel of Open-Assistant: one score (model_training/models/reward_model.py)."""
    yield from linear(f"{at}out_proj", 1, c.num("hidden_size"), bias=True)


GPT_NEOX = Family(
    body=partial(neox, one=neox_layer),
    base="gpt_neox",
    cls="GPTNeoXForCausalLM",
    heads={**LEGACY_HEADS, "ForCausalLM": lm_called("embed_out", "gpt_neox.embed_in")},
    buffers=partial(rotary, part=0.25),
)
GPT_NEOX_REWARD = Family(
    body=partial(neox, one=neox_layer),
    base="gpt_neox",
    cls="GPTNeoXRewardModel",
    heads={"RewardModel": reward},
    buffers=partial(rotary, part=0.25),
)
GPT_NEOX_JAPANESE = Family(
    body=japanese,
    base="gpt_neox_japanese",
    cls="GPTNeoXJapaneseForCausalLM",
    heads={"ForCausalLM": lm_called("embed_out", "gpt_neox_japanese.embed_in")},
    buffers=partial(rotary, part=1.0),
)
PERSIMMON = Family(
    body=partial(stack, one=persimmon_layer, last="final_layernorm", norm_bias=True),
    cls="PersimmonForCausalLM",
    heads=DECODER_HEADS,
    buffers=partly_rotary(0.5),
)

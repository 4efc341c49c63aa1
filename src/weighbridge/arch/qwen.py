"""Qwen 1 (remote code): GPT-2's names around a Llama-like layer.

    c_attn 3 N H x D with bias, c_proj; w1, w2 (F / 2) x D, mlp.c_proj D x F / 2; two RMSNorms

`intermediate_size` counts both halves of the gated MLP. Early configs use Megatron's names.
Source: Qwen/Qwen-7B modeling_qwen.py (remote code), as the weight maps show it.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import labels
from weighbridge.errors import UnsupportedError


def width_of(c: Config) -> int:
    return c.num("hidden_size", "n_embd")


def vocabulary(c: Config) -> int:
    return c.num("vocab_size", "padded_vocab_size")


def layer(c: Config, at: str) -> Iterator[Param]:
    width, bias = width_of(c), not c.flag("no_bias", default=True)
    heads = c.num("num_attention_heads", "n_head")
    inner = c.num("intermediate_size", "ffn_hidden_size") // 2
    projected = heads * c.num("kv_channels", default=width // max(1, heads))
    yield from norm(f"{at}ln_1", width)
    yield from linear(f"{at}attn.c_attn", 3 * projected, width, bias=True)
    yield from linear(f"{at}attn.c_proj", width, projected, bias=bias)
    yield from norm(f"{at}ln_2", width)
    yield from linear(f"{at}mlp.w1", inner, width, bias=bias)
    yield from linear(f"{at}mlp.w2", inner, width, bias=bias)
    yield from linear(f"{at}mlp.c_proj", width, inner, bias=bias)


def body(c: Config, at: str) -> Iterator[Param]:
    if c.has("visual"):
        raise UnsupportedError(f"{c.where}: visual: Qwen-VL's image tower is not in our tables")
    yield from embedding(f"{at}wte", vocabulary(c), width_of(c))
    for i in range(c.layers("num_hidden_layers", "n_layer")):
        yield from layer(c, f"{at}h.{i}.")
    yield from norm(f"{at}ln_f", width_of(c))


def lm(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}lm_head", vocabulary(c), width_of(c))


def score(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}score", labels(c), width_of(c))


QWEN = Family(
    body=body,
    base="transformer",
    cls="QWenLMHeadModel",
    heads={"LMHeadModel": lm, "ForCausalLM": lm, "ForSequenceClassification": score},
    blocks=("h.*",),
)

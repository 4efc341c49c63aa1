"""RecurrentGemma (Griffin): two layers of a gated linear recurrence to one of local attention.

    recurrence of width R in N blocks: linear_x and linear_y R x D, convolution R x k, two gates of
    N (R/N)^2 weights, R decays, linear_out D x R; the MLP is F/2 wide

Source: transformers 5.23 models/recurrent_gemma/modeling_recurrent_gemma.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, gated_mlp, linear
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, stack
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import frequencies, share
from weighbridge.arch.written import kv_heads, norms


def recurrence(c: Config, at: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), c.num("num_attention_heads")
    wide = c.num("lru_width", default=width)
    size = wide // max(1, heads)
    yield from linear(f"{at}linear_y", wide, width, bias=True)
    yield from linear(f"{at}linear_x", wide, width, bias=True)
    yield from linear(f"{at}linear_out", width, wide, bias=True)
    yield from conv(f"{at}conv_1d", (wide, 1, c.num("conv1d_width")))
    yield Param(f"{at}rg_lru.recurrent_param", (wide,), "other")
    for gate in ("input", "recurrent"):
        yield Param(f"{at}rg_lru.{gate}_gate_weight", (heads, size, size), "other")
        yield Param(f"{at}rg_lru.{gate}_gate_bias", (heads, size), "other")


def head_size(c: Config) -> int:
    return c.num("hidden_size") // max(1, c.num("num_attention_heads"))


def attention(c: Config, at: str) -> Iterator[Param]:
    width, heads, size = c.num("hidden_size"), c.num("num_attention_heads"), head_size(c)
    bias = c.flag("attention_bias")
    yield from linear(f"{at}q_proj", heads * size, width, bias=bias)
    yield from linear(f"{at}k_proj", kv_heads(c) * size, width, bias=bias)
    yield from linear(f"{at}v_proj", kv_heads(c) * size, width, bias=bias)
    yield from linear(f"{at}o_proj", width, heads * size, bias=True)


def pattern(c: Config) -> list[str]:
    """block_types, over and over."""
    found = [str(kind) for kind in c.many("block_types")] or ["recurrent", "recurrent", "attention"]
    return [found[i % len(found)] for i in range(c.layers("num_hidden_layers"))]


def recurrent_gemma(c: Config, at: str) -> Iterator[Param]:
    found = pattern(c)

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        mixer = recurrence if found[i] == "recurrent" else attention
        yield from mixer(c, f"{at}temporal_block.")
        inner = c.num("intermediate_size") // 2
        yield from gated_mlp(f"{at}mlp_block", c.num("hidden_size"), inner, bias=True)
        yield from norms(c, at, ("temporal_pre_norm", "channel_pre_norm"))

    yield from stack(c, at, layer, Names(final="final_norm"))


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    """A rotary module in each layer that attends, and the scale of the embedding."""
    yield Buffer(f"{at}normalizer", (), "bfloat16")
    rotated = int(head_size(c) * share(c, "partial_rotary_factor", default=0.5))
    for i, kind in enumerate(pattern(c)):
        if kind != "recurrent":
            yield from frequencies(f"{at}layers.{i}.temporal_block.rotary_emb.", rotated)


RECURRENT_GEMMA = Family(
    body=recurrent_gemma,
    cls="RecurrentGemmaForCausalLM",
    heads=DECODER_HEADS,
    buffers=buffers,
)

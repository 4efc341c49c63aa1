"""Latent attention with a dense MLP (MiniCPM 3, Youtu), and MiniCPM 1, 2 and 4, which is Llama.

    MiniCPM-MoE keeps E whole MLPs a layer beside a gate E x D

Source: transformers 5.23 models/{minicpm3,youtu}/modeling_*.py; openbmb/MiniCPM-MoE-8x2B
modeling_minicpm.py (remote code) for `minicpm`.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from weighbridge.arch.blueprint import Buffer, Family, Param, experts, gated_mlp
from weighbridge.arch.config import Config
from weighbridge.arch.deepseek import latent, latent_rotary
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import BEFORE
from weighbridge.arch.written import Switches, attention, norms, stack


def latent_layer(c: Config, at: str) -> Iterator[Param]:
    yield from latent(c, f"{at}self_attn.")
    bias = c.flag("mlp_bias")
    yield from gated_mlp(f"{at}mlp", c.num("hidden_size"), c.num("intermediate_size"), bias=bias)
    yield from norms(c, at, BEFORE)


def mixture(c: Config, at: str, count: int) -> Iterator[Param]:
    width, inner, top_k = (
        c.num("hidden_size"),
        c.num("intermediate_size"),
        c.num("num_experts_per_tok"),
    )
    yield Param(f"{at}gate.weight", (count, width), "router")
    one = partial(gated_mlp, width=width, inner=inner)
    yield from experts(f"{at}experts.", one, top_k=top_k, count=count)


def minicpm_layer(c: Config, at: str) -> Iterator[Param]:
    bias, count = c.flag("attention_bias"), c.num("num_experts", default=0)
    yield from attention(c, f"{at}self_attn.", Switches(qkv_bias=bias, o_bias=bias))
    if count:
        yield from mixture(c, f"{at}mlp.", count)
    else:
        yield from gated_mlp(f"{at}mlp", c.num("hidden_size"), c.num("intermediate_size"))
    yield from norms(c, at, BEFORE)


def minicpm3_buffers(c: Config, at: str) -> Iterator[Buffer]:
    whole = isinstance(c.get("scale_emb"), int)  # torch.tensor of an int stays one
    yield Buffer(f"{at}embed_tokens.embed_scale", (), "int64" if whole else "")
    yield from latent_rotary(c, at)


MINICPM = Family(
    body=partial(stack, one=minicpm_layer), cls="MiniCPMForCausalLM", heads=DECODER_HEADS, ties=True
)
MINICPM3 = Family(
    body=partial(stack, one=latent_layer),
    cls="MiniCPM3ForCausalLM",
    heads=DECODER_HEADS,
    buffers=minicpm3_buffers,
)
YOUTU = replace(MINICPM3, cls="YoutuForCausalLM", buffers=latent_rotary)

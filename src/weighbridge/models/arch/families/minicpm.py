"""Latent attention with a dense MLP (MiniCPM 3, Youtu), and MiniCPM 1, 2 and 4, which is Llama.

    MiniCPM-MoE keeps E whole MLPs a layer beside a gate E x D

Source: transformers 5.23 models/{minicpm3,youtu}/modeling_*.py; openbmb/MiniCPM-MoE-8x2B
modeling_minicpm.py (remote code) for `minicpm`.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.base.records import replace
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Param, experts, gated_mlp
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    alike,
    gated,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.deepseek import latent, latent_rotary
from weighbridge.models.arch.families.llama import LlamaSwitches, attention
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.sparse import RoutedExperts, fed
from weighbridge.models.arch.windows import layer_kinds


def latent_layer(c: Config) -> Submodules:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    mlp = gated("mlp", width, inner, bias=c.flag("mlp_bias"))
    return (latent(c), mlp, normed(width, *BEFORE))


def minicpm3(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: latent_layer(c)))


def mixture(c: Config, count: int) -> Submodule:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    e = RoutedExperts(count=count, inner=inner, top_k=c.num("num_experts_per_tok"))
    one = partial(gated_mlp, width=width, inner=inner)
    return submodule(
        [Param("mlp.gate.weight", (count, width), "router")],
        experts("mlp.experts.", one, top_k=e.top_k, count=count),
        feed=fed(e),
    )


def minicpm_layer(c: Config) -> Submodules:
    bias, count = c.flag("attention_bias"), c.num("num_experts", default=0)
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    return (
        attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias)),
        mixture(c, count) if count else gated("mlp", width, inner),
        normed(width, *BEFORE),
    )


def minicpm(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: minicpm_layer(c)), kinds=layer_kinds)


def minicpm3_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    whole = isinstance(c.get("scale_emb"), int)  # torch.tensor of an int stays one
    yield Buffer(f"{prefix}embed_tokens.embed_scale", (), "int64" if whole else "")
    yield from latent_rotary(c, prefix)


MINICPM = DecoderFamily(tree=minicpm, cls="MiniCPMForCausalLM", ties=True)
MINICPM3 = DecoderFamily(tree=minicpm3, cls="MiniCPM3ForCausalLM", buffers=minicpm3_buffers)
YOUTU = replace(MINICPM3, cls="YoutuForCausalLM", buffers=latent_rotary)

TYPES = {
    "minicpm": ModelType(MINICPM, windows=windows.everywhere),
    "minicpm3": ModelType(MINICPM3),
    "youtu": ModelType(YOUTU, gguf="deepseek2"),
}

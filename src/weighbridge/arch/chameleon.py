"""Chameleon: images are words, made by a VQGAN, in the vocabulary of one Llama.

Queries and keys have a LayerNorm of its own for every head. Source: transformers 5.23
models/chameleon/modeling_chameleon.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Param, gated_mlp
from weighbridge.arch.compose import Inner, composite
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.inputs import images
from weighbridge.arch.llama import LlamaSwitches, attention
from weighbridge.arch.model_types import ModelType, Sight, TransformersFacts
from weighbridge.arch.modules import below
from weighbridge.arch.rotary import head_dim, rotary

VQ = Inner(path="vqmodel.", config="vq_config", label="vision tower")


def head_norms(c: Config, at: str) -> Iterator[Param]:
    heads = c.num("num_attention_heads")
    kv_heads = c.num("num_key_value_heads", default=heads)
    for name, count in (("q_norm", heads), ("k_norm", kv_heads)):
        for kind in ("weight", "bias"):
            yield Param(f"{at}{name}.{kind}", (count, head_dim(c)), "norm")


def text(c: Config, at: str) -> Iterator[Param]:
    bias, mlp_bias = c.flag("attention_bias"), c.flag("mlp_bias")

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        width, inner = c.num("hidden_size"), c.num("intermediate_size")
        yield from below(at, attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias)))
        yield from head_norms(c, f"{at}self_attn.")
        yield from gated_mlp(f"{at}mlp", width, inner, bias=mlp_bias)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


CHAMELEON = composite(
    VQ,
    own=text,
    held=rotary,
    cls="ChameleonForConditionalGeneration",
    heads={"ForConditionalGeneration": DECODER_HEADS["ForCausalLM"]},
    own_blocks=("layers.*",),
)

TYPES = {
    "chameleon": ModelType(
        CHAMELEON,
        layers="attention.usual",
        sees=Sight(images.always_1026),
        transformers=TransformersFacts(caches=(4, 43)),
    ),
}

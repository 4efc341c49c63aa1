"""Llama's relatives with something more inside: Apertus, BitNet, DiffLlama, nanochat.

    Apertus    no gate; xIELU with two learnt numbers; queries and keys normalised
    BitNet     a norm before o_proj and before down_proj
    DiffLlama  four vectors of head size that weigh two attentions against each other
    nanochat   fc1, fc2, and norms without weights

Source: transformers 5.23 models/{apertus,bitnet,diffllama,nanochat}/modeling_*.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, alike, tree
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import SPANS, LlamaSwitches, attention, layer
from weighbridge.arch.model_types import (
    MlxFacts,
    ModelType,
    SglangFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import Decoder, Submodules, submodule, ungated
from weighbridge.arch.rotary import head_dim, rotary
from weighbridge.arch.windows import layer_kinds


def biased(c: Config) -> LlamaSwitches:
    bias = c.flag("attention_bias")
    return LlamaSwitches(qkv_bias=bias, o_bias=bias)


def xielu(c: Config) -> bool:
    return c.word("hidden_act") == "xielu"


def apertus(c: Config) -> Submodules:
    names = ("attention_layernorm", "feedforward_layernorm")
    usual = layer(c, biased(c)._replace(qk_norm=True, norms=names, mlp=ungated))
    alphas = (Param(f"mlp.act_fn.alpha_{sign}", (1,), "other") for sign in "pn")
    return (*usual, submodule(alphas)) if xielu(c) else usual


def apertus_buffers(c: Config, at: str) -> Iterator[Buffer]:
    if xielu(c):
        for i in range(c.layers("num_hidden_layers")):
            yield Buffer(f"{at}layers.{i}.mlp.act_fn.beta", (), "", persistent=True)
            yield Buffer(f"{at}layers.{i}.mlp.act_fn.eps", (), "", persistent=True)
    yield from rotary(c, at)


def bitnet(c: Config) -> Submodules:
    wide = norm("self_attn.attn_sub_norm", c.num("hidden_size"))
    inner = norm("mlp.ffn_sub_norm", c.num("intermediate_size"))
    return (*layer(c, biased(c)), submodule(wide, inner))


def diffllama(c: Config) -> Submodules:
    names = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")
    weighed = (Param(f"self_attn.{name}", (head_dim(c),), "other") for name in names)
    return (*layer(c, biased(c)), submodule(weighed))


def nanochat(c: Config) -> Submodules:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    return (attention(c, biased(c)), ungated("mlp", width, inner, names=("fc1", "fc2")))


def like(layer: Callable[[Config], Submodules], last: str = "norm") -> Callable[[Config], Decoder]:
    """A decoder of such layers; without a last norm where it has no name."""
    return lambda c: tree(
        c, alike(c, lambda: layer(c)), DecoderNames(final=last), kinds=layer_kinds
    )


APERTUS = Family(
    tree=like(apertus),
    cls="ApertusForCausalLM",
    heads=DECODER_HEADS,
    buffers=apertus_buffers,
)
BITNET = Family(
    tree=like(bitnet),
    cls="BitNetForCausalLM",
    heads=DECODER_HEADS,
    buffers=rotary,
)
DIFFLLAMA = Family(
    tree=like(diffllama),
    cls="DiffLlamaForCausalLM",
    heads=DECODER_HEADS,
    bases=SPANS,
    buffers=rotary,
)
NANOCHAT = Family(
    tree=like(nanochat, last=""),
    cls="NanoChatForCausalLM",
    heads=DECODER_HEADS,
    buffers=rotary,
)

TYPES = {
    "apertus": ModelType(
        APERTUS,
        vllm=VllmFacts(adapted_embedding=True, tied_head="freed"),
        sglang=SglangFacts(every_stage="head"),
        mlx=MlxFacts(has_class=True),
    ),
    "bitnet": ModelType(BITNET, mlx=MlxFacts(has_class=True)),
    "diffllama": ModelType(DIFFLLAMA, transformers=TransformersFacts(own_sdpa=True)),
    "nanochat": ModelType(NANOCHAT, mlx=MlxFacts(has_class=True)),
}

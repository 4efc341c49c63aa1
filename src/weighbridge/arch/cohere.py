"""Command R and Aya: Llama with one norm a layer, attention and MLP side by side after it.

Command R+ normalises queries and keys, each head with weights of its own.
Source: transformers 5.23 models/{cohere,cohere2}/modeling_*.py.
"""

from weighbridge.arch.blueprint import Family, Param
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import alike, tree
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import Switches, grouped, layer
from weighbridge.arch.modules import Decoder, Submodules, submodule
from weighbridge.arch.rotary import rotary
from weighbridge.arch.windows import layer_kinds


def one(c: Config) -> Submodules:
    bias, a = c.flag("attention_bias"), grouped(c)
    usual = layer(c, Switches(qkv_bias=bias, o_bias=bias, norms=("input_layernorm",)))
    if not c.flag("use_qk_norm"):
        return usual
    shapes = {"q_norm": (a.heads, a.key_dim), "k_norm": (a.kv_heads, a.key_dim)}
    norms = (Param(f"self_attn.{n}.weight", shape, "norm") for n, shape in shapes.items())
    return (*usual, submodule(norms))


def cohere(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: one(c)), kinds=layer_kinds)


COHERE = Family(tree=cohere, cls="CohereForCausalLM", heads=DECODER_HEADS, buffers=rotary)
COHERE2 = Family(
    tree=cohere,
    cls="Cohere2ForCausalLM",
    heads=DECODER_HEADS,
    buffers=rotary,
)

"""Command R and Aya: Llama with one norm a layer, attention and MLP side by side after it.

Command R+ normalises queries and keys, each head with weights of its own.
Source: transformers 5.23 models/{cohere,cohere2}/modeling_*.py.
"""

from weighbridge.arch import windows
from weighbridge.arch.blueprint import Family, Param
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import alike, tree
from weighbridge.arch.families.llama import LlamaSwitches, grouped, layer
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.model_types import (
    LlamaCppFacts,
    MlxFacts,
    ModelType,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import Decoder, Submodules, submodule
from weighbridge.arch.rotary import rotary
from weighbridge.arch.windows import layer_kinds


def one(c: Config) -> Submodules:
    bias, a = c.flag("attention_bias"), grouped(c)
    usual = layer(c, LlamaSwitches(qkv_bias=bias, o_bias=bias, norms=("input_layernorm",)))
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

TYPES = {
    "cohere": ModelType(
        COHERE,
        computes=("parallel", "scaled_logits", "float_rotary"),
        gguf="command-r",
        training=TrainingFacts(net="decoders.cohere"),
        transformers=TransformersFacts(sdpa=(4, 40)),
        vllm=VllmFacts(every_stage="both"),
        mlx=MlxFacts(has_class=True),
    ),
    "cohere2": ModelType(
        COHERE2,
        windows=windows.period(4, "sliding_window_pattern"),
        computes=("parallel", "scaled_logits", "whole_layers_unrotated", "float_rotary"),
        training=TrainingFacts(net="decoders.cohere"),
        vllm=VllmFacts(every_stage="both"),
        llama_cpp=LlamaCppFacts(windows=True),
        mlx=MlxFacts(has_class=True, own_caches=True, windows="always"),
    ),
}

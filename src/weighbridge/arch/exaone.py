"""EXAONE 3 and 3.5 (remote code): GPT-Neo's names around Llama's layer.

    attn.attention.{q,k,v,out}_proj; mlp.c_fc_0, c_fc_1 F x D, c_proj D x F; two RMSNorms

Source: LGAI-EXAONE/EXAONE-3.5-* modeling_exaone.py (remote code).
"""

from weighbridge.arch.blueprint import Family
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, alike, tree
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import grouped
from weighbridge.arch.model_types import MlxFacts, ModelType, VllmFacts
from weighbridge.arch.modules import Decoder, Submodules, gqa, named_gated, normed
from weighbridge.arch.windows import layer_kinds

HERE = "attn.attention."


def layer(c: Config) -> Submodules:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    return (
        gqa(HERE, width, grouped(c), names=("q_proj", "k_proj", "v_proj", "out_proj")),
        named_gated("mlp.", width, inner, names=("c_fc_0", "c_fc_1", "c_proj")),
        normed(width, "ln_1", "ln_2"),
    )


def exaone(c: Config) -> Decoder:
    layers = alike(c, lambda: layer(c), "num_layers", "num_hidden_layers")
    return tree(c, layers, DecoderNames(embed="wte", layers="h", final="ln_f"), kinds=layer_kinds)


EXAONE = Family(
    tree=exaone,
    base="transformer",
    cls="ExaoneForCausalLM",
    heads=DECODER_HEADS,
    blocks=("h.*",),
    ties=True,
)

TYPES = {
    "exaone": ModelType(
        EXAONE, vllm=VllmFacts(adapted_embedding=True), mlx=MlxFacts(has_class=True)
    ),
}

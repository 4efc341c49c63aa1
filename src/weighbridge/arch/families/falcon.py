"""Falcon, and RefinedWeb as it was called while its code was remote.

    query_key_value    new decoder architecture (2 K + N) H; multi query D + 2 H; else 3 D
    norms              new architecture with two: ln_attn, ln_mlp; parallel: one; else two

Source: transformers 5.23 models/falcon/modeling_falcon.py; the remote configs of RefinedWebModel
(7B: multi_query) and RefinedWeb (40B: n_head_kv, always the new architecture).
"""

from weighbridge.arch.blueprint import Family, linear
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, alike, tree
from weighbridge.arch.heads import LEGACY_HEADS
from weighbridge.arch.model_types import (
    ModelType,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
    differs,
)
from weighbridge.arch.modules import Decoder, Submodules, normed, submodule, ungated
from weighbridge.arch.parts import Attention
from weighbridge.arch.rotary import rotary
from weighbridge.arch.windows import layer_kinds


def heads(c: Config) -> int:
    return c.num("num_attention_heads", "n_head")


def new_architecture(c: Config) -> bool:
    return c.flag("new_decoder_architecture", default=differs(c.model_type, "two_norms"))


def kv_heads(c: Config) -> int:
    """`multi_query` is one head; the new architecture has `num_kv_heads`."""
    if new_architecture(c):
        return c.num("num_kv_heads", "n_head_kv", default=heads(c))
    return 1 if c.flag("multi_query") else heads(c)


def norm_names(c: Config) -> tuple[str, ...]:
    if not c.flag("parallel_attn", default=new_architecture(c)):
        return ("post_attention_layernorm", "input_layernorm")
    count = c.num("num_ln_in_parallel_attn", default=2 if new_architecture(c) else 1)
    return ("ln_attn", "ln_mlp") if count == 2 else ("input_layernorm",)


def layer(c: Config) -> Submodules:
    width, bias, n = c.num("hidden_size"), c.flag("bias"), heads(c)
    size, kv = width // max(1, n), kv_heads(c)
    queries = n * size if new_architecture(c) else width
    rows = 3 * width if kv == n and not new_architecture(c) else queries + 2 * kv * size
    return (
        submodule(
            linear("self_attention.query_key_value", rows, width, bias=bias),
            linear("self_attention.dense", width, width, bias=bias),
            mixer=Attention(heads=n, kv_heads=kv, key_dim=size, value_dim=size),
        ),
        ungated(
            "mlp",
            width,
            c.num("ffn_hidden_size", default=4 * width),
            names=("dense_h_to_4h", "dense_4h_to_h"),
            bias=bias,
        ),
        normed(width, *norm_names(c), bias=True),
    )


def falcon(c: Config) -> Decoder:
    layers = alike(c, lambda: layer(c), "num_hidden_layers", "n_layer")
    names = DecoderNames(embed="word_embeddings", layers="h", final="ln_f", norm_bias=True)
    return tree(c, layers, names, kinds=layer_kinds)


FALCON = Family(
    tree=falcon,
    base="transformer",
    cls="FalconForCausalLM",
    heads=LEGACY_HEADS,
    buffers=rotary,
    blocks=("h.*",),
)
REFINED_WEB = Family(
    tree=falcon,
    base="transformer",
    cls="RWForCausalLM",
    heads=LEGACY_HEADS,
    blocks=("h.*",),
    ties=True,
)

TYPES = {
    "RefinedWeb": ModelType(
        REFINED_WEB,
        positions_of="falcon",
        computes=("parallel", "two_norms", "own_softmax", "raw_scores", "lingering_scores"),
        gguf="falcon",
        training=TrainingFacts(lora=("query_key_value",)),
        transformers=TransformersFacts(repeated_cache=True),
    ),
    "RefinedWebModel": ModelType(
        REFINED_WEB,
        positions_of="falcon",
        computes=("own_softmax", "raw_scores", "lingering_scores"),
        gguf="falcon",
        training=TrainingFacts(lora=("query_key_value",)),
    ),
    "falcon": ModelType(
        FALCON,
        computes=("parallel", "one_kv_head", "own_softmax", "raw_scores", "lingering_scores"),
        training=TrainingFacts(net="falcon.falcon", lora=("query_key_value",), litgpt="parallel"),
        transformers=TransformersFacts(
            caches=(4, 45),
            last_logits=(4, 47),
            rotary_tables=((4, 34), (4, 45)),
            plain_loss=(4, 48),
            repeated_cache=True,
        ),
        vllm=VllmFacts(every_stage="both"),
    ),
}

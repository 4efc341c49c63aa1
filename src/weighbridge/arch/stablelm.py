"""StableLM 2 and 3B, and `stablelm_epoch`, the same while its code was remote.

    Llama with LayerNorms, biases on q, k, v by choice, one norm when blocks run side by side, and
    (12B) one LayerNorm without bias for every head of queries and keys

Source: transformers 5.23 models/stablelm/modeling_stablelm.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import BEFORE, DecoderNames, alike, tree
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import LlamaSwitches, kv_heads, layer
from weighbridge.arch.model_types import (
    MlxFacts,
    ModelType,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import Decoder, Submodules, submodule
from weighbridge.arch.rotary import partly_rotary
from weighbridge.arch.windows import layer_kinds


def one(c: Config) -> Submodules:
    names = BEFORE[:1] if c.flag("use_parallel_residual") else BEFORE
    usual = layer(c, LlamaSwitches(qkv_bias=c.flag("use_qkv_bias"), norms=names, norm_bias=True))
    return (*usual, submodule(each_head(c))) if c.flag("qk_layernorm") else usual


def each_head(c: Config) -> Iterator[Param]:
    heads = c.num("num_attention_heads")
    size = c.num("hidden_size") // max(1, heads)
    for name, count in (("q_layernorm", heads), ("k_layernorm", kv_heads(c))):
        for i in range(count):
            yield from norm(f"self_attn.{name}.norms.{i}", size)


def stablelm(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: one(c)), DecoderNames(norm_bias=True), kinds=layer_kinds)


STABLELM = Family(
    tree=stablelm,
    cls="StableLmForCausalLM",
    heads=DECODER_HEADS,
    buffers=partly_rotary(0.25),
)

TYPES = {
    "stablelm": ModelType(
        STABLELM,
        computes=("holds_normed", "holds_attended"),
        training=TrainingFacts(net="decoders.stablelm", lora=("q_proj", "v_proj")),
        transformers=TransformersFacts(
            sdpa=(4, 40), rotary_tables=((4, 38), (4, 45)), own_sdpa=True, plain_loss=(4, 48)
        ),
        vllm=VllmFacts(every_stage="both"),
        mlx=MlxFacts(has_class=True),
    ),
    "stablelm_epoch": ModelType(STABLELM),
}

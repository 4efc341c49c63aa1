"""Nemotron NAS (DeciLM, remote code): Llama whose layers were searched one by one.

    block_configs[i].attention   no_op, or one Linear, or N / n_heads_in_group key-value heads
    block_configs[i].ffn         no_op, or one Linear, or F = 2/3 ffn_mult D, to a multiple of 256

A block that is left out takes its norm with it. Source: nvidia/Llama-3_3-Nemotron-Super-49B-v1
configuration_decilm.py and modeling_decilm.py (remote code).
"""

from weighbridge.arch.attention import Attention
from weighbridge.arch.blueprint import Family, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.model_types import MlxFacts, ModelType, SglangFacts, VllmFacts
from weighbridge.arch.modules import (
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gated,
    gqa,
    normed,
    submodule,
)
from weighbridge.arch.rotary import head_dim
from weighbridge.units import align_up

QUANTUM = 256


def attention(c: Config, block: Config) -> Submodule:
    width, size, heads = c.num("hidden_size"), head_dim(c), c.num("num_attention_heads")
    if block.flag("replace_with_linear"):
        return submodule(linear("self_attn.linear_attn", width, width))
    kv_heads = heads // max(1, block.num("n_heads_in_group"))
    a = Attention(heads=heads, kv_heads=kv_heads, key_dim=size, value_dim=size)
    bias = c.flag("attention_bias")
    return gqa("self_attn.", width, a, bias=(bias, bias))


def feed_forward(c: Config, block: Config) -> Submodule:
    width = c.num("hidden_size")
    if block.flag("replace_with_linear"):
        return submodule(linear("mlp.linear_mlp", width, width))
    inner = align_up(int(2 * block.ratio("ffn_mult") * width / 3), QUANTUM)
    return gated("mlp", width, inner, bias=c.flag("mlp_bias"))


def layer(c: Config, block: Config) -> Submodules:
    width, first, second = c.num("hidden_size"), block.sub("attention"), block.sub("ffn")
    before = () if first.flag("no_op") else (normed(width, "input_layernorm"), attention(c, first))
    if second.flag("no_op"):
        return before
    return (*before, normed(width, "post_attention_layernorm"), feed_forward(c, second))


def deci(c: Config) -> Decoder:
    count, blocks = c.layers("num_hidden_layers"), c.many("block_configs")
    if len(blocks) != count:
        raise c.error("block_configs", f"has {len(blocks)} entries for {count} layers")
    first: dict[str, int] = {}  # of blocks that are alike
    for i, raw in enumerate(blocks):
        if not isinstance(raw, dict):
            raise c.error(f"block_configs[{i}]", f"must be an object, not {raw!r}")
        first.setdefault(repr(raw), i)

    def at(i: int) -> Submodules:
        return layer(c, Config(blocks[i], where=f"{c.where}: block_configs[{i}]"))

    width = c.num("hidden_size")
    return Decoder(
        width=width,
        first=tuple(embedding("embed_tokens", c.num("vocab_size"), width)),
        layers=by_kind([first[repr(raw)] for raw in blocks], at),
        last=tuple(norm("norm", width)),
    )


DECI = Family(tree=deci, cls="DeciLMForCausalLM", heads=DECODER_HEADS)

TYPES = {
    "nemotron-nas": ModelType(
        DECI,
        gguf="deci",
        vllm=VllmFacts(adapted_embedding=True, tied_head="freed"),
        sglang=SglangFacts(every_stage="head"),
        mlx=MlxFacts(has_class=True, own_caches=True),
    ),
}

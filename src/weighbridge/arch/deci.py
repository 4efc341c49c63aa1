"""Nemotron NAS (DeciLM, remote code): Llama whose layers were searched one by one.

    block_configs[i].attention   no_op, or one Linear, or N / n_heads_in_group key-value heads
    block_configs[i].ffn         no_op, or one Linear, or F = 2/3 ffn_mult D, to a multiple of 256

A block that is left out takes its norm with it. Source: nvidia/Llama-3_3-Nemotron-Super-49B-v1
configuration_decilm.py and modeling_decilm.py (remote code).
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, embedding, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import head_dim
from weighbridge.units import align_up

QUANTUM = 256


def attention(c: Config, block: Config, at: str) -> Iterator[Param]:
    width, size, heads = c.num("hidden_size"), head_dim(c), c.num("num_attention_heads")
    if block.flag("replace_with_linear"):
        yield from linear(f"{at}linear_attn", width, width)
        return
    keys = heads // max(1, block.num("n_heads_in_group")) * size
    bias = c.flag("attention_bias")
    for name, rows in (("q_proj", heads * size), ("k_proj", keys), ("v_proj", keys)):
        yield from linear(f"{at}{name}", rows, width, bias=bias)
    yield from linear(f"{at}o_proj", width, heads * size, bias=bias)


def feed_forward(c: Config, block: Config, path: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    if block.flag("replace_with_linear"):
        yield from linear(f"{path}.linear_mlp", width, width)
        return
    inner = align_up(int(2 * block.ratio("ffn_mult") * width / 3), QUANTUM)
    yield from gated_mlp(path, width, inner, bias=c.flag("mlp_bias"))


def layer(c: Config, block: Config, at: str) -> Iterator[Param]:
    width, first, second = c.num("hidden_size"), block.sub("attention"), block.sub("ffn")
    if not first.flag("no_op"):
        yield from norm(f"{at}input_layernorm", width)
        yield from attention(c, first, f"{at}self_attn.")
    if not second.flag("no_op"):
        yield from norm(f"{at}post_attention_layernorm", width)
        yield from feed_forward(c, second, f"{at}mlp")


def body(c: Config, at: str) -> Iterator[Param]:
    count, blocks = c.layers("num_hidden_layers"), c.many("block_configs")
    if len(blocks) != count:
        raise c.error("block_configs", f"has {len(blocks)} entries for {count} layers")
    yield from embedding(f"{at}embed_tokens", c.num("vocab_size"), c.num("hidden_size"))
    for i, raw in enumerate(blocks):
        if not isinstance(raw, dict):
            raise c.error(f"block_configs[{i}]", f"must be an object, not {raw!r}")
        block = Config(raw, where=f"{c.where}: block_configs[{i}]")
        yield from layer(c, block, f"{at}layers.{i}.")
    yield from norm(f"{at}norm", c.num("hidden_size"))


DECI = Family(body=body, cls="DeciLMForCausalLM", heads=DECODER_HEADS)

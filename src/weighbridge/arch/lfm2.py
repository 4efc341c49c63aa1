"""LFM2: short gated convolutions and a few layers of attention; dense, or with experts.

    convolution layer: in_proj 3D x D, conv D x k, out_proj D x D
    feed-forward w1, w3 F x D and w2 D x F; F of the dense models is adjusted as Llama 1's was

Source: transformers 5.23 models/{lfm2,lfm2_moe}/{modeling,configuration}_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, kinds, stack
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import frequencies, head_dim, rotary
from weighbridge.arch.sparse import NUMBERED, correction, each, routed, router
from weighbridge.arch.written import kv_heads, norms
from weighbridge.units import ceil_div

NAMES = Names(final="embedding_norm")


def attention(c: Config, at: str) -> Iterator[Param]:
    width, size, heads = c.num("hidden_size"), head_dim(c), c.num("num_attention_heads")
    yield from linear(f"{at}q_proj", heads * size, width)
    yield from linear(f"{at}k_proj", kv_heads(c) * size, width)
    yield from linear(f"{at}v_proj", kv_heads(c) * size, width)
    yield from linear(f"{at}out_proj", width, heads * size)
    yield from norm(f"{at}q_layernorm", size)
    yield from norm(f"{at}k_layernorm", size)


def short_conv(c: Config, at: str) -> Iterator[Param]:
    width, bias = c.num("hidden_size"), c.flag("conv_bias")
    yield from conv(f"{at}conv", (width, 1, c.num("conv_L_cache")), bias=bias)
    yield from linear(f"{at}in_proj", 3 * width, width, bias=bias)
    yield from linear(f"{at}out_proj", width, width, bias=bias)


def mixer(c: Config, at: str, kind: str) -> Iterator[Param]:
    if kind == "conv":
        yield from short_conv(c, f"{at}conv.")
    else:
        yield from attention(c, f"{at}self_attn.")
    yield from norms(c, at, ("operator_norm", "ffn_norm"))


def numbered_mlp(at: str, width: int, inner: int) -> Iterator[Param]:
    yield from linear(f"{at}w1", inner, width)
    yield from linear(f"{at}w3", inner, width)
    yield from linear(f"{at}w2", width, inner)


def adjusted(c: Config) -> int:
    """Two thirds, times a factor, rounded up to a multiple."""
    inner = c.num("block_ff_dim", "intermediate_size")
    if not c.flag("block_auto_adjust_ff_dim"):
        return inner
    inner = 2 * inner // 3
    if c.null("block_ffn_dim_multiplier"):
        return inner
    multiple = max(1, c.num("block_multiple_of"))
    return multiple * ceil_div(
        int(c.ratio("block_ffn_dim_multiplier", default=1.0) * inner), multiple
    )


def lfm2_kinds(c: Config) -> list[str]:
    attends = frozenset(c.nums("full_attn_idxs"))
    everywhere = c.get("full_attn_idxs") is None
    return kinds(
        c, "layer_types", lambda i: "full_attention" if everywhere or i in attends else "conv"
    )


def lfm2(c: Config, at: str) -> Iterator[Param]:
    found, inner = lfm2_kinds(c), adjusted(c)
    c.skip("block_dim", "conv_dim", "conv_dim_out", "num_heads")  # repeat hidden size and heads

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        yield from mixer(c, at, found[i])
        yield from numbered_mlp(f"{at}feed_forward.", c.num("hidden_size"), inner)

    yield from stack(c, at, layer, NAMES)


def lfm2_moe(c: Config, at: str) -> Iterator[Param]:
    found, dense = lfm2_kinds(c), c.num("num_dense_layers")
    e = routed(c, "num_experts", "moe_intermediate_size")

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        yield from mixer(c, at, found[i])
        if i < dense:
            yield from numbered_mlp(f"{at}feed_forward.", width, c.num("intermediate_size"))
        else:
            yield from router(f"{at}feed_forward.gate", e.count, width)
            yield from each(f"{at}feed_forward.experts", width, e, NUMBERED)

    yield from stack(c, at, layer, NAMES)


def lfm2_moe_buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield from frequencies(f"{at}pos_emb.", head_dim(c))
    if c.flag("use_expert_bias"):
        dense, layers = c.num("num_dense_layers"), range(c.layers("num_hidden_layers"))
        sparse = [i >= dense for i in layers]
        yield from correction(at, sparse, "feed_forward.expert_bias", c.num("num_experts"))


def ties(c: Config) -> bool:
    """`tie_embedding` is the published spelling, and wins."""
    return c.flag("tie_embedding", default=c.flag("tie_word_embeddings", default=True))


LFM2 = Family(body=lfm2, cls="Lfm2ForCausalLM", heads=DECODER_HEADS, buffers=rotary, ties=ties)
LFM2_MOE = Family(
    body=lfm2_moe,
    cls="Lfm2MoeForCausalLM",
    heads=DECODER_HEADS,
    buffers=lfm2_moe_buffers,
    ties=ties,
)

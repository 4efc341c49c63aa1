"""Mixtral and the models that name experts as it does: Phi-MoE, MiniMax-01, M1 and M2.

    a layer: attention; block_sparse_moe.gate E x D; experts.N.w1 and w3 F x D, w2 D x F; two norms

MiniMax-01 and M1 have lightning (linear) attention in most layers: one fused projection to queries,
keys and values, a norm over all heads, an output gate.

Source: transformers 5.23 models/{mixtral,phimoe,minimax,minimax_m2}/modeling_*.py; the published
weight map of MiniMax-M1-80k (remote code).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from weighbridge.arch.blueprint import Buffer, Family, Param, Params, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, kinds, stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import frequencies, head_dim, rotary, share
from weighbridge.arch.sparse import NUMBERED, Routed, correction, each, every, routed, router
from weighbridge.arch.written import Switches, attention, kv_heads

BLOCK = "block_sparse_moe."


def choice(c: Config) -> Routed:
    return routed(c, "num_local_experts", "intermediate_size")


def block(c: Config, at: str) -> Iterator[Param]:
    e, width = choice(c), c.num("hidden_size")
    yield from router(f"{at}{BLOCK}gate", e.count, width)
    yield from each(f"{at}{BLOCK}experts", width, e, NUMBERED)


def mixtral(c: Config, at: str) -> Iterator[Param]:
    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        yield from attention(c, f"{at}self_attn.", Switches())
        yield from block(c, at)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def phimoe(c: Config, at: str) -> Iterator[Param]:
    """LayerNorms with bias, where Mixtral has RMSNorms."""
    bias = c.flag("attention_bias")

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        yield from attention(c, f"{at}self_attn.", Switches(qkv_bias=bias, o_bias=bias))
        yield from block(c, at)
        yield from two_norms(c, at, bias=True)

    yield from stack(c, at, layer, Names(norm_bias=True))


def phimoe_lm(c: Config, at: str) -> Iterator[Param]:
    bias = c.flag("lm_head_bias")
    yield from linear(f"{at}lm_head", c.num("vocab_size"), c.num("hidden_size"), bias=bias)


def lightning(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("num_attention_heads") * head_dim(c)
    yield from norm(f"{at}norm", inner)
    yield from linear(f"{at}qkv_proj", 3 * inner, width)
    yield from linear(f"{at}out_proj", width, inner)
    yield from linear(f"{at}output_gate", inner, width)


def minimax_kinds(c: Config) -> list[str]:
    return kinds(c, "layer_types", lambda i: "linear_attention" if i % 2 else "full_attention")


def minimax_m1_kinds(c: Config) -> list[str]:
    """attn_type_list: 1 is softmax attention, 0 lightning."""
    if c.num("shared_intermediate_size", default=0):
        raise c.error("shared_intermediate_size", "is not 0: no published model has shared experts")
    full = c.per_layer("attn_type_list", count=c.layers("num_hidden_layers"), default=1)
    return ["full_attention" if kind else "linear_attention" for kind in full]


def _minimax(layer_kinds: Callable[[Config], Sequence[str]]) -> Callable[[Config, str], Params]:
    def body(c: Config, at: str) -> Iterator[Param]:
        mixers = layer_kinds(c)

        def layer(c: Config, at: str, i: int) -> Iterator[Param]:
            if mixers[i] == "linear_attention":
                yield from lightning(c, f"{at}self_attn.")
            else:
                yield from attention(c, f"{at}self_attn.", Switches())
            yield from block(c, at)
            yield from two_norms(c, at)

        yield from stack(c, at, layer)

    return body


def minimax_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """The decays of lightning attention over a block of tokens are stored with the model."""
    yield from rotary(c, at)
    heads, size = c.num("num_attention_heads"), c.num("block_size")
    shapes = {
        "slope_rate": (heads, 1, 1),
        "query_decay": (heads, size, 1),
        "key_decay": (heads, size, 1),
        "diagonal_decay": (1, heads, size, size),
    }
    for i, kind in enumerate(minimax_kinds(c)):
        if kind == "linear_attention":
            for name, shape in shapes.items():
                yield Buffer(f"{at}layers.{i}.self_attn.{name}", shape, "", persistent=True)


def minimax_m1_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """A rotary module in each layer of full attention."""
    count = c.num("rotary_dim", default=head_dim(c)) // 2
    for i, kind in enumerate(minimax_m1_kinds(c)):
        if kind == "full_attention":
            path = f"{at}layers.{i}.self_attn.rotary_emb.inv_freq"
            yield Buffer(path, (count,), "float32")


def minimax_m2(c: Config, at: str) -> Iterator[Param]:
    """Norms over all heads at once on queries and keys."""
    size = head_dim(c)
    c.skip("mlp_intermediate_size", "shared_intermediate_size")  # the class reads neither

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        yield from attention(c, f"{at}self_attn.", Switches())
        yield from norm(f"{at}self_attn.q_norm", c.num("num_attention_heads") * size)
        yield from norm(f"{at}self_attn.k_norm", kv_heads(c) * size)
        yield from block(c, at)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def minimax_m2_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """rotary_dim is the published spelling of partial_rotary_factor."""
    size = head_dim(c)
    rotated = c.num("rotary_dim", default=size) / max(1, size)
    part = share(c, "partial_rotary_factor", default=rotated)
    yield from frequencies(f"{at}rotary_emb.", int(size * part))
    name = f"{BLOCK}e_score_correction_bias"
    yield from correction(at, every(c), name, choice(c).count, dtype="")


MIXTRAL = Family(body=mixtral, cls="MixtralForCausalLM", heads=DECODER_HEADS, buffers=rotary)
PHIMOE = Family(
    body=phimoe,
    cls="PhimoeForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": phimoe_lm},
    buffers=rotary,
)
MINIMAX = Family(
    body=_minimax(minimax_kinds),
    cls="MiniMaxForCausalLM",
    heads=DECODER_HEADS,
    buffers=minimax_buffers,
)
MINIMAX_M1 = Family(
    body=_minimax(minimax_m1_kinds),
    cls="MiniMaxM1ForCausalLM",
    heads=DECODER_HEADS,
    buffers=minimax_m1_buffers,
)
MINIMAX_TEXT_01 = replace(MINIMAX_M1, cls="MiniMaxText01ForCausalLM")
MINIMAX_M2 = Family(
    body=minimax_m2,
    cls="MiniMaxM2ForCausalLM",
    heads=DECODER_HEADS,
    buffers=minimax_m2_buffers,
)

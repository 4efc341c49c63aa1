"""Models whose checkpoints store all experts of a layer in one parameter: gpt-oss, Llama 4, DBRX,
JetMoE.

    gpt-oss and Llama 4: gate_up_proj E x D x 2F, down_proj E x F x D (gpt-oss: with biases)
    DBRX: w1, v1 and w2, each EF x D         JetMoE: 2F, with experts in attention too

Source: transformers 5.23 models/{gpt_oss,llama4,dbrx,jetmoe}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import frequencies, rotary
from weighbridge.arch.sparse import Routed, routed, router, stacked, stacked_pair
from weighbridge.arch.written import Switches, attention

# gpt-oss


def gpt_oss(c: Config, at: str) -> Iterator[Param]:
    e, bias = routed(c, "num_local_experts", "intermediate_size"), c.flag("attention_bias")
    s = Switches(qkv_bias=bias, o_bias=bias)
    c.skip("experts_per_token")  # an older spelling beside num_experts_per_tok

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        yield from attention(c, f"{at}self_attn.", s)
        yield Param(f"{at}self_attn.sinks", (c.num("num_attention_heads"),), "other")
        yield from router(f"{at}mlp.router", e.count, width)
        yield Param(f"{at}mlp.router.bias", (e.count,), "bias")
        yield from stacked_pair(f"{at}mlp.experts", width, e, transposed=True)
        yield from stacked(f"{at}mlp.experts.gate_up_proj_bias", (e.count, 2 * e.inner), e)
        yield from stacked(f"{at}mlp.experts.down_proj_bias", (e.count, width), e)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


# Llama 4: one routed and one shared expert a token


def moe_layers(c: Config) -> frozenset[int]:
    if c.get("moe_layers") is not None:
        return frozenset(c.nums("moe_layers"))
    period = max(1, c.num("interleave_moe_layer_step"))
    return frozenset(range(period - 1, c.layers("num_hidden_layers"), period))


def llama4(c: Config, at: str) -> Iterator[Param]:
    sparse, bias = moe_layers(c), c.flag("attention_bias")
    e = routed(c, "num_local_experts", "intermediate_size")

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        yield from attention(c, f"{at}self_attn.", Switches(qkv_bias=bias, o_bias=bias))
        if i in sparse:
            yield from router(f"{at}feed_forward.router", e.count, width)
            yield from stacked_pair(f"{at}feed_forward.experts", width, e, transposed=True)
            yield from gated_mlp(f"{at}feed_forward.shared_expert", width, e.inner)
        else:
            yield from gated_mlp(f"{at}feed_forward", width, c.num("intermediate_size_mlp"))
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


# DBRX


def dbrx(c: Config, at: str) -> Iterator[Param]:
    attn, ffn = c.sub("attn_config"), c.sub("ffn_config")
    e = Routed(
        count=ffn.num("moe_num_experts", default=4),
        inner=ffn.num("ffn_hidden_size", default=3584),
        top_k=ffn.num("moe_top_k", default=1),
    )

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        width, mixer = c.num("d_model"), f"{at}norm_attn_norm."
        head = width // max(1, c.num("n_heads"))
        kv = attn.num("kv_n_heads", default=1) * head
        yield from norm(f"{mixer}norm_1", width)
        yield from linear(f"{mixer}attn.Wqkv", width + 2 * kv, width)
        yield from linear(f"{mixer}attn.out_proj", width, width)
        yield from norm(f"{mixer}norm_2", width)
        yield from router(f"{at}ffn.router.layer", e.count, width)
        for name in ("w1", "v1", "w2"):
            yield from stacked(f"{at}ffn.experts.mlp.{name}", (e.count * e.inner, width), e)

    names = Names(embed="wte", layers="blocks", final="norm_f", count="n_layers")
    yield from stack(c, at, layer, names)


def dbrx_rotary(c: Config, at: str) -> Iterator[Buffer]:
    yield from frequencies(f"{at}rotary_emb.", c.num("d_model") // max(1, c.num("n_heads")))


# JetMoE: experts for queries and outputs of attention, and for the MLP


def jet_experts(at: str, width: int, e: Routed, *, inputs: int) -> Iterator[Param]:
    yield Param(f"{at}bias", (width,), "bias")
    yield from stacked(f"{at}input_linear.weight", (e.count, inputs, width), e)
    yield from stacked(f"{at}output_linear.weight", (e.count, width, e.inner), e)
    yield from router(f"{at}router.layer", e.count, width)


def jetmoe(c: Config, at: str) -> Iterator[Param]:
    mlp = routed(c, "num_local_experts", "intermediate_size")
    inner = c.num("kv_channels") * c.num("num_key_value_heads")
    heads = Routed(count=mlp.count, inner=inner, top_k=mlp.top_k)

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        yield from jet_experts(f"{at}mlp.", width, mlp, inputs=2 * mlp.inner)
        yield from jet_experts(f"{at}self_attention.experts.", width, heads, inputs=inner)
        yield from linear(f"{at}self_attention.kv_proj", 2 * inner, width)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def jetmoe_rotary(c: Config, at: str) -> Iterator[Buffer]:
    yield from frequencies(f"{at}rotary_emb.", c.num("kv_channels"))


GPT_OSS = Family(body=gpt_oss, cls="GptOssForCausalLM", heads=DECODER_HEADS, buffers=rotary)
LLAMA4_TEXT = Family(body=llama4, cls="Llama4ForCausalLM", heads=DECODER_HEADS, buffers=rotary)
DBRX = Family(
    body=dbrx,
    base="transformer",
    cls="DbrxForCausalLM",
    heads=DECODER_HEADS,
    buffers=dbrx_rotary,
    blocks=("blocks.*",),
)
JETMOE = Family(body=jetmoe, cls="JetMoeForCausalLM", heads=DECODER_HEADS, buffers=jetmoe_rotary)

"""GLM-4.5 and the models built as it is, dense layers first, then sparse ones with shared experts:
dots.llm1, Solar Open, EXAONE MoE, Hunyuan 3, AFMoE (Trinity), Cohere's, ERNIE 4.5, Hunyuan-A13B.

    a sparse block: router E x D, E experts of 3 D F, one shared MLP as wide as all shared experts

They differ in attention, in which layers are sparse, and in names. Source: transformers 5.23
models/{glm4_moe,dots1,solar_open,exaone_moe,hy_v3,afmoe,cohere2_moe,ernie4_5_moe,hunyuan_v1_moe}/
modeling_*.py and conversion_mapping.py.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from weighbridge.arch.blueprint import Body, Buffer, Family, Param, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Layer, stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import head_dim, partly_rotary, rotary
from weighbridge.arch.sparse import (
    Parts,
    Routed,
    after_first,
    block,
    by_kinds,
    by_kinds_or_first,
    correction,
    each,
    routed,
    router,
    sparse_decoder,
)
from weighbridge.arch.written import Switches, attention, norms


def choice(c: Config) -> Routed:
    return routed(c, "num_local_experts", "moe_intermediate_size")


def shared_size(c: Config) -> int:
    return c.num("n_shared_experts", "num_shared_experts") * c.num("moe_intermediate_size")


def moe(c: Config, at: str) -> Iterator[Param]:
    yield from block(at, c.num("hidden_size"), choice(c), shared=shared_size(c))


def plain(switches: Callable[[Config], Switches]) -> Layer:
    return lambda c, at, _: attention(c, at, switches(c))


def glm_switches(c: Config) -> Switches:
    return Switches(qkv_bias=c.flag("attention_bias"), qk_norm=c.flag("use_qk_norm"))


def dots_switches(c: Config) -> Switches:
    bias = c.flag("attention_bias")
    return Switches(qkv_bias=bias, o_bias=bias, qk_norm=True)


def solar_switches(c: Config) -> Switches:
    return Switches(qkv_bias=c.flag("attention_bias"))


def exaone_switches(c: Config) -> Switches:
    return Switches(qk_norm=True)


def exaone_moe(c: Config, at: str) -> Iterator[Param]:
    e = routed(c, "num_experts", "moe_intermediate_size")
    yield from block(at, c.num("hidden_size"), e, shared=shared_size(c))


def hy_moe(c: Config, at: str) -> Iterator[Param]:
    width, e = c.num("hidden_size"), choice(c)
    yield from router(f"{at}router.gate", e.count, width)
    yield from each(f"{at}experts", width, e)
    yield from gated_mlp(f"{at}shared_mlp", width, shared_size(c), bias=c.flag("mlp_bias"))


GLM4 = Parts(attention=plain(glm_switches), moe=moe, sparse=after_first)
DOTS = Parts(attention=plain(dots_switches), moe=moe, sparse=after_first)
SOLAR = Parts(attention=plain(solar_switches), moe=moe, sparse=lambda c: by_kinds(c, 0))
EXAONE = Parts(attention=plain(exaone_switches), moe=exaone_moe, sparse=by_kinds_or_first)
HY = Parts(
    attention=plain(dots_switches),
    moe=hy_moe,
    sparse=lambda c: by_kinds(c, 1),
    mlp_bias=lambda c: c.flag("mlp_bias"),
)


def body(parts: Parts) -> Body:
    return partial(sparse_decoder, parts=parts)


def balanced(
    parts: Parts, name: str, *, part: float = 1.0, dtype: str = "float32"
) -> Callable[[Config, str], Iterator[Buffer]]:
    """Rotary frequencies and the correction bias of each router."""

    def buffers(c: Config, at: str) -> Iterator[Buffer]:
        yield from partly_rotary(part)(c, at)
        count = c.num("num_local_experts", "num_experts")
        yield from correction(at, parts.sparse(c), name, count, dtype=dtype)

    return buffers


# AFMoE: a gate on attention's output, four norms a layer


def afmoe(c: Config, at: str) -> Iterator[Param]:
    sparse = after_first(c, "num_dense_layers")
    four = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_mlp_layernorm",
        "post_mlp_layernorm",
    )

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        yield from attention(c, f"{at}self_attn.", dots_switches(c))
        inner = c.num("num_attention_heads") * head_dim(c)
        yield from linear(f"{at}self_attn.gate_proj", inner, width)
        yield from norms(c, at, four)
        if sparse[i]:
            yield from afmoe_block(c, f"{at}mlp.")
        else:
            yield from gated_mlp(f"{at}mlp", width, c.num("intermediate_size"))

    yield from stack(c, at, layer)


def afmoe_block(c: Config, at: str) -> Iterator[Param]:
    e, width = routed(c, "num_experts", "moe_intermediate_size"), c.num("hidden_size")
    yield from router(f"{at}router.gate", e.count, width)
    yield from each(f"{at}experts", width, e)
    yield from gated_mlp(f"{at}shared_experts", width, shared_size(c))
    yield Param(f"{at}expert_bias", (e.count,), "bias")


# Cohere: attention and MLP in parallel behind one norm


def cohere2_moe(c: Config, at: str) -> Iterator[Param]:
    sparse = by_kinds_or_first(c)
    e = routed(c, "num_experts", "intermediate_size")
    shared = c.num("num_shared_experts", default=0) * e.inner

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width, bias = c.num("hidden_size"), c.flag("attention_bias")
        yield from attention(c, f"{at}self_attn.", Switches(qkv_bias=bias, o_bias=bias))
        yield from norm(f"{at}input_layernorm", width)
        if sparse[i]:
            yield from block(f"{at}mlp.", width, e, shared=shared or None)
        else:
            inner = c.num("prefix_dense_intermediate_size", default=e.inner)
            yield from gated_mlp(f"{at}mlp", width, inner)

    yield from stack(c, at, layer)


# ERNIE 4.5


def ernie_sparse(c: Config) -> Sequence[bool]:
    count = c.layers("num_hidden_layers")
    period, start = max(1, c.num("moe_layer_interval")), c.num("moe_layer_start_index")
    end = count - 1 if c.get("moe_layer_end_index") == -1 else c.num("moe_layer_end_index")
    return [(i + 1) % period == 0 and start <= i <= end for i in range(count)]


def ernie_moe(c: Config, at: str) -> Iterator[Param]:
    """Router and correction bias stay in float32."""
    width, shared = c.num("hidden_size"), c.num("moe_num_shared_experts")
    e = routed(c, "moe_num_experts", "moe_intermediate_size", "moe_k")
    yield from router(f"{at}gate", e.count, width, dtype="float32")
    path = f"{at}moe_statics.e_score_correction_bias"
    yield Param(path, (1, e.count), "bias", "float32")
    yield from each(f"{at}experts", width, e)
    if shared:
        inner = shared * e.inner
        yield from gated_mlp(f"{at}shared_experts", width, inner, bias=c.flag("use_bias"))


def ernie_switches(c: Config) -> Switches:
    return Switches(qkv_bias=c.flag("use_bias"), o_bias=c.flag("use_bias"))


ERNIE = Parts(
    attention=plain(ernie_switches),
    moe=ernie_moe,
    sparse=ernie_sparse,
    mlp_bias=lambda c: c.flag("use_bias"),
)


def ernie_lm(c: Config, at: str) -> Iterator[Param]:
    bias = c.flag("use_bias")
    yield from linear(f"{at}lm_head", c.num("vocab_size"), c.num("hidden_size"), bias=bias)


# Hunyuan-A13B


def hunyuan_moe(c: Config, at: str) -> Iterator[Param]:
    """The router stays in float32."""
    layers = c.layers("num_hidden_layers")
    counts = c.per_layer("num_experts", count=layers)
    ks = c.per_layer("moe_topk", count=layers)
    bias, names = c.flag("attention_bias"), ("query_layernorm", "key_layernorm")
    s = Switches(qkv_bias=bias, o_bias=bias, qk_norm=True, qk_names=names)

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width, inner = c.num("hidden_size"), c.num("intermediate_size")
        e = Routed(count=counts[i], inner=inner, top_k=ks[i])
        yield from attention(c, f"{at}self_attn.", s)
        yield from router(f"{at}mlp.gate.wg", e.count, width, dtype="float32")
        yield from each(f"{at}mlp.experts", width, e)
        yield from gated_mlp(f"{at}mlp.shared_mlp", width, inner)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


GATE = "mlp.gate.e_score_correction_bias"
GLM4_MOE = Family(
    body=body(GLM4),
    cls="Glm4MoeForCausalLM",
    heads=DECODER_HEADS,
    buffers=balanced(GLM4, GATE, part=0.5),
)
DOTS1 = Family(
    body=body(DOTS), cls="Dots1ForCausalLM", heads=DECODER_HEADS, buffers=balanced(DOTS, GATE)
)
SOLAR_OPEN = Family(
    body=body(SOLAR), cls="SolarOpenForCausalLM", heads=DECODER_HEADS, buffers=balanced(SOLAR, GATE)
)
EXAONE_MOE = Family(
    body=body(EXAONE),
    cls="ExaoneMoeForCausalLM",
    heads=DECODER_HEADS,
    buffers=balanced(EXAONE, "mlp.e_score_correction_bias"),
)
HY_V3 = Family(
    body=body(HY),
    cls="HYV3ForCausalLM",
    heads=DECODER_HEADS,
    buffers=balanced(HY, "mlp.expert_bias"),
)
AFMOE = Family(body=afmoe, cls="AfmoeForCausalLM", heads=DECODER_HEADS, buffers=rotary)
COHERE2_MOE = Family(
    body=cohere2_moe, cls="Cohere2MoeForCausalLM", heads=DECODER_HEADS, buffers=rotary
)
ERNIE4_5_MOE = Family(
    body=body(ERNIE),
    cls="Ernie4_5_MoeForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": ernie_lm},
    buffers=rotary,
)
HUNYUAN_V1_MOE = Family(
    body=hunyuan_moe, cls="HunYuanMoEV1ForCausalLM", heads=DECODER_HEADS, buffers=rotary
)

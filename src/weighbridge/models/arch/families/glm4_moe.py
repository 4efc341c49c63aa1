"""GLM-4.5 and the models built as it is, dense layers first, then sparse ones with shared experts:
dots.llm1, Solar Open, EXAONE MoE, Hunyuan 3, AFMoE (Trinity), Cohere's, ERNIE 4.5, Hunyuan-A13B.

    a sparse block: router E x D, E experts of 3 D F, one shared MLP as wide as all shared experts

They differ in attention, in which layers are sparse, and in names. Source: transformers 5.23
models/{glm4_moe,dots1,solar_open,exaone_moe,hy_v3,afmoe,cohere2_moe,ernie4_5_moe,hunyuan_v1_moe}/
modeling_*.py and conversion_mapping.py.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Family, Param, gated_mlp, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gated,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import LlamaSwitches, attention, shared_keys
from weighbridge.models.arch.families.qwen_moe import qwen3_attention
from weighbridge.models.arch.heads import DECODER_HEADS, DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.rotary import head_dim, partly_rotary, rotary
from weighbridge.models.arch.sparse import (
    Parts,
    RoutedExperts,
    after_first,
    by_kinds,
    by_kinds_or_first,
    correction,
    each,
    fed,
    moe,
    routed,
    router,
    sparse_decoder,
)
from weighbridge.models.arch.windows import layer_kinds


def choice(c: Config) -> RoutedExperts:
    return routed(c, "num_local_experts", "moe_intermediate_size")


def shared_size(c: Config) -> int:
    return c.num("n_shared_experts", "num_shared_experts") * c.num("moe_intermediate_size")


def glm_moe(c: Config) -> Submodule:
    return moe("mlp.", c.num("hidden_size"), choice(c), shared=shared_size(c))


def glm_attention(c: Config) -> Submodule:
    bias = c.flag("attention_bias")
    return attention(c, LlamaSwitches(qkv_bias=bias, qk_norm=c.flag("use_qk_norm")))


def solar_attention(c: Config) -> Submodule:
    return attention(c, LlamaSwitches(qkv_bias=c.flag("attention_bias")))


def exaone_attention(c: Config) -> Submodule:
    return attention(c, LlamaSwitches(qk_norm=True))


def exaone_moe(c: Config) -> Submodule:
    e = routed(c, "num_experts", "moe_intermediate_size")
    return moe("mlp.", c.num("hidden_size"), e, shared=shared_size(c))


def hy_moe(c: Config) -> Submodule:
    width, e, shared = c.num("hidden_size"), choice(c), shared_size(c)
    return submodule(
        router("mlp.router.gate", e.count, width),
        each("mlp.experts", width, e),
        gated_mlp("mlp.shared_mlp", width, shared, bias=c.flag("mlp_bias")),
        feed=fed(e, shared=shared),
    )


GLM4 = Parts(attention=glm_attention, moe=glm_moe, sparse=after_first)
DOTS = Parts(attention=qwen3_attention, moe=glm_moe, sparse=after_first)
SOLAR = Parts(attention=solar_attention, moe=glm_moe, sparse=lambda c: by_kinds(c, 0))
EXAONE = Parts(attention=exaone_attention, moe=exaone_moe, sparse=by_kinds_or_first)
HY = Parts(
    attention=qwen3_attention,
    moe=hy_moe,
    sparse=lambda c: by_kinds(c, 1),
    mlp_bias=lambda c: c.flag("mlp_bias"),
)


def read(parts: Parts) -> Callable[[Config], Decoder]:
    return partial(sparse_decoder, parts=parts)


def balanced(
    parts: Parts, name: str, *, part: float = 1.0, dtype: str = "float32"
) -> Callable[[Config, str], Iterator[Buffer]]:
    """Return a rule for the rotary frequencies and the correction bias of each router. `part`: the
    rotated fraction of a head."""

    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        yield from partly_rotary(part)(c, prefix)
        count = c.num("num_local_experts", "num_experts")
        yield from correction(prefix, parts.sparse(c), name, count, dtype=dtype)

    return buffers


# AFMoE: a gate on attention's output, four norms a layer


def afmoe(c: Config) -> Decoder:
    width = c.num("hidden_size")
    four = (*BEFORE, "pre_mlp_layernorm", "post_mlp_layernorm")

    def layer(sparse: bool) -> Submodules:
        inner = c.num("num_attention_heads") * head_dim(c)
        gate = submodule(linear("self_attn.gate_proj", inner, width))
        feed = afmoe_block(c) if sparse else gated("mlp", width, c.num("intermediate_size"))
        return (qwen3_attention(c), gate, normed(width, *four), feed)

    layers = by_kind(after_first(c, "num_dense_layers"), layer)
    return tree(c, layers, kinds=layer_kinds)


def afmoe_block(c: Config) -> Submodule:
    e, width = routed(c, "num_experts", "moe_intermediate_size"), c.num("hidden_size")
    shared = shared_size(c)
    return submodule(
        router("mlp.router.gate", e.count, width),
        each("mlp.experts", width, e),
        gated_mlp("mlp.shared_experts", width, shared),
        [Param("mlp.expert_bias", (e.count,), "bias")],
        feed=fed(e, shared=shared),
    )


# Cohere: attention and MLP in parallel behind one norm


def cohere2_moe(c: Config) -> Decoder:
    width, bias = c.num("hidden_size"), c.flag("attention_bias")
    e = routed(c, "num_experts", "intermediate_size")
    shared = c.num("num_shared_experts", default=0) * e.inner

    def feed(sparse: bool) -> Submodule:
        if sparse:
            return moe("mlp.", width, e, shared=shared or None)
        return gated("mlp", width, c.num("prefix_dense_intermediate_size", default=e.inner))

    def layer(sparse: bool) -> Submodules:
        one = attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))
        return (one, normed(width, "input_layernorm"), feed(sparse))

    return tree(c, by_kind(by_kinds_or_first(c), layer), kinds=layer_kinds)


# ERNIE 4.5


def ernie_sparse(c: Config) -> Sequence[bool]:
    count = c.layers("num_hidden_layers")
    period, start = max(1, c.num("moe_layer_interval")), c.num("moe_layer_start_index")
    end = count - 1 if c.get("moe_layer_end_index") == -1 else c.num("moe_layer_end_index")
    return [(i + 1) % period == 0 and start <= i <= end for i in range(count)]


def ernie_moe(c: Config) -> Submodule:
    """Return ERNIE 4.5's MoE module, whose router and correction bias stay in float32."""
    e = routed(c, "moe_num_experts", "moe_intermediate_size", "moe_k")
    width, inner = c.num("hidden_size"), c.num("moe_num_shared_experts") * e.inner
    shared = gated_mlp("mlp.shared_experts", width, inner, bias=c.flag("use_bias"))
    path = "mlp.moe_statics.e_score_correction_bias"
    return submodule(
        router("mlp.gate", e.count, width, dtype="float32"),
        [Param(path, (1, e.count), "bias", "float32")],
        each("mlp.experts", width, e),
        shared if c.num("moe_num_shared_experts") else (),
        feed=fed(e, shared=inner),
    )


def ernie_attention(c: Config) -> Submodule:
    return attention(c, LlamaSwitches(qkv_bias=c.flag("use_bias"), o_bias=c.flag("use_bias")))


ERNIE = Parts(
    attention=ernie_attention,
    moe=ernie_moe,
    sparse=ernie_sparse,
    mlp_bias=lambda c: c.flag("use_bias"),
)


def ernie_lm(c: Config, prefix: str) -> Iterator[Param]:
    bias = c.flag("use_bias")
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), c.num("hidden_size"), bias=bias)


# Hunyuan-A13B


def hunyuan_moe(c: Config) -> Decoder:
    """Return Hunyuan-A13B's decoder, whose routers stay in float32."""
    layers = c.layers("num_hidden_layers")
    counts = c.per_layer("num_experts", count=layers)
    ks = c.per_layer("moe_topk", count=layers)
    bias, names = c.flag("attention_bias"), ("query_layernorm", "key_layernorm")
    s = LlamaSwitches(qkv_bias=bias, o_bias=bias, qk_norm=True, qk_names=names)

    def layer(kind: tuple[int, int]) -> Submodules:
        width, inner = c.num("hidden_size"), c.num("intermediate_size")
        e = RoutedExperts(count=kind[0], inner=inner, top_k=kind[1])
        feed = submodule(
            router("mlp.gate.wg", e.count, width, dtype="float32"),
            each("mlp.experts", width, e),
            gated_mlp("mlp.shared_mlp", width, inner),
            feed=fed(e, shared=inner),
        )
        return (attention(c, s), feed, normed(width, *BEFORE))

    mixed = by_kind(list(zip(counts, ks, strict=True)), layer)
    return tree(c, shared_keys(c, mixed), kinds=layer_kinds)


GATE = "mlp.gate.e_score_correction_bias"
GLM4_MOE = DecoderFamily(
    tree=read(GLM4),
    cls="Glm4MoeForCausalLM",
    buffers=balanced(GLM4, GATE, part=0.5),
)
DOTS1 = DecoderFamily(tree=read(DOTS), cls="Dots1ForCausalLM", buffers=balanced(DOTS, GATE))
SOLAR_OPEN = DecoderFamily(
    tree=read(SOLAR), cls="SolarOpenForCausalLM", buffers=balanced(SOLAR, GATE)
)
EXAONE_MOE = DecoderFamily(
    tree=read(EXAONE),
    cls="ExaoneMoeForCausalLM",
    buffers=balanced(EXAONE, "mlp.e_score_correction_bias"),
)
HY_V3 = DecoderFamily(
    tree=read(HY),
    cls="HYV3ForCausalLM",
    buffers=balanced(HY, "mlp.expert_bias"),
)
AFMOE = DecoderFamily(tree=afmoe, cls="AfmoeForCausalLM", buffers=rotary)
COHERE2_MOE = DecoderFamily(tree=cohere2_moe, cls="Cohere2MoeForCausalLM", buffers=rotary)
ERNIE4_5_MOE = Family(
    tree=read(ERNIE),
    cls="Ernie4_5_MoeForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": ernie_lm},
    buffers=rotary,
)
HUNYUAN_V1_MOE = DecoderFamily(tree=hunyuan_moe, cls="HunYuanMoEV1ForCausalLM", buffers=rotary)

TYPES = {
    "glm4_moe": ModelType(GLM4_MOE, gguf="glm4moe"),
    "dots1": ModelType(DOTS1, windows=windows.upper),
    "solar_open": ModelType(SOLAR_OPEN),
    "exaone_moe": ModelType(EXAONE_MOE, windows=windows.pattern),
    "hy_v3": ModelType(HY_V3),
    "afmoe": ModelType(AFMOE, windows=windows.period(4, "global_attn_every_n_layers")),
    "cohere2_moe": ModelType(
        COHERE2_MOE, windows=windows.cohere_prefix, computes=("float_rotary",)
    ),
    "ernie4_5_moe": ModelType(
        ERNIE4_5_MOE,
        predicts="dense",
        computes=("narrow_routes", "wide_rotary"),
        gguf="ernie4_5-moe",
    ),
    "hunyuan_v1_moe": ModelType(HUNYUAN_V1_MOE, computes=("float_routes",), gguf="hunyuan-moe"),
}

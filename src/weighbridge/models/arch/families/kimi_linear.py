"""Kimi Linear, Bailing's hybrids, and Ling and Ring (BailingMoE), which these hybrids came from.

Kimi Linear and the hybrids have delta attention in most layers and latent attention in the rest:

    delta attention, M heads of size H: q, k, v MH x D and a convolution of kernel k for each,
    b M x D, a forget gate, an output gate, norm H, o D x MH; Kimi's two gates have rank H

Ling and Ring have softmax attention alone: query_key_value (N + 2K)H x D and dense D x NH; experts
as DeepSeek names them, with one shared MLP as wide as all shared experts. Their second generation
has norms on queries and keys, and a correction bias in its router.

Sources: transformers 5.23 models/{kimi_linear,bailing_hybrid}/modeling_*.py, conversion_mapping.py;
modeling_bailing_moe.py of inclusionAI/Ling-lite, modeling_bailing_moe_v2.py of
inclusionAI/Ling-mini-2.0 (remote code).
"""

from collections.abc import Iterator, Sequence
from functools import partial

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Buffer, Param, conv, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    by_kind,
    fused_gqa,
    gated,
    kinds,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.deepseek import latent, latent_rotary
from weighbridge.models.arch.families.llama import grouped
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.mixers import KimiDelta
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.rotary import partly_rotary
from weighbridge.models.arch.sparse import (
    NUMBERED,
    RoutedExperts,
    after_first,
    by_kinds,
    correction,
    moe,
    routed,
)
from weighbridge.models.arch.windows import layer_kinds

LINEAR = "linear_attention"


def choice(c: Config) -> RoutedExperts:
    return routed(c, "num_experts", "moe_intermediate_size", "num_experts_per_token")


def shared_size(c: Config) -> int:
    return c.num("num_shared_experts") * c.num("moe_intermediate_size")


def delta(c: Config, path: str, delta: KimiDelta) -> Iterator[Param]:
    """Yield the parameters of delta attention that Kimi and Bailing share."""
    width, inner = c.num("hidden_size"), delta.heads * delta.dim
    for name in "qkv":
        yield from linear(f"{path}{name}_proj", inner, width)
        yield from conv(f"{path}{name}_conv1d", (inner, 1, delta.kernel), bias=False)
    yield from linear(f"{path}b_proj", delta.heads, width)
    yield Param(f"{path}dt_bias", (inner,), "other")
    yield from norm(f"{path}o_norm", delta.dim)


# Kimi Linear


def kimi_kinds(c: Config) -> list[str]:
    """Return the kind of each layer, from linear_attn_config (which counts from one); without it,
    layers 4, 8, 12... (from zero) have full attention."""
    lists = c.sub("linear_attn_config")
    full, others = lists.get("full_attn_layers"), lists.get("kda_layers")
    if None in (full, others):
        return kinds(c, "layer_types", lambda i: "full_attention" if i and i % 4 == 0 else LINEAR)
    return kinds(c, "layer_types", lambda i: "full_attention" if i + 1 in full else LINEAR)


def kimi_sparse(c: Config) -> Sequence[bool]:
    return by_kinds(c, c.num("first_k_dense_replace", default=1))


def delta_sizes(c: Config) -> KimiDelta:
    sizes = c.sub("linear_attn_config")
    return KimiDelta(
        heads=sizes.maybe("num_heads") or c.num("linear_num_heads"),
        dim=sizes.maybe("head_dim") or c.num("linear_head_dim"),
        kernel=sizes.maybe("short_conv_kernel_size") or c.num("linear_conv_kernel_dim"),
    )


def kimi_delta(c: Config) -> Submodule:
    d, width, path = delta_sizes(c), c.num("hidden_size"), "self_attn."
    gates = (
        p
        for gate in "fg"
        for p in (
            *linear(f"{path}{gate}_a_proj", d.dim, width),
            *linear(f"{path}{gate}_b_proj", d.heads * d.dim, d.dim),
        )
    )
    return submodule(
        delta(c, path, d),
        [Param(f"{path}A_log", (1, 1, d.heads, 1), "other")],
        gates,
        linear(f"{path}o_proj", width, d.heads * d.dim),
        mixer=d,
    )


def kimi_moe(c: Config) -> Submodule:
    width, path = c.num("hidden_size"), "block_sparse_moe."
    return moe(path, width, choice(c), shared=shared_size(c), names=NUMBERED)


def kimi_linear(c: Config) -> Decoder:
    def layer(kind: tuple[str, bool]) -> Submodules:
        width, inner = c.num("hidden_size"), c.num("intermediate_size")
        feed = kimi_moe(c) if kind[1] else gated("block_sparse_moe", width, inner)
        mixer = kimi_delta(c) if kind[0] == LINEAR else latent(c)
        return (mixer, feed, normed(width, *BEFORE))

    return tree(c, by_kind(list(zip(kimi_kinds(c), kimi_sparse(c), strict=True)), layer))


def kimi_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the correction biases; there are no rotary buffers. Raises UnsupportedError for Kimi
    K3, which holds other tensors."""
    for key in ("routed_expert_hidden_size", "attn_res_block_size"):
        if c.has(key):
            raise UnsupportedError(sentence("kimi.vision", key=key), where=c.where)
    name = "block_sparse_moe.gate.e_score_correction_bias"
    yield from correction(prefix, kimi_sparse(c), name, choice(c).count, dtype="")


# Bailing's hybrids


def bailing_kinds(c: Config) -> list[str]:
    period = max(1, c.num("layer_group_size"))
    return kinds(c, "layer_types", lambda i: LINEAR if (i + 1) % period else "full_attention")


def bailing_sparse(c: Config) -> Sequence[bool]:
    return by_kinds(c, c.num("first_k_dense_replace"))


def bailing_delta(c: Config) -> Submodule:
    """Return Bailing's delta attention: gates have full rank, convolution and time step stay in
    float32."""
    width, path = c.num("hidden_size"), "attention."
    d = KimiDelta(
        heads=c.num("linear_num_heads", "num_attention_heads"),
        dim=c.num("linear_head_dim", "head_dim"),
        kernel=c.num("linear_conv_kernel_dim", "short_conv_kernel_size"),
    )
    inner = d.heads * d.dim
    return submodule(
        (
            p._replace(dtype="float32") if p.kind == "conv" or p.name.endswith("dt_bias") else p
            for p in delta(c, path, d)
        ),
        [Param(f"{path}A_log", (d.heads,), "other", "float32")],
        *(linear(f"{path}{gate}_proj", inner, width) for gate in "fg"),
        linear(f"{path}dense", width, inner),
        mixer=d,
    )


def bailing_latent(c: Config) -> Submodule:
    """Return Bailing's MLA: queries are not compressed, and each head has an output gate."""
    path, width, usual = "attention.", c.num("hidden_size"), latent(c, "attention.")
    size = c.num("qk_nope_head_dim") + c.num("qk_rope_head_dim")
    heads = c.num("num_attention_heads")
    behind = (
        p._replace(name=p.name.replace(f"{path}o_proj", f"{path}dense"))
        for p in usual.params
        if not p.name.startswith(f"{path}q_")
    )
    return submodule(
        linear(f"{path}q_proj", heads * size, width),
        behind,
        linear(f"{path}g_proj", heads, width),
        mixer=usual.mixer,
    )


def bailing(c: Config) -> Decoder:
    def layer(kind: tuple[str, bool]) -> Submodules:
        width = c.num("hidden_size")
        sparse = moe("mlp.", width, choice(c), shared=shared_size(c))
        feed = sparse if kind[1] else gated("mlp", width, c.num("intermediate_size"))
        mixer = bailing_delta(c) if kind[0] == LINEAR else bailing_latent(c)
        return (mixer, feed, normed(width, *BEFORE))

    layers = by_kind(list(zip(bailing_kinds(c), bailing_sparse(c), strict=True)), layer)
    return tree(c, layers, DecoderNames(embed="word_embeddings"))


def bailing_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from latent_rotary(c, prefix)
    name = "mlp.gate.expert_bias"
    yield from correction(prefix, bailing_sparse(c), name, choice(c).count)


def never(_: Config) -> bool:
    """Return False: the classes have no list of tied weights, whatever their configs say."""
    return False


KIMI_LINEAR = DecoderFamily(
    tree=kimi_linear,
    cls="KimiLinearForCausalLM",
    buffers=kimi_buffers,
    ties=never,
)
BAILING_HYBRID = DecoderFamily(
    tree=bailing,
    cls="BailingHybridForCausalLM",
    buffers=bailing_buffers,
    ties=never,
)


# Ling and Ring


def bailing_attention(c: Config, *, normalised: bool) -> Submodules:
    width, a, path = c.num("hidden_size"), grouped(c), "attention."
    names = ("query_layernorm", "key_layernorm") if normalised else ()
    bias = (c.flag("use_qkv_bias"), c.flag("use_bias"))
    has = normalised and c.enabled("use_qk_norm")
    norms = submodule(*(norm(path + name, a.key_dim) for name in names if has))
    return (fused_gqa(path, width, a, bias=bias), norms)


def bailing_choice(c: Config) -> RoutedExperts:
    return routed(c, "num_experts", "moe_intermediate_size")


def bailing_moe(c: Config, *, normalised: bool) -> Decoder:
    e, width = bailing_choice(c), c.num("hidden_size")
    shared = c.num("num_shared_experts", default=0) * e.inner

    def feed(sparse: bool) -> Submodule:
        if sparse:
            return moe("mlp.", width, e, shared=shared or None)
        return gated("mlp", width, c.num("intermediate_size"))

    def layer(sparse: bool) -> Submodules:
        return (*bailing_attention(c, normalised=normalised), feed(sparse), normed(width, *BEFORE))

    layers = by_kind(after_first(c), layer)
    return tree(c, layers, DecoderNames(embed="word_embeddings"), kinds=layer_kinds)


def balanced(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from partly_rotary(1.0)(c, prefix)
    yield from correction(prefix, after_first(c), "mlp.gate.expert_bias", bailing_choice(c).count)


BAILING_MOE = DecoderFamily(
    tree=partial(bailing_moe, normalised=False),
    cls="BailingMoeForCausalLM",
    buffers=partly_rotary(1.0),
)
BAILING_MOE_V2 = DecoderFamily(
    tree=partial(bailing_moe, normalised=True),
    cls="BailingMoeV2ForCausalLM",
    buffers=balanced,
)

TYPES = {
    "kimi_linear": ModelType(KIMI_LINEAR),
    "bailing_hybrid": ModelType(BAILING_HYBRID),
    "bailing_moe": ModelType(BAILING_MOE, computes=("float_routes",), gguf="bailingmoe"),
    "bailing_moe_v2": ModelType(BAILING_MOE_V2, gguf="bailingmoe2"),
}

"""Mixtral, PhiMoE and MiniMax.

Mixtral and the models that name experts as it does: Phi-MoE, MiniMax-01, M1 and M2.

    a layer: attention; block_sparse_moe.gate E x D; experts.N.w1 and w3 F x D, w2 D x F; two norms

MiniMax-01 and M1 have lightning (linear) attention in most layers: one fused projection to queries,
keys and values, a norm over all heads, an output gate.

Source: transformers 5.23 models/{mixtral,phimoe,minimax,minimax_m2}/modeling_*.py; the published
weight map of MiniMax-M1-80k (remote code).

MiniMax-M3: dense layers, then sparse ones with a shared expert; most layers pick the blocks of
tokens that they attend to with an index.

    index, M heads of size h: index_q_proj Mh x D, index_k_proj h x D, two norms of h

Source: transformers 5.23 models/minimax_m3_vl/{modeling,configuration}_*.py, conversion_mapping.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.records import replace
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Family, Param, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    alike,
    by_kind,
    gated,
    kinds,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import LlamaSwitches, attention, grouped
from weighbridge.models.arch.families.olmo import wide_norms
from weighbridge.models.arch.heads import DECODER_HEADS, DecoderFamily
from weighbridge.models.arch.mixers import LinearAttention
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Indexer
from weighbridge.models.arch.rotary import frequencies, head_dim, partly_rotary, rotary, share
from weighbridge.models.arch.sparse import (
    NUMBERED,
    RoutedExperts,
    correction,
    each,
    every,
    fed,
    moe,
    routed,
    router,
)
from weighbridge.models.arch.windows import layer_kinds

BLOCK = "block_sparse_moe."


def choice(c: Config) -> RoutedExperts:
    return routed(c, "num_local_experts", "intermediate_size")


def block(c: Config) -> Submodule:
    e, width = choice(c), c.num("hidden_size")
    return submodule(
        router(f"{BLOCK}gate", e.count, width),
        each(f"{BLOCK}experts", width, e, NUMBERED),
        feed=fed(e),
    )


def layer(c: Config, *mixing: Submodule, bias: bool = False) -> Submodules:
    """Return a layer: the module that mixes tokens, experts, and two norms."""
    return (*mixing, block(c), normed(c.num("hidden_size"), *BEFORE, bias=bias))


def mixtral(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: layer(c, attention(c, LlamaSwitches()))), kinds=layer_kinds)


def phimoe(c: Config) -> Decoder:
    """Return Phi-MoE's decoder, whose norms are LayerNorms with bias, not Mixtral's RMSNorms."""
    bias = c.flag("attention_bias")
    one = LlamaSwitches(qkv_bias=bias, o_bias=bias)
    layers = alike(c, lambda: layer(c, attention(c, one), bias=True))
    return tree(c, layers, DecoderNames(norm_bias=True), kinds=layer_kinds)


def phimoe_lm(c: Config, prefix: str) -> Iterator[Param]:
    bias = c.flag("lm_head_bias")
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), c.num("hidden_size"), bias=bias)


def lightning(c: Config) -> Submodule:
    width, heads, size = c.num("hidden_size"), c.num("num_attention_heads"), head_dim(c)
    inner, prefix = heads * size, "self_attn."
    return submodule(
        norm(f"{prefix}norm", inner),
        linear(f"{prefix}qkv_proj", 3 * inner, width),
        linear(f"{prefix}out_proj", width, inner),
        linear(f"{prefix}output_gate", inner, width),
        mixer=LinearAttention(heads=heads, dim=size),
    )


def minimax_kinds(c: Config) -> list[str]:
    return kinds(c, "layer_types", lambda i: "linear_attention" if i % 2 else "full_attention")


def minimax_m1_kinds(c: Config) -> list[str]:
    """Return the kind of each layer: in attn_type_list, 1 is softmax attention and 0 lightning."""
    if c.num("shared_intermediate_size", default=0):
        raise c.error("shared_intermediate_size", "is.not_zero")
    full = c.per_layer("attn_type_list", count=c.layers("num_hidden_layers"), default=1)
    return ["full_attention" if kind else "linear_attention" for kind in full]


def _minimax(layer_kinds: Callable[[Config], Sequence[str]]) -> Callable[[Config], Decoder]:
    def read(c: Config) -> Decoder:
        def one(kind: str) -> Submodules:
            is_linear = kind == "linear_attention"
            return layer(c, lightning(c) if is_linear else attention(c, LlamaSwitches()))

        return tree(c, by_kind(layer_kinds(c), one))

    return read


def minimax_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies and, per layer of lightning attention, its decays over a block
    of tokens, stored with the model."""
    yield from rotary(c, prefix)
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
                yield Buffer(f"{prefix}layers.{i}.self_attn.{name}", shape, "", persistent=True)


def minimax_m1_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies of each layer of full attention."""
    count = c.num("rotary_dim", default=head_dim(c)) // 2
    for i, kind in enumerate(minimax_m1_kinds(c)):
        if kind == "full_attention":
            path = f"{prefix}layers.{i}.self_attn.rotary_emb.inv_freq"
            yield Buffer(path, (count,), "float32")


def minimax_m2(c: Config) -> Decoder:
    """Return MiniMax-M2's decoder, whose query and key norms span all heads at once."""
    c.skip("mlp_intermediate_size", "shared_intermediate_size")  # the class reads neither

    def one() -> Submodules:
        return layer(c, attention(c, LlamaSwitches()), wide_norms(grouped(c)))

    return tree(c, alike(c, one), kinds=layer_kinds)


def minimax_m2_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies and the routers' correction biases. Published configs have the
    key rotary_dim for partial_rotary_factor."""
    size = head_dim(c)
    rotated = c.num("rotary_dim", default=size) / max(1, size)
    part = share(c, "partial_rotary_factor", default=rotated)
    yield from frequencies(f"{prefix}rotary_emb.", int(size * part))
    name = f"{BLOCK}e_score_correction_bias"
    yield from correction(prefix, every(c), name, choice(c).count, dtype="")


MIXTRAL = DecoderFamily(tree=mixtral, cls="MixtralForCausalLM", buffers=rotary)
PHIMOE = Family(
    tree=phimoe,
    cls="PhimoeForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": phimoe_lm},
    buffers=rotary,
)
MINIMAX = DecoderFamily(
    tree=_minimax(minimax_kinds),
    cls="MiniMaxForCausalLM",
    buffers=minimax_buffers,
)
MINIMAX_M1 = DecoderFamily(
    tree=_minimax(minimax_m1_kinds),
    cls="MiniMaxM1ForCausalLM",
    buffers=minimax_m1_buffers,
)
MINIMAX_TEXT_01 = replace(MINIMAX_M1, cls="MiniMaxText01ForCausalLM")
MINIMAX_M2 = DecoderFamily(tree=minimax_m2, cls="MiniMaxM2ForCausalLM", buffers=minimax_m2_buffers)


INDEXED = "minimax_m3_sparse"
SIZES = {"index_n_heads": "sparse_num_index_heads", "index_head_dim": "sparse_index_dim"}


def published(c: Config) -> Mapping[str, Any]:
    sparse_config = c.get("sparse_attention_config")
    return sparse_config if isinstance(sparse_config, Mapping) else {}


def flags(c: Config, name: str, listed: Any) -> list[bool]:
    """Return one flag per layer, from `listed` numbers; anything but 0 is True."""
    count = c.layers("num_hidden_layers")
    if not isinstance(listed, list) or len(listed) < count:
        raise c.error(name, "must.numbers", count=count)
    return [bool(value) for value in listed[:count]]


def mixers(c: Config) -> list[str]:
    often = published(c).get("sparse_attention_freq")
    if c.get("layer_types") is not None or often is None:
        return kinds(c, "layer_types", lambda _: "full_attention")
    return [INDEXED if on else "" for on in flags(c, "sparse_attention_freq", often)]


def sparse(c: Config) -> Sequence[bool]:
    often = c.get("moe_layer_freq")
    if c.get("mlp_layer_types") is not None or often is None:
        return [kind == "sparse" for kind in kinds(c, "mlp_layer_types", lambda _: "sparse")]
    return flags(c, "moe_layer_freq", often)


def indexer(c: Config) -> Indexer:
    sizes = c.sub("sparse_attention_config")
    heads, size = (sizes.maybe(old) or c.num(new, default=0) for new, old in SIZES.items())
    return Indexer(heads=heads, dim=size)


def indexed(c: Config) -> Submodule:
    """Return grouped-query attention with an indexer, whose key is cached as well."""
    usual, picks = attention(c, LlamaSwitches(qk_norm=True)), indexer(c)
    width, path = c.num("hidden_size"), "self_attn.index_"
    return submodule(
        usual.params,
        linear(f"{path}q_proj", picks.heads * picks.dim, width),
        linear(f"{path}k_proj", picks.dim, width),
        norm(f"{path}q_norm", picks.dim),
        norm(f"{path}k_norm", picks.dim),
        mixer=replace(grouped(c), indexer=picks),
    )


def experts(c: Config) -> Submodule:
    e, width = routed(c, "num_local_experts", "intermediate_size"), c.num("hidden_size")
    shared = c.num("shared_intermediate_size")
    return moe("block_sparse_moe.", width, e, shared=shared, names=NUMBERED)


def minimax_m3(c: Config) -> Decoder:
    c.skip("moe_intermediate_size", "n_shared_experts", "rotary_dim", "first_k_dense_replace")

    def layer(kind: tuple[bool, bool]) -> Submodules:
        width = c.num("hidden_size")
        mixer = indexed(c) if kind[0] else attention(c, LlamaSwitches(qk_norm=True))
        feed = experts(c) if kind[1] else gated("mlp", width, c.num("dense_intermediate_size"))
        return (mixer, feed, normed(width, *BEFORE))

    picks = [kind == INDEXED for kind in mixers(c)]
    return tree(c, by_kind(list(zip(picks, sparse(c), strict=True)), layer))


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from partly_rotary(1.0)(c, prefix)
    name, count = "block_sparse_moe.e_score_correction_bias", c.num("num_local_experts")
    yield from correction(prefix, sparse(c), name, count, dtype="")


MINIMAX_M3 = DecoderFamily(
    tree=minimax_m3,
    cls="MiniMaxM3VLForCausalLM",
    stems=("MiniMaxM3",),
    buffers=buffers,
)


TYPES = {
    "mixtral": ModelType(MIXTRAL, windows=windows.everywhere, gguf="llama"),
    "phimoe": ModelType(PHIMOE, windows=windows.everywhere),
    "minimax": ModelType(MINIMAX),
    "minimax_m1": ModelType(MINIMAX_M1, windows=windows.nowhere),
    "minimax_text_01": ModelType(MINIMAX_TEXT_01),
    "minimax_m2": ModelType(MINIMAX_M2, windows=windows.nowhere, gguf="minimax-m2"),
    "minimax_m3": ModelType(MINIMAX_M3),
    "minimax_m3_vl_text": ModelType(MINIMAX_M3),
}

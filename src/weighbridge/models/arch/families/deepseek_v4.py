"""DeepSeek-V4: one latent for keys and values, compressed over the past, and hyper-connections.

    attention, N heads of size H: wq_a r x D, wq_b NH x r, wkv H x D, one sink a head,
    wo_a (g r_o) x (NH / g), wo_b D x (g r_o)
    compressor of a layer, every m tokens into one: wkv and wgate H x D, ape m x H; twice as wide
    where an indexer picks among the results
    hyper-connections, n streams: fn (2 + n)n x nD, base (2 + n)n, scale 3; twice a layer

Source: transformers 5.23 models/deepseek_v4/{modeling,configuration}_*.py, conversion_mapping.py.
"""

from collections.abc import Iterator, Mapping, Sequence

from weighbridge.models.arch.blueprint import Buffer, Family, Param, embedding, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import MTP, Decoder, Submodule, Submodules, by_kind, submodule
from weighbridge.models.arch.families.deepseek import own_indexer
from weighbridge.models.arch.heads import DECODER_HEADS
from weighbridge.models.arch.mixers import Compressed
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.rotary import frequencies
from weighbridge.models.arch.sparse import NUMBERED, RoutedExperts, each, fed, routed, router

SPARSE, HEAVY, SLIDING = (
    "compressed_sparse_attention",
    "heavily_compressed_attention",
    "sliding_attention",
)
RATES = {SPARSE: 4, HEAVY: 128}
KINDS = {0: SLIDING, 4: SPARSE, 128: HEAVY}  # compress_ratios of the published configs
WHOLE = "float32"  # dtype in which the class keeps norms, sinks and hyper-connections


def mixers(c: Config) -> list[str]:
    count = c.layers("num_hidden_layers")
    listed, ratios = [str(kind) for kind in c.many("layer_types")], c.nums("compress_ratios")
    if not listed and set(ratios) - KINDS.keys():
        raise c.error("compress_ratios", "may.ratios")
    if not listed:
        listed = [KINDS[ratio] for ratio in ratios]
    if not listed:
        listed = [SPARSE if i > 1 and i % 2 else HEAVY for i in range(count)]
    if len(listed) < count:
        raise c.error("layer_types", "has.layers", count=len(listed), layers=count)
    return listed[:count]


def rate(c: Config, kind: str) -> int:
    old = {SPARSE: "compress_rate_csa", HEAVY: "compress_rate_hca"}[kind]
    rates = c.get("compress_rates")
    usual = rates.get(kind, RATES[kind]) if isinstance(rates, Mapping) else RATES[kind]
    return c.num(old, default=usual)


def hashed(c: Config) -> Sequence[bool]:
    """Return for each layer whether a table from token to expert routes it: by default the first
    layers."""
    count, first = c.layers("num_hidden_layers"), c.num("num_hash_layers", default=3)
    named = c.many("mlp_layer_types")
    return [kind == "hash_moe" for kind in named[:count]] or [i < first for i in range(count)]


def compressor(c: Config, prefix: str, size: int, every: int, *, twice: bool) -> Iterator[Param]:
    width, wide = c.num("hidden_size"), size * (2 if twice else 1)
    yield from linear(f"{prefix}wkv", wide, width)
    yield from linear(f"{prefix}wgate", wide, width)
    yield Param(f"{prefix}ape", (every, wide), "other", WHOLE)
    yield Param(f"{prefix}norm.weight", (size,), "norm", WHOLE)


def compressed(c: Config, prefix: str, kind: str) -> Iterator[Param]:
    if kind == SLIDING:
        return
    every, size = rate(c, kind), c.num("head_dim")
    yield from compressor(c, f"{prefix}compressor.", size, every, twice=kind == SPARSE)
    if kind == SPARSE:
        heads, dim_picked = c.num("index_n_heads"), c.num("index_head_dim")
        yield from compressor(c, f"{prefix}indexer.compressor.", dim_picked, every, twice=True)
        yield from linear(f"{prefix}indexer.wq_b", heads * dim_picked, c.num("q_lora_rank"))
        yield from linear(f"{prefix}indexer.weights_proj", heads, c.num("hidden_size"))


def remembered(c: Config, kind: str) -> Compressed:
    return Compressed(
        heads=c.num("num_attention_heads"),
        dim=c.num("head_dim"),
        rotary=rotated(c),
        window=c.num("sliding_window"),
        rate=1 if kind == SLIDING else rate(c, kind),
        indexer=own_indexer(c) if kind == SPARSE else None,
    )


def attention(c: Config, kind: str) -> Submodule:
    width, size, rank = c.num("hidden_size"), c.num("head_dim"), c.num("q_lora_rank")
    inner, groups = c.num("num_attention_heads") * size, max(1, c.num("o_groups"))
    out = groups * c.num("o_lora_rank")
    return submodule(
        linear("attn.wq_a", rank, width, role="q_a"),
        (Param("attn.q_norm.weight", (rank,), "norm", WHOLE),),
        linear("attn.wq_b", inner, rank, role="q_b"),
        linear("attn.wkv", size, width),
        (Param("attn.norm.weight", (size,), "norm", WHOLE),),
        linear("attn.wo_a", out, inner // groups, role="o_a"),
        linear("attn.wo_b", width, out, role="o_b"),
        (Param("attn.attn_sink", (c.num("num_attention_heads"),), "other", WHOLE),),
        compressed(c, "attn.", kind),
        mixer=remembered(c, kind),
        query_rank=rank,
    )


def choice(c: Config) -> RoutedExperts:
    return routed(c, "n_routed_experts", "moe_intermediate_size")


def moe(c: Config) -> Submodule:
    e, width, bias = choice(c), c.num("hidden_size"), c.flag("mlp_bias")
    return submodule(
        router("ffn.gate", e.count, width),
        each("ffn.experts", width, e, NUMBERED),
        linear("ffn.shared_experts.w1", e.inner, width, bias=bias, role="gate"),
        linear("ffn.shared_experts.w3", e.inner, width, bias=bias, role="up"),
        linear("ffn.shared_experts.w2", width, e.inner, bias=bias, role="down"),
        feed=fed(e, shared=e.inner),
    )


def hyper_connection(c: Config, prefix: str) -> Iterator[Param]:
    streams = c.num("hc_mult")
    rows = (2 + streams) * streams
    yield Param(f"{prefix}_fn", (rows, streams * c.num("hidden_size")), "other", WHOLE)
    yield Param(f"{prefix}_base", (rows,), "other", WHOLE)
    yield Param(f"{prefix}_scale", (3,), "other", WHOLE)


def layer(c: Config, kind: str) -> Submodules:
    norms = (
        Param(f"{name}.weight", (c.num("hidden_size"),), "norm", WHOLE)
        for name in ("attn_norm", "ffn_norm")
    )
    streams = (hyper_connection(c, name) for name in ("hc_attn", "hc_ffn"))
    return attention(c, kind), moe(c), submodule(norms, *streams)


def deepseek_v4(c: Config) -> Decoder:
    c.skip(*MTP, "qk_nope_head_dim", "num_key_value_heads")
    width, streams = c.num("hidden_size"), c.num("hc_mult")
    return Decoder(
        width=width,
        first=tuple(embedding("embed", c.num("vocab_size"), width)),
        layers=by_kind(mixers(c), lambda kind: layer(c, kind)),
        last=(
            Param("norm.weight", (width,), "norm", WHOLE),
            Param("hc_head_fn", (streams, streams * width), "other", WHOLE),
            Param("hc_head_base", (streams,), "other", WHOLE),
            Param("hc_head_scale", (1,), "other", WHOLE),
        ),
    )


def rotated(c: Config) -> int:
    size, rope = c.num("head_dim"), c.maybe("qk_rope_head_dim")
    part = c.get("partial_rotary_factor")
    if isinstance(part, int | float):
        return int(size * part)
    return size // 8 if rope is None else rope


def both(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies of the recent tokens and those of the compressed past."""
    yield from frequencies(f"{prefix}rotary_emb.main_", rotated(c))
    yield from frequencies(f"{prefix}rotary_emb.compress_", rotated(c))


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from both(c, prefix)
    e, table = choice(c), hashed(c)
    for i, kind in enumerate(mixers(c)):
        layer = f"{prefix}layers.{i}."
        if table[i]:
            shape = (c.num("vocab_size"), e.top_k)
            yield Buffer(f"{layer}ffn.gate.tid2eid", shape, "int64", persistent=True)
        else:
            yield Buffer(f"{layer}ffn.gate.bias", (e.count,), "float32", persistent=True)
        if kind != SLIDING:
            yield from both(c, f"{layer}attn.compressor.")
        if kind == SPARSE:
            yield from both(c, f"{layer}attn.indexer.")


def head(c: Config, prefix: str) -> Iterator[Param]:
    owner = f"{prefix}model.embed.weight" if c.flag("tie_word_embeddings") else ""
    shape = (c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{prefix}head.weight", shape, tied=owner)


DEEPSEEK_V4 = Family(
    tree=deepseek_v4,
    cls="DeepseekV4ForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": head},
    buffers=buffers,
    renames=(("model.", ""),),  # the published names have no prefix
)

TYPES = {"deepseek_v4": ModelType(DEEPSEEK_V4)}

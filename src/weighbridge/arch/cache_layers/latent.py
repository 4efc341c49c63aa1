"""Multi-head latent attention, with and without an indexer, and DeepSeek-V4's compressed kind."""

from dataclasses import replace

from weighbridge.arch.cache_layers.attention import attention, grouped, multi_head
from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Compressed, Indexer, Latent, Layer


def latent(c: Config, indexer: Indexer | None = None) -> Latent:
    heads = c.num("num_attention_heads")
    return Latent(
        heads=heads,
        rank=c.num("kv_lora_rank"),
        rotary=c.num("qk_rope_head_dim"),
        nope=c.num("qk_nope_head_dim"),
        value_dim=c.num("v_head_dim", default=c.num("hidden_size") // max(1, heads)),
        indexer=indexer,
    )


def everywhere(c: Config) -> tuple[Layer, ...]:
    return (Layer(mixers=(latent(c),)),) * c.layers("num_hidden_layers")


def maybe(c: Config) -> tuple[Layer, ...]:
    """The small DeepSeek-VL2 have a DeepSeek-V2 without latent attention: a rank of null or 0."""
    if c.null("kv_lora_rank") or not c.num("kv_lora_rank") or not c.flag("use_mla", default=True):
        return multi_head(c)
    return everywhere(c)


def kimi_k2(c: Config) -> tuple[Layer, ...]:
    """DeepSeek-V3 with other numbers, and the same class."""
    return everywhere(c.retyped(c.held("")))


def twice(c: Config) -> tuple[Layer, ...]:
    """LongCat-Flash: two attentions a layer."""
    return (Layer(mixers=(latent(c), latent(c))),) * c.layers("num_layers")


def own_indexer(c: Config) -> Indexer:
    return Indexer(heads=c.num("index_n_heads"), dim=c.num("index_head_dim"))


def indexed(c: Config) -> tuple[Layer, ...]:
    """DeepSeek-V3.2: an indexer in every layer."""
    return (Layer(mixers=(latent(c, own_indexer(c)),)),) * c.layers("num_hidden_layers")


def compressed(c: Config) -> tuple[Layer, ...]:
    from weighbridge.arch.deepseek_v4 import SLIDING, SPARSE, mixers, rate, rotated

    def one(kind: str) -> Compressed:
        return Compressed(
            heads=c.num("num_attention_heads"),
            dim=c.num("head_dim"),
            rotary=rotated(c),
            window=c.num("sliding_window"),
            rate=1 if kind == SLIDING else rate(c, kind),
            indexer=own_indexer(c) if kind == SPARSE else None,
        )

    return tuple(Layer(mixers=(one(kind),)) for kind in mixers(c))


def minimax_m3(c: Config) -> tuple[Layer, ...]:
    """Grouped queries; the layers with an index store a key of its size beside them."""
    from weighbridge.arch.minimax_m3 import INDEXED, SIZES, mixers

    own = c.sub("sparse_attention_config")
    heads, dim = (own.num(old, default=c.num(new, default=0)) for new, old in SIZES.items())
    full = attention(c, grouped(c))
    picked = replace(full, indexer=Indexer(heads=heads, dim=dim))
    return tuple(Layer(mixers=(picked if kind == INDEXED else full,)) for kind in mixers(c))

"""Multi-head latent attention, with and without an indexer, and DeepSeek-V4's compressed kind."""

from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Compressed, Indexer, Layer


def own_indexer(c: Config) -> Indexer:
    return Indexer(heads=c.num("index_n_heads"), dim=c.num("index_head_dim"))


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

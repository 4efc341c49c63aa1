"""RWKV: token and channel mixing without attention. Version 4, and 5 (remote code).

    time mixing: key, value, receptance A x D, output D x A; decays and mixes are vectors
    version 5 adds a gate A x D, a norm over A, and decays a head
    channel mixing: key F x D, receptance D x D, value D x F

Source: transformers 5.23 models/rwkv/modeling_rwkv.py; modeling_rwkv5.py of RWKV/rwkv-5-world-3b.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, stack


def mixes(at: str, width: int, names: tuple[str, ...]) -> Iterator[Param]:
    for name in names:
        yield Param(f"{at}time_mix_{name}", (1, 1, width), "other")


def projections(at: str, width: int, inner: int, names: tuple[str, ...]) -> Iterator[Param]:
    for name in names:
        yield from linear(f"{at}{name}", inner, width)
    yield from linear(f"{at}output", width, inner)


def attention_size(c: Config) -> int:
    return c.num("attention_hidden_size", default=c.num("hidden_size"))


def time_mixing(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), attention_size(c)
    yield Param(f"{at}time_decay", (inner,), "other")
    yield Param(f"{at}time_first", (inner,), "other")
    yield from mixes(at, width, ("key", "value", "receptance"))
    yield from projections(at, width, inner, ("key", "value", "receptance"))


def time_mixing5(c: Config, at: str) -> Iterator[Param]:
    width, inner, size = c.num("hidden_size"), attention_size(c), max(1, c.num("head_size"))
    names = ("key", "value", "receptance", "gate")
    yield Param(f"{at}time_decay", (inner // size, size), "other")
    yield Param(f"{at}time_faaaa", (inner // size, size), "other")
    yield from mixes(at, width, names)
    yield from projections(at, width, inner, names)
    yield from norm(f"{at}ln_x", inner, bias=True)


def channel_mixing(at: str, width: int, inner: int) -> Iterator[Param]:
    yield from mixes(at, width, ("key", "receptance"))
    yield from linear(f"{at}key", inner, width)
    yield from linear(f"{at}receptance", width, width)
    yield from linear(f"{at}value", width, inner)


NAMES = Names(embed="embeddings", layers="blocks", final="ln_out", norm_bias=True)


def rwkv(c: Config, at: str) -> Iterator[Param]:
    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        for name in ("ln1", "ln2") if i else ("pre_ln", "ln1", "ln2"):
            yield from norm(f"{at}{name}", width, bias=True)
        yield from time_mixing(c, f"{at}attention.")
        inner = c.num("intermediate_size", default=4 * width)
        yield from channel_mixing(f"{at}feed_forward.", width, inner)

    yield from stack(c, at, layer, NAMES)


def rwkv5(c: Config, at: str) -> Iterator[Param]:
    """The feed-forward is 3.5 times as wide as the model, a multiple of 32."""

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        for name in ("ln1", "ln2") if i else ("pre_ln", "ln1", "ln2"):
            yield from norm(f"{at}{name}", width, bias=True)
        yield from time_mixing5(c, f"{at}attention.")
        inner = c.num("intermediate_size", default=width * 7 // 64 * 32)
        yield from channel_mixing(f"{at}feed_forward.", width, inner)

    yield from stack(c, at, layer, NAMES)


def head(c: Config, at: str) -> Iterator[Param]:
    owner = f"{at}rwkv.embeddings.weight" if c.flag("tie_word_embeddings") else ""
    shape = (c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{at}head.weight", shape, tied=owner)


RWKV = Family(
    body=rwkv,
    base="rwkv",
    cls="RwkvForCausalLM",
    heads={"ForCausalLM": head},
    blocks=("blocks.*",),
)
RWKV_5 = Family(
    body=rwkv5,
    base="rwkv",
    cls="RwkvForCausalLM",
    heads={"ForCausalLM": head},
    blocks=("blocks.*",),
)

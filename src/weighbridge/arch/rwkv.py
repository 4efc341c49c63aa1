"""RWKV: token and channel mixing without attention. Version 4, and 5 (remote code).

    time mixing: key, value, receptance A x D, output D x A; decays and mixes are vectors
    version 5 adds a gate A x D, a norm over A, and decays a head
    channel mixing: key F x D, receptance D x D, value D x F

Source: transformers 5.23 models/rwkv/modeling_rwkv.py; modeling_rwkv5.py of RWKV/rwkv-5-world-3b.
"""

from collections.abc import Callable, Iterator

from weighbridge.arch.blueprint import Family, Param, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, tree
from weighbridge.arch.feed import Dense
from weighbridge.arch.mixers import Rwkv
from weighbridge.arch.model_types import ModelType, TrainingFacts, TransformersFacts
from weighbridge.arch.modules import Decoder, Submodule, Submodules, by_kind, normed, submodule


def mixes(at: str, width: int, names: tuple[str, ...]) -> Iterator[Param]:
    for name in names:
        yield Param(f"{at}time_mix_{name}", (1, 1, width), "other")


def projections(at: str, width: int, inner: int, names: tuple[str, ...]) -> Iterator[Param]:
    for name in names:
        yield from linear(f"{at}{name}", inner, width)
    yield from linear(f"{at}output", width, inner)


def attention_size(c: Config) -> int:
    return c.num("attention_hidden_size", default=c.num("hidden_size"))


def time_mixing(c: Config) -> Submodule:
    width, inner, at = c.num("hidden_size"), attention_size(c), "attention."
    return submodule(
        [Param(f"{at}time_decay", (inner,), "other"), Param(f"{at}time_first", (inner,), "other")],
        mixes(at, width, ("key", "value", "receptance")),
        projections(at, width, inner, ("key", "value", "receptance")),
        mixer=Rwkv(width=width, inner=inner, head_dim=0),
    )


def time_mixing5(c: Config) -> Submodule:
    width, inner, at = c.num("hidden_size"), attention_size(c), "attention."
    size, names = max(1, c.num("head_size")), ("key", "value", "receptance", "gate")
    heads = (inner // size, size)
    return submodule(
        [Param(f"{at}time_decay", heads, "other"), Param(f"{at}time_faaaa", heads, "other")],
        mixes(at, width, names),
        projections(at, width, inner, names),
        norm(f"{at}ln_x", inner, bias=True),
        mixer=Rwkv(width=width, inner=inner, head_dim=c.num("head_size")),
    )


def channel_mixing(width: int, inner: int) -> Submodule:
    at = "feed_forward."
    return submodule(
        mixes(at, width, ("key", "receptance")),
        linear(f"{at}key", inner, width),
        linear(f"{at}receptance", width, width),
        linear(f"{at}value", width, inner),
        feed=Dense(width=inner, gated=False),
    )


NAMES = DecoderNames(embed="embeddings", layers="blocks", final="ln_out", norm_bias=True)


def mixed(c: Config, time: Callable[[Config], Submodule], usual: int) -> Decoder:
    """Layers of both mixings; the first has a norm more. `usual` is the width without a word."""

    def layer(is_first: bool) -> Submodules:
        width, names = c.num("hidden_size"), ("pre_ln", "ln1", "ln2")
        norms = normed(width, *names[0 if is_first else 1 :], bias=True)
        return (norms, time(c), channel_mixing(width, c.num("intermediate_size", default=usual)))

    return tree(c, by_kind([i == 0 for i in range(c.layers("num_hidden_layers"))], layer), NAMES)


def rwkv(c: Config) -> Decoder:
    return mixed(c, time_mixing, 4 * c.num("hidden_size"))


def rwkv5(c: Config) -> Decoder:
    """The feed-forward is 3.5 times as wide as the model, a multiple of 32."""
    return mixed(c, time_mixing5, c.num("hidden_size") * 7 // 64 * 32)


def head(c: Config, at: str) -> Iterator[Param]:
    owner = f"{at}rwkv.embeddings.weight" if c.flag("tie_word_embeddings") else ""
    shape = (c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{at}head.weight", shape, tied=owner)


RWKV = Family(
    tree=rwkv,
    base="rwkv",
    cls="RwkvForCausalLM",
    heads={"ForCausalLM": head},
    blocks=("blocks.*",),
)
RWKV_5 = Family(
    tree=rwkv5,
    base="rwkv",
    cls="RwkvForCausalLM",
    heads={"ForCausalLM": head},
    blocks=("blocks.*",),
)

TYPES = {
    "rwkv": ModelType(
        RWKV,
        positions="endless",
        gguf="none",
        training=TrainingFacts(lora=("key", "value", "receptance", "output")),
        transformers=TransformersFacts(last_logits=(5, 0)),
    ),
    "rwkv5": ModelType(RWKV_5, positions="endless"),
}

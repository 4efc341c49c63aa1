"""State-space layers: the mixers of Mamba 1 and 2, and the models that are nothing but them.

    Mamba 1, inner size I, state N, rank R, kernel k:
    in_proj 2I x D, conv1d I x k, x_proj (R + 2N) x I, dt_proj I x R, A_log I x N, D I, out D x I

    Mamba 2, heads M, groups G: channels of the convolution C = I + 2GN
    in_proj (I + C + M) x D, conv1d C x k, A_log, D and dt_bias M each, norm I, out_proj D x I

Source: transformers 5.23 models/{mamba,mamba2,falcon_mamba}/modeling_*.py.
"""

from collections.abc import Iterator
from typing import NamedTuple

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, alike, tree
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.mixers import Mamba1, Mamba2
from weighbridge.arch.model_types import (
    MlxFacts,
    ModelType,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import Decoder, Submodule, Submodules, normed, submodule
from weighbridge.units import ceil_div


def expanded(c: Config, name: str) -> int:
    return int(c.ratio(name) * c.num("hidden_size"))


def inner_size(c: Config) -> int:
    """The size that the config names, else `expand` times the hidden size. Falcon-Mamba-7B says
    8,192 beside an `expand` of 16 x 4,096; its published count is that of the former."""
    expand = expanded(c, "expand")
    return c.num("intermediate_size") if c.has("intermediate_size") else expand


def step_rank(c: Config, name: str) -> int:
    """The rank of the time step: "auto" is a sixteenth of the hidden size."""
    if c.get(name) == "auto":
        return ceil_div(c.num("hidden_size"), 16)
    return c.num(name)


class Biases(NamedTuple):
    """The linears, and the convolution, of a Mamba layer that have a bias."""

    conv: bool
    inner: bool  # in_proj
    out: bool


def mamba1(path: str, width: int, mamba: Mamba1, rank: int, has: Biases) -> Submodule:
    return submodule(
        conv(f"{path}conv1d", (mamba.inner, 1, mamba.kernel), bias=has.conv),
        linear(f"{path}in_proj", 2 * mamba.inner, width, bias=has.inner),
        linear(f"{path}x_proj", rank + 2 * mamba.state, mamba.inner),
        linear(f"{path}dt_proj", mamba.inner, rank, bias=True),
        [Param(f"{path}A_log", (mamba.inner, mamba.state), "other")],
        [Param(f"{path}D", (mamba.inner,), "other")],
        linear(f"{path}out_proj", width, mamba.inner, bias=has.out),
        mixer=mamba,
    )


def mamba2(
    path: str, width: int, mamba: Mamba2, has: Biases, *, has_norm: bool = True
) -> Submodule:
    rows = mamba.inner + mamba.channels + mamba.heads
    return submodule(
        conv(f"{path}conv1d", (mamba.channels, 1, mamba.kernel), bias=has.conv),
        linear(f"{path}in_proj", rows, width, bias=has.inner),
        (Param(f"{path}{name}", (mamba.heads,), "other") for name in ("dt_bias", "A_log", "D")),
        norm(f"{path}norm", mamba.inner) if has_norm else (),
        linear(f"{path}out_proj", width, mamba.inner, bias=has.out),
        mixer=mamba,
    )


NAMES = DecoderNames(embed="embeddings", final="norm_f")


def biases(c: Config) -> Biases:
    bias = c.flag("use_bias")
    return Biases(conv=c.flag("use_conv_bias"), inner=bias, out=bias)


def mamba(c: Config) -> Decoder:
    m = Mamba1(inner=inner_size(c), state=c.num("state_size"), kernel=c.num("conv_kernel"))

    def layer() -> Submodules:
        width, rank = c.num("hidden_size"), step_rank(c, "time_step_rank")
        return (normed(width, "norm"), mamba1("mixer.", width, m, rank, biases(c)))

    return tree(c, alike(c, layer), NAMES)


def mamba_2(c: Config) -> Decoder:
    m = Mamba2(
        inner=expanded(c, "expand"),
        heads=c.num("num_heads"),
        groups=c.num("n_groups"),
        state=c.num("state_size"),
        kernel=c.num("conv_kernel"),
    )

    def layer() -> Submodules:
        width = c.num("hidden_size")
        return (normed(width, "norm"), mamba2("mixer.", width, m, biases(c)))

    return tree(c, alike(c, layer), NAMES)


def falcon_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """The three norms of its mixer have ones for a weight, never trained nor stored."""
    sizes = {"dt": inner_size(c), "b": c.num("state_size"), "c": c.num("state_size")}
    for i in range(c.layers("num_hidden_layers")):
        for name, size in sizes.items():
            yield Buffer(f"{prefix}layers.{i}.mixer.{name}_layernorm.weight", (size,), "")


MAMBA = Family(tree=mamba, base="backbone", cls="MambaForCausalLM", heads=DECODER_HEADS)
MAMBA_2 = Family(tree=mamba_2, base="backbone", cls="Mamba2ForCausalLM", heads=DECODER_HEADS)
FALCON_MAMBA = Family(
    tree=mamba,
    base="backbone",
    cls="FalconMambaForCausalLM",
    heads=DECODER_HEADS,
    buffers=falcon_buffers,
)

TYPES = {
    "mamba": ModelType(
        MAMBA,
        positions="endless",
        computes=("not_rotary",),
        training=TrainingFacts(net="mamba.mamba"),
        transformers=TransformersFacts(last_logits=(5, 0)),
        vllm=VllmFacts(every_stage="both"),
        mlx=MlxFacts(has_class=True, own_caches=True),
    ),
    "mamba2": ModelType(
        MAMBA_2,
        positions="endless",
        computes=("not_rotary",),
        training=TrainingFacts(net="mamba.mamba2"),
        transformers=TransformersFacts(last_logits=(5, 0)),
        vllm=VllmFacts(every_stage="both", tied_head="freed"),
        mlx=MlxFacts(has_class=True, own_caches=True),
    ),
    "falcon_mamba": ModelType(
        FALCON_MAMBA,
        positions="endless",
        computes=("not_rotary", "unweighted_norms"),
        gguf="mamba",
        training=TrainingFacts(net="mamba.mamba"),
        transformers=TransformersFacts(last_logits=(5, 0)),
        mlx=MlxFacts(has_class=True, own_caches=True),
    ),
}

"""State-space layers: the mixers of Mamba 1 and 2, and the models that are nothing but them.

    Mamba 1, inner size I, state N, rank R, kernel k:
    in_proj 2I x D, conv1d I x k, x_proj (R + 2N) x I, dt_proj I x R, A_log I x N, D I, out D x I

    Mamba 2, heads M, groups G: channels of the convolution C = I + 2GN
    in_proj (I + C + M) x D, conv1d C x k, A_log, D and dt_bias M each, norm I, out_proj D x I

Source: transformers 5.23 models/{mamba,mamba2,falcon_mamba}/modeling_*.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, stack
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.units import ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba1:
    width: int
    inner: int
    state: int
    rank: int
    kernel: int
    conv_bias: bool
    bias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2:
    width: int
    inner: int
    heads: int
    groups: int
    state: int
    kernel: int
    conv_bias: bool
    bias: bool
    out_bias: bool
    has_norm: bool = True

    @property
    def channels(self) -> int:
        return self.inner + 2 * self.groups * self.state


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


def mamba1(at: str, m: Mamba1) -> Iterator[Param]:
    yield from conv(f"{at}conv1d", (m.inner, 1, m.kernel), bias=m.conv_bias)
    yield from linear(f"{at}in_proj", 2 * m.inner, m.width, bias=m.bias)
    yield from linear(f"{at}x_proj", m.rank + 2 * m.state, m.inner)
    yield from linear(f"{at}dt_proj", m.inner, m.rank, bias=True)
    yield Param(f"{at}A_log", (m.inner, m.state), "other")
    yield Param(f"{at}D", (m.inner,), "other")
    yield from linear(f"{at}out_proj", m.width, m.inner, bias=m.bias)


def mamba2(at: str, m: Mamba2) -> Iterator[Param]:
    yield from conv(f"{at}conv1d", (m.channels, 1, m.kernel), bias=m.conv_bias)
    yield from linear(f"{at}in_proj", m.inner + m.channels + m.heads, m.width, bias=m.bias)
    for name in ("dt_bias", "A_log", "D"):
        yield Param(f"{at}{name}", (m.heads,), "other")
    if m.has_norm:
        yield from norm(f"{at}norm", m.inner)
    yield from linear(f"{at}out_proj", m.width, m.inner, bias=m.out_bias)


NAMES = Names(embed="embeddings", final="norm_f")


def mamba_body(c: Config, at: str) -> Iterator[Param]:
    m = Mamba1(
        width=c.num("hidden_size"),
        inner=inner_size(c),
        state=c.num("state_size"),
        rank=step_rank(c, "time_step_rank"),
        kernel=c.num("conv_kernel"),
        conv_bias=c.flag("use_conv_bias"),
        bias=c.flag("use_bias"),
    )

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        yield from norm(f"{at}norm", m.width)
        yield from mamba1(f"{at}mixer.", m)

    yield from stack(c, at, layer, NAMES)


def mamba2_body(c: Config, at: str) -> Iterator[Param]:
    m = Mamba2(
        width=c.num("hidden_size"),
        inner=expanded(c, "expand"),
        heads=c.num("num_heads"),
        groups=c.num("n_groups"),
        state=c.num("state_size"),
        kernel=c.num("conv_kernel"),
        conv_bias=c.flag("use_conv_bias"),
        bias=c.flag("use_bias"),
        out_bias=c.flag("use_bias"),
    )

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        yield from norm(f"{at}norm", m.width)
        yield from mamba2(f"{at}mixer.", m)

    yield from stack(c, at, layer, NAMES)


def falcon_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """The three norms of its mixer have ones for a weight, never trained nor stored."""
    sizes = {"dt": inner_size(c), "b": c.num("state_size"), "c": c.num("state_size")}
    for i in range(c.layers("num_hidden_layers")):
        for name, size in sizes.items():
            yield Buffer(f"{at}layers.{i}.mixer.{name}_layernorm.weight", (size,), "")


MAMBA = Family(body=mamba_body, base="backbone", cls="MambaForCausalLM", heads=DECODER_HEADS)
MAMBA_2 = Family(body=mamba2_body, base="backbone", cls="Mamba2ForCausalLM", heads=DECODER_HEADS)
FALCON_MAMBA = Family(
    body=mamba_body,
    base="backbone",
    cls="FalconMambaForCausalLM",
    heads=DECODER_HEADS,
    buffers=falcon_buffers,
)

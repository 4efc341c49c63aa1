"""MobileNetV5-300M, the tower of Gemma 3n: fused, inverted and attention blocks in four stages.

    inverted block: depthwise a x a (or none), pointwise to e times the width, depthwise k x k
    (or none), pointwise back; attention: N query heads of size d, one key and value head
    at the end the last two stages' outputs side by side go through one more inverted block

Every convolution is followed by an RMSNorm without bias. Source: timm 1.0.31
timm/models/mobilenetv5.py, _gen_mobilenet_v5 (300m) and MobileNetV5MultiScaleFusionAdapter.
"""

from collections.abc import Iterator
from typing import NamedTuple

from weighbridge.arch.blueprint import Family, Param, conv, norm
from weighbridge.arch.config import Config
from weighbridge.arch.model_types import ModelType


class FusedConvs(NamedTuple):
    expansion: int


class Inverted(NamedTuple):
    start: int  # kernel of the depthwise convolution before, 0: none
    middle: int  # and in the middle
    expansion: int


class MobileAttention(NamedTuple):
    heads: int
    size: int
    shortened: bool  # keys and values of every second row and column


Block = FusedConvs | Inverted | MobileAttention
STEM, FUSION = 64, 2048
STAGES: tuple[tuple[int, tuple[Block, ...]], ...] = (  # width, blocks
    (128, (FusedConvs(4),) * 3),
    (256, (Inverted(3, 5, 6), *(Inverted(5, 0, 4), Inverted(3, 0, 4)) * 2)),
    (
        640,
        (
            Inverted(5, 5, 6),
            *(Inverted(5, 0, 4),) * 7,
            Inverted(0, 0, 1),
            *(MobileAttention(12, 64, True), Inverted(0, 0, 2)) * 14,
        ),
    ),
    (1280, (Inverted(5, 5, 6), *(MobileAttention(16, 96, False), Inverted(0, 0, 2)) * 19)),
)


def normed(at: str, shape: tuple[int, ...]) -> Iterator[Param]:
    yield from conv(f"{at}.conv", shape, bias=False)
    yield from norm(f"{at}.bn", shape[0])


def fused(at: str, into: int, out: int, b: FusedConvs) -> Iterator[Param]:
    inner = into * b.expansion
    yield from conv(f"{at}conv_exp", (inner, into, 3, 3), bias=False)
    yield from norm(f"{at}bn1", inner)
    yield from conv(f"{at}conv_pwl", (out, inner, 1, 1), bias=False)
    yield from norm(f"{at}bn2", out)


def inverted(at: str, into: int, out: int, b: Inverted) -> Iterator[Param]:
    inner = into * b.expansion
    if b.start:
        yield from normed(f"{at}dw_start", (into, 1, b.start, b.start))
    yield from normed(f"{at}pw_exp", (inner, into, 1, 1))
    if b.middle:
        yield from normed(f"{at}dw_mid", (inner, 1, b.middle, b.middle))
    yield from normed(f"{at}pw_proj", (out, inner, 1, 1))


def attention(at: str, width: int, b: MobileAttention) -> Iterator[Param]:
    inner = b.heads * b.size
    yield from norm(f"{at}norm", width)
    yield from conv(f"{at}attn.query.proj", (inner, width, 1, 1), bias=False)
    for name in ("key", "value"):
        if b.shortened:
            yield from conv(f"{at}attn.{name}.down_conv", (width, 1, 3, 3), bias=False)
            yield from norm(f"{at}attn.{name}.norm", width)
        yield from conv(f"{at}attn.{name}.proj", (b.size, width, 1, 1), bias=False)
    yield from conv(f"{at}attn.output.proj", (width, inner, 1, 1), bias=False)


def block(at: str, into: int, out: int, b: Block) -> Iterator[Param]:
    if isinstance(b, FusedConvs):
        yield from fused(at, into, out, b)
        return
    yield from (
        attention(at, out, b) if isinstance(b, MobileAttention) else inverted(at, into, out, b)
    )
    yield Param(f"{at}layer_scale.gamma", (out,), "other")


def tower(at: str) -> Iterator[Param]:
    yield from conv(f"{at}conv_stem.conv", (STEM, 3, 3, 3))
    yield from norm(f"{at}conv_stem.bn", STEM)
    into = STEM
    for i, (width, blocks) in enumerate(STAGES):
        for j, b in enumerate(blocks):
            yield from block(f"{at}blocks.{i}.{j}.", into, width, b)
            into = width
    joined = STAGES[-2][0] + STAGES[-1][0]
    yield from inverted(f"{at}msfa.ffn.", joined, FUSION, Inverted(0, 0, 2))
    yield from norm(f"{at}msfa.norm", FUSION)


def vision(c: Config, at: str) -> Iterator[Param]:
    name = c.word("architecture", default="mobilenetv5_300m_enc")
    if name != "mobilenetv5_300m_enc":
        raise c.error("architecture", f"is {name!r}; known: mobilenetv5_300m_enc")
    yield from tower(f"{at}timm_model.")


MOBILENETV5 = Family(body=vision, cls="TimmWrapperModel", blocks=("timm_model.blocks.*.*",))

TYPES = {
    "gemma3n_vision": ModelType(MOBILENETV5, no_cache="image", encodes="pyramid"),
}

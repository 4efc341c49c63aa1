"""VQGAN, with which Chameleon, Emu3 and Janus turn images into tokens and back.

    down: a stage for each multiplier m: R residual blocks of width m B, then half the resolution
    residual block: norm, 3 x 3, norm, 3 x 3, a 1 x 1 shortcut where the width changes

Source: transformers 5.23 models/{chameleon,janus}/modeling_*.py.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from weighbridge.arch.blueprint import Family, Param, conv, embedding
from weighbridge.arch.config import Config
from weighbridge.arch.model_types import ModelType, differs
from weighbridge.arch.vision import layernorm, sizes

Norm = Callable[[str, int], Iterator[Param]]


class VqganStage(NamedTuple):
    """R blocks, the first from `into` to `width` channels; `last` has the lowest resolution."""

    into: int
    width: int
    blocks: int
    last: bool


def stages(c: Config) -> list[VqganStage]:
    base, found = c.num("base_channels"), []
    multipliers = sizes(c, "channel_multiplier")
    into = base
    for i, m in enumerate(multipliers):
        last = i == len(multipliers) - 1
        found.append(VqganStage(into, m * base, c.layers("num_res_blocks"), last))
        into = m * base
    return found


def resnet(at: str, into: int, width: int, norm: Norm = layernorm) -> Iterator[Param]:
    yield from norm(f"{at}norm1", into)
    yield from conv(f"{at}conv1", (width, into, 3, 3))
    yield from norm(f"{at}norm2", width)
    yield from conv(f"{at}conv2", (width, width, 3, 3))
    if into != width:
        yield from conv(f"{at}nin_shortcut", (width, into, 1, 1))


def attention(at: str, width: int) -> Iterator[Param]:
    yield from layernorm(f"{at}norm", width)
    for name in ("q", "k", "v", "proj_out"):
        yield from conv(f"{at}{name}", (width, width, 1, 1))


def middle(at: str, width: int, *, attends: bool) -> Iterator[Param]:
    yield from resnet(f"{at}block_1.", width, width)
    if attends:
        yield from attention(f"{at}attn_1.", width)
    yield from resnet(f"{at}block_2.", width, width)


def ends(at: str, width: int, out: int) -> Iterator[Param]:
    yield from layernorm(f"{at}norm_out", width)
    yield from conv(f"{at}conv_out", (out, width, 3, 3))


def latent(c: Config) -> int:
    return c.num("latent_channels") * (2 if c.flag("double_latent") else 1)


def attended(c: Config, level: int, last: bool) -> bool:
    """Chameleon names resolutions; Janus attends at the lowest."""
    if not differs(c.model_type, "named_resolutions"):
        return last
    at = c.num("resolution") >> level
    return c.word("attn_type") == "vanilla" and at in c.nums("attn_resolutions")


def encoder(c: Config, at: str) -> Iterator[Param]:
    found = stages(c)
    yield from conv(f"{at}conv_in", (c.num("base_channels"), c.num("in_channels"), 3, 3))
    for i, stage in enumerate(found):
        path = f"{at}down.{i}."
        for j in range(stage.blocks):
            into = stage.width if j else stage.into
            yield from resnet(f"{path}block.{j}.", into, stage.width)
            if attended(c, i, stage.last):
                yield from attention(f"{path}attn.{j}.", stage.width)
        if not stage.last:
            yield from conv(f"{path}downsample.conv", (stage.width, stage.width, 3, 3))
    width = found[-1].width
    yield from middle(
        f"{at}mid.", width, attends=c.word("attn_type", default="vanilla") == "vanilla"
    )
    yield from ends(at, width, latent(c))


def decoder(c: Config, at: str) -> Iterator[Param]:
    """Stages in reverse order, each with one block more."""
    found = stages(c)[::-1]
    into = found[0].width
    yield from conv(f"{at}conv_in", (into, c.num("latent_channels"), 3, 3))
    yield from middle(f"{at}mid.", into, attends=True)
    for i, stage in enumerate(found):
        path = f"{at}up.{i}."
        for j in range(stage.blocks + 1):
            yield from resnet(f"{path}block.{j}.", into, stage.width)
            into = stage.width
            if stage.last:
                yield from attention(f"{path}attn.{j}.", into)
        if i < len(found) - 1:
            yield from conv(f"{path}upsample.conv", (into, into, 3, 3))
    yield from ends(at, into, c.num("out_channels"))


def codebook(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("embed_dim"), c.num("latent_channels")
    yield from embedding(f"{at}quantize.embedding", c.num("num_embeddings"), width)
    yield from conv(f"{at}quant_conv", (width, inner, 1, 1))
    yield from conv(f"{at}post_quant_conv", (inner, width, 1, 1))


def encoding(c: Config, at: str) -> Iterator[Param]:
    yield from encoder(c, f"{at}encoder.")
    yield from codebook(c, at)


def both(c: Config, at: str) -> Iterator[Param]:
    yield from encoding(c, at)
    yield from decoder(c, f"{at}decoder.")


MIDDLE = ("mid.attn_1", "mid.block_1", "mid.block_2")
DOWN = ("quantize", "encoder.down.*.block.*", *(f"encoder.{name}" for name in MIDDLE))
UP = ("decoder.up.*.block.*", "decoder.up.*.attn.*", *(f"decoder.{name}" for name in MIDDLE))


def chameleon_blocks(c: Config) -> tuple[str, ...]:
    found = enumerate(stages(c))
    attends = any(attended(c, i, stage.last) for i, stage in found)
    return (*DOWN, "encoder.down.*.attn.*") if attends else DOWN


CHAMELEON_VQ = Family(body=encoding, cls="ChameleonVQVAEModel", blocks=chameleon_blocks)
JANUS_VQ = Family(body=both, cls="JanusVQVAEModel", blocks=(*DOWN, "encoder.down.*.attn.*", *UP))

TYPES = {
    "chameleon_vqgan": ModelType(
        CHAMELEON_VQ, no_cache="image", encodes="pyramid", computes=("named_resolutions",)
    ),
    "janus_vqgan": ModelType(JANUS_VQ, no_cache="image", encodes="pyramid"),
}

"""Components: from a config to the program of its class, its tree, and the memory of its step."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from weighbridge.base.dtypes import TORCH
from weighbridge.base.errors import UnsupportedError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.pictures.config import class_of, config_of
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.recorded import recorded
from weighbridge.pictures.seeing import CLASSES, sees
from weighbridge.pictures.values import Block, ProgramRun, RunBlock, Sizes, Value
from weighbridge.training.forward.machine import Machine

Raw = Mapping[str, Any]
ROOMS = (
    "flux",
    "joint",
    "hunyuan",
    "wan",
    "mochi",
    "stream",
    "hidream",
    "unet",
    "vae_image",
    "vae_wan",
    "vae_cog",
    "vae_hunyuan",
    "vae_dc",
    "vae_mochi",
    "svd",
    "motion",
    "vae_cosmos",
    "vae_ltx",
    "encoders",
)
NETS = "weighbridge.pictures.nets"
RECORDED = (
    "CogVideoXTransformer3DModel",
    "CogView4Transformer2DModel",
    "CosmosTransformer3DModel",
    "ErnieImageTransformer2DModel",
    "Ideogram4Transformer2DModel",
    "Kandinsky5Transformer3DModel",
    "Krea2Transformer2DModel",
    "LTX2VideoTransformer3DModel",
    "LTXVideoTransformer3DModel",
    "OmniGenTransformer2DModel",
    "PixArtTransformer2DModel",
    "SanaTransformer2DModel",
    "SanaVideoTransformer3DModel",
)
OLD_NAMES = {"Transformer2DModel": "PixArtTransformer2DModel"}  # PixArt's, whose defaults it has
SMALLEST = Sizes(batch=1, frames=1, height=8, width=8, text=8)  # a run that only declares
SEEN = Sizes(batch=1, height=256, width=256)  # the same for vision networks
WRONG = (TypeError, ValueError, ZeroDivisionError, IndexError, KeyError, AttributeError)


# Values of a class's options that its program supports; others bring further tensors
LEVELS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "class_embed_type": ("projection", "simple_projection"),
    "addition_embed_type": ("text_time",),
    "encoder_hid_dim_type": ("text_proj",),
    "cross_attention_norm": (),
    "dual_cross_attention": (),
}
FOLLOWED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "UNet2DConditionModel": LEVELS,
    "ControlNetModel": LEVELS,
    "AutoencoderKL": {
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
    },
}
# Modules that are never split over devices besides blocks: `_no_split_modules` of diffusers
WHOLE = {
    "UNet2DConditionModel": ("up_blocks.*",),
    "AutoencoderKL": (
        "encoder.down_blocks.*.resnets.*",
        "decoder.up_blocks.*.resnets.*",
        *(f"{half}.mid_block.resnets.*" for half in ("encoder", "decoder")),
    ),
}


@cache
def _programs() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for room in ROOMS:
        table.update(import_module(f"{NETS}.{room}").PROGRAMS)
    table.update((cls, recorded(cls)) for cls in RECORDED)
    table.update((old, table[new]) for old, new in OLD_NAMES.items())
    return table


def _program(cls: str, code: str = "") -> Any:
    """Return the program of a class; with `code`, that engine's own before diffusers'. None if
    there is none."""
    seen = CLASSES.get(cls)
    table = _programs() if seen is None else import_module(f"{NETS}.{seen.room}").PROGRAMS
    return _programs_of_engine(code).get(cls) or table.get(cls)


@cache
def _programs_of_engine(program: str) -> dict[str, Any]:
    """Return an engine's programs that replace those of diffusers' classes, by class."""
    return dict(import_module(f"{NETS}.{program}").PROGRAMS) if program else {}


def followed(config: Raw, code: str) -> bool:
    """Return whether an engine's own code runs a config's class: not with image inputs."""
    return class_of(config) in _programs_of_engine(code) and not config.get("image_dim")


def unfused(config: Raw, *, fused: bool) -> Iterator[str]:
    """Yield a note if queries, keys and values are fused, but the recorded program has separate
    ones."""
    cls = OLD_NAMES.get(class_of(config), class_of(config))
    if fused and cls in RECORDED:
        yield sentence("picture.unfused", cls=cls)


def known(config: Raw) -> bool:
    """Return whether there is a program for the class of a config."""
    return _program(class_of(config)) is not None


def forward(run: ProgramRun, config: Raw, sizes: Sizes) -> Value | None:
    """Run the program of a config's class and return its output. Raises UnsupportedError for a
    class without one, or a config that it does not support."""
    program = _program(run.cls, run.code)
    if program is None:
        raise UnsupportedError(sentence("picture.no_program", cls=run.cls))
    _follow(config)
    try:
        value: Value | None = program(NetPlace(run), config_of(config), sizes)
    except WeighbridgeError:
        raise
    except WRONG as error:
        raise UnsupportedError(sentence("no_config_of", cls=run.cls, why=str(error))) from error
    return value


def _follow(config: Raw) -> None:
    """Raise UnsupportedError if the config sets an option that the class's program does not
    support."""
    for name, followed in FOLLOWED.get(class_of(config), {}).items():
        value = config.get(name)
        for one in value if isinstance(value, list | tuple) else (value,):
            if one and one not in followed:
                option = f"{name}={one}"
                raise UnsupportedError(sentence("no_config_of", cls=class_of(config), why=option))


def declared(config: Raw, block: RunBlock | None = None, code: str = "") -> ProgramRun:
    """Return a finished run at the smallest sizes, which has declared the whole module tree."""
    heap = CountedHeap()
    run = ProgramRun(m=Machine(heap), cls=class_of(config), dtype=TORCH["bfloat16"], code=code)
    run.m.grad, run.block = False, block
    heap.close()  # its memory is not used
    forward(run, config, SEEN if sees(config) else SMALLEST)
    return run


def blueprint(config: Raw) -> Blueprint | None:
    """Return the module tree of a config's class; None if the class has no program."""
    if not known(config):
        return None
    blocks: dict[str, None] = {}

    def passed(call: Block, place: NetPlace, values: tuple[Value, ...]) -> Any:
        blocks[re.sub(r"\b\d+\b", "*", place.path.rstrip("."))] = None
        return call(place, *values)

    run = declared(config, passed)
    whole = (*WHOLE.get(run.cls, ()), *blocks)
    return Blueprint(
        cls=run.cls,
        params=tuple(run.declared.values()),
        buffers=tuple(run.buffers.values()),
        blocks=whole,
    )

"""The encoders of images and sounds before a language model: widths, layers, positions, tokens.

    widths and layers   off the tower's tensors;    heads   from its own config
    positions, tokens   of one image or sound, as the family's processor makes them (`inputs/`)

If the user names no size, an image is IMAGE and a sound SECONDS. A tower of one size resizes its
input, and a tower of any size has a largest input beyond which nothing grows, so that a huge image
gives the most that it can take.
"""

import re
from collections.abc import Sequence
from math import prod
from typing import Any, Literal

from weighbridge.base.records import replace
from weighbridge.models.arch import encoders
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.arch.body import Dense, Tower
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import sounds
from weighbridge.models.arch.inputs.images import TowerTokens
from weighbridge.models.arch.inputs.sizes import ImageSize
from weighbridge.models.arch.model_types import Hearing, Sight, facts
from weighbridge.models.arch.stacks import LayerStack, feeds, joined, sort

IMAGE = ImageSize(1024, 1024)
SECONDS = 30.0
SEES = re.compile("vision|visual")  # words in paths, for classes whose parts have no labels
LABELS = {"image": "vision tower", "audio": "audio tower"}


def looks(model_type: str) -> Sequence[Sight | Hearing]:
    """Return the rules for a model type's images and sounds: none, one or two."""
    known = facts(model_type)
    return [look for look in (known.sees, known.hears) if look is not None]


def kind(look: Sight | Hearing) -> Literal["image", "audio"]:
    """Return the input of a tower: "image" or "audio"."""
    return "image" if isinstance(look, Sight) else "audio"


def reads_samples(model_type: str) -> bool:
    """Return whether a class begins with convolutions over audio samples."""
    return any(look.rule is sounds.waveform for look in looks(model_type))


def towers(
    plan: Blueprint,
    config: Config | None,
    *,
    image_size: tuple[int, int] | None = None,
    audio_seconds: float | None = None,
) -> tuple[Tower, ...]:
    """Return the model's towers; () for a text model, or if no rule is known."""
    stacks, others = sort(plan)
    return of_stacks(stacks, others, config, image_size=image_size, audio_seconds=audio_seconds)


def of_stacks(
    stacks: Sequence[LayerStack],
    others: Sequence[Param],
    config: Config | None,
    *,
    image_size: tuple[int, int] | None = None,
    audio_seconds: float | None = None,
) -> tuple[Tower, ...]:
    if config is None:
        return ()
    inside = facts(config.model_type).seen_by
    if inside:
        config = config.sub(inside)
    image = ImageSize(*image_size) if image_size is not None else IMAGE
    sizes = {"image": image, "audio": SECONDS if audio_seconds is None else audio_seconds}
    pairs = ((look, _stacks_of_tower(stacks, look)) for look in looks(config.model_type))
    return tuple(
        _tower(of_look, others, config, look, sizes[kind(look)])
        for look, of_look in pairs
        if of_look or look.bare
    )


def _stacks_of_tower(stacks: Sequence[LayerStack], look: Sight | Hearing) -> Sequence[LayerStack]:
    """Return the layer stacks of the tower; [] if the class is only the language model."""
    inside = [s for s in stacks if look.within in s.path]
    if not look.tower:
        return [s for s in inside if "decoder" not in s.path]
    labelled = [s for s in inside if s.part == LABELS[kind(look)]]
    return labelled or [s for s in inside if SEES.search(s.path) and isinstance(look, Sight)]


def _tower_config(config: Config, look: Sight | Hearing) -> Config:
    if look.in_code:
        return Config(look.in_code, model_type=config.held("tower"))
    return config.sub(look.tower) if look.tower and not look.bare else config


def _tower(
    stacks: Sequence[LayerStack],
    others: Sequence[Param],
    config: Config,
    look: Sight | Hearing,
    size: Any,
) -> Tower:
    described = _tower_config(config, look)
    seen: TowerTokens = look.rule(config, described, size)
    layers = joined(stacks)
    if look.bare or encoders.is_pyramid(described.model_type) or not layers:
        return Tower(
            kind=kind(look),
            hidden=0,
            heads=0,
            head_dim=0,
            layers=0,
            feed=Dense(width=0),
            positions=seen.positions,
            tokens=seen.tokens,
        )
    dense = [f for f in feeds(layers[0]) if isinstance(f, Dense)]
    widest = max(dense, key=lambda f: f.width)
    attention = encoders.mixers(described, len(layers))[0]
    return Tower(
        kind=kind(look),
        hidden=widest.inputs,
        heads=attention.heads,
        head_dim=attention.key_dim,
        layers=len(layers),
        feed=replace(widest, inputs=0),
        positions=seen.positions,
        tokens=seen.tokens,
        window=seen.window,
        patch=_patch_elements(others) if isinstance(look, Sight) else 0,
    )


def _patch_elements(others: Sequence[Param]) -> int:
    """Return the input elements per patch, from the patch embedding's convolution or linear; 0
    without one."""
    first = (p for p in others if "patch" in p.name and p.kind in ("conv", "linear"))
    return next((prod(p.shape[1:]) for p in first), 0)

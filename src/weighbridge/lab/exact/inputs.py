"""What a request of a class holds: ids, pixels, a spectrogram, samples.

    text        ids and a mask of ones, as a tokenizer gives them
    images      of the tower's own size, in float32; of Qwen's, patches and their grid
    sounds      a spectrogram (Whisper), or samples

Ids of an image are those of its placeholder. Only shapes matter, so everything else is 0.
"""

from math import isqrt
from typing import Any

import torch

from weighbridge.arch.body import Tower
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.plan import GenerationPlan
from weighbridge.errors import UnsupportedError

RATE, SECONDS = 16_000, 30.0  # samples a second; of a sound, where none was asked for
TOKENS = ("image_token_id", "image_token_index")


def inputs(
    model: Any, subject: Subject, generation: GenerationPlan, seconds: float | None
) -> dict[str, Any]:
    """Make the inputs of `generate` on the device. Raises UnsupportedError."""
    rows = generation.prompt.batch
    match str(model.main_input_name):
        case "input_ids":
            return _text(model.config, subject, generation, rows)
        case "pixel_values":
            return _pixels(model.config, rows)
        case "input_features" if hasattr(model.config, "max_source_positions"):
            return _spectrogram(model.config, subject, rows)
        case "input_values":
            return _samples(subject, rows, seconds or SECONDS)
    raise UnsupportedError(f"--exact: what {type(model).__name__} reads is not in our tables")


def _text(config: Any, subject: Subject, generation: GenerationPlan, rows: int) -> dict[str, Any]:
    length = generation.prompt.encoder or generation.prompt.tokens
    pictures = generation.items["image"]
    tower = next((tower_ for tower_ in subject.body.towers if tower_.kind == "image"), None)
    if generation.items["audio"]:
        raise UnsupportedError("--exact: sounds beside a text are not traced; leave them out")
    if not pictures or tower is None:
        ids = torch.zeros(rows, length, dtype=torch.int64, device="cuda")
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    marks = pictures * tower.tokens
    if marks > length:
        raise UnsupportedError(
            f"--exact: {marks:,} tokens of images are more than a prompt of {length:,}"
        )
    line = [_placeholder(config)] * marks + [0] * (length - marks)
    ids = torch.tensor([line] * rows, device="cuda")
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        **_images(config, tower, rows * pictures),
    }


def _placeholder(config: Any) -> int:
    token = next((getattr(config, name) for name in TOKENS if hasattr(config, name)), None)
    if token is None:
        raise UnsupportedError(f"--exact: {type(config).__name__} names no token for images")
    return int(token)


def _images(config: Any, tower: Tower, count: int) -> dict[str, Any]:
    """Make pixels of images. Raises UnsupportedError where an image is more than one of the tower's
    own size."""
    vision = config.vision_config
    merge = getattr(vision, "spatial_merge_size", None)
    if merge is not None and tower.patch:
        height, width = _grid(tower.positions, merge)
        pixels = torch.zeros(count * tower.positions, tower.patch, device="cuda")
        grid = torch.tensor([[1, height, width]] * count, device="cuda")
        return {"pixel_values": pixels, "image_grid_thw": grid}
    side = vision.image_size
    whole = (side // vision.patch_size) ** 2
    if not whole <= tower.positions <= whole + 2:
        raise UnsupportedError("--exact: tiles of images are not traced; leave --images out")
    return {"pixel_values": torch.zeros(count, 3, side, side, device="cuda")}


def _grid(positions: int, merge: int) -> tuple[int, int]:
    """Return height and width in patches of so many in all, as square as they come."""
    blocks = positions // merge**2
    rows = next(n for n in range(isqrt(blocks), 0, -1) if blocks % n == 0)
    return rows * merge, blocks // rows * merge


def _pixels(config: Any, rows: int) -> dict[str, Any]:
    side = config.image_size
    height, width = (side, side) if isinstance(side, int) else side
    channels = getattr(config, "num_channels", 3)
    return {"pixel_values": torch.zeros(rows, channels, height, width, device="cuda")}


def _spectrogram(config: Any, subject: Subject, rows: int) -> dict[str, Any]:
    length = 2 * config.max_source_positions
    dtype = getattr(torch, subject.choice.dtype.name)
    shape = rows, config.num_mel_bins, length
    return {"input_features": torch.zeros(shape, dtype=dtype, device="cuda")}


def _samples(subject: Subject, rows: int, seconds: float) -> dict[str, Any]:
    dtype = getattr(torch, subject.choice.dtype.name)
    return {"input_values": torch.zeros(rows, int(RATE * seconds), dtype=dtype, device="cuda")}

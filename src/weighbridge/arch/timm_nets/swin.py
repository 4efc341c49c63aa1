"""Swin as timm writes it, with what its windows keep: indices of positions and masks of shifts.

    every second block of a stage shifts its windows, where there is more than one window

Source: timm 1.0.31 models/swin_transformer.py; sizes: arXiv 2103.14030, section 3.3.
"""

from weighbridge.arch.blueprint import Buffer, Param, conv, linear
from weighbridge.arch.timm_nets.layers import Net, classifier
from weighbridge.arch.vision import layernorm

SIZES = {  # depths, width and heads of the first stage
    "tiny": ((2, 2, 6, 2), 96, 3),
    "small": ((2, 2, 18, 2), 96, 3),
    "base": ((2, 2, 18, 2), 128, 4),
    "large": ((2, 2, 18, 2), 192, 6),
}


def attention(at: str, width: int, heads: int, window: int) -> Net:
    yield Param(f"{at}relative_position_bias_table", ((2 * window - 1) ** 2, heads), "other")
    yield Buffer(f"{at}relative_position_index", (window**2, window**2), "int64")
    yield from linear(f"{at}qkv", 3 * width, width, bias=True)
    yield from linear(f"{at}proj", width, width, bias=True)


def block(at: str, width: int, heads: int, window: int) -> Net:
    yield from layernorm(f"{at}norm1", width)
    yield from attention(f"{at}attn.", width, heads, window)
    yield from layernorm(f"{at}norm2", width)
    yield from linear(f"{at}mlp.fc1", 4 * width, width, bias=True)
    yield from linear(f"{at}mlp.fc2", width, 4 * width, bias=True)


def merging(at: str, width: int) -> Net:
    """Four neighbours, of half of `width` each, become one."""
    yield from layernorm(f"{at}norm", 2 * width)
    yield from linear(f"{at}reduction", width, 2 * width)


def swin(size: str, patch: str, window: str, image: str, *, classes: int) -> Net:
    depths, first, heads = SIZES[size]
    side, across = int(image) // int(patch), int(window)
    yield from conv("patch_embed.proj", (first, 3, int(patch), int(patch)))
    yield from layernorm("patch_embed.norm", first)
    for i, depth in enumerate(depths):
        width, windows = first << i, (side >> i) // across
        if i:
            yield from merging(f"layers.{i}.downsample.", width)
        for j in range(depth):
            at = f"layers.{i}.blocks.{j}."
            if j % 2 and windows > 1:
                yield Buffer(f"{at}attn_mask", (windows**2, across**2, across**2), "")
            yield from block(at, width, heads << i, across)
    yield from layernorm("norm", first << 3)
    yield from classifier("head.fc", classes, first << 3)

"""Transformers as timm writes them: ViT, DeiT, Swin.

ViT and DeiT as timm writes them: query, key and value in one matrix.

Source: timm 1.0.31 models/{vision_transformer,deit}.py; sizes: arXiv 2010.11929, table 1, and
2012.12877, table 1.

Swin as timm writes it, with what its windows keep: indices of positions and masks of shifts.

    every second block of a stage shifts its windows, where there is more than one window

Source: timm 1.0.31 models/swin_transformer.py; sizes: arXiv 2103.14030, section 3.3.
"""

from weighbridge.models.arch.blueprint import Buffer, Param, conv, linear
from weighbridge.models.arch.families.timm_nets.convolutions import Net, classifier
from weighbridge.models.arch.vision import layernorm

SIZES = {  # width, layers
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}


def block(prefix: str, width: int) -> Net:
    yield from layernorm(f"{prefix}norm1", width)
    yield from linear(f"{prefix}attn.qkv", 3 * width, width, bias=True)
    yield from linear(f"{prefix}attn.proj", width, width, bias=True)
    yield from layernorm(f"{prefix}norm2", width)
    yield from linear(f"{prefix}mlp.fc1", 4 * width, width, bias=True)
    yield from linear(f"{prefix}mlp.fc2", width, 4 * width, bias=True)


def transformer(size: str, patch: int, image: int, heads: tuple[str, ...], classes: int) -> Net:
    """One learned token and one classifier for each of `heads`."""
    width, layers = SIZES[size]
    places = (image // patch) ** 2 + len(heads)
    yield Param("cls_token", (1, 1, width), "other")
    yield Param("pos_embed", (1, places, width), "other")
    if len(heads) > 1:
        yield Param("dist_token", (1, 1, width), "other")
    yield from conv("patch_embed.proj", (width, 3, patch, patch))
    for i in range(layers):
        yield from block(f"blocks.{i}.", width)
    yield from layernorm("norm", width)
    for name in heads:
        yield from classifier(name, classes, width)


def vit(size: str, patch: str, image: str, *, classes: int) -> Net:
    return transformer(size, int(patch), int(image), ("head",), classes)


def distilled(size: str, patch: str, image: str, *, classes: int) -> Net:
    return transformer(size, int(patch), int(image), ("head", "head_dist"), classes)


SWIN_SIZES = {  # depths, width and heads of the first stage
    "tiny": ((2, 2, 6, 2), 96, 3),
    "small": ((2, 2, 18, 2), 96, 3),
    "base": ((2, 2, 18, 2), 128, 4),
    "large": ((2, 2, 18, 2), 192, 6),
}


def attention(prefix: str, width: int, heads: int, window: int) -> Net:
    yield Param(f"{prefix}relative_position_bias_table", ((2 * window - 1) ** 2, heads), "other")
    yield Buffer(f"{prefix}relative_position_index", (window**2, window**2), "int64")
    yield from linear(f"{prefix}qkv", 3 * width, width, bias=True)
    yield from linear(f"{prefix}proj", width, width, bias=True)


def swin_block(prefix: str, width: int, heads: int, window: int) -> Net:
    yield from layernorm(f"{prefix}norm1", width)
    yield from attention(f"{prefix}attn.", width, heads, window)
    yield from layernorm(f"{prefix}norm2", width)
    yield from linear(f"{prefix}mlp.fc1", 4 * width, width, bias=True)
    yield from linear(f"{prefix}mlp.fc2", width, 4 * width, bias=True)


def merging(prefix: str, width: int) -> Net:
    """Four neighbours, of half of `width` each, become one."""
    yield from layernorm(f"{prefix}norm", 2 * width)
    yield from linear(f"{prefix}reduction", width, 2 * width)


def swin(size: str, patch: str, window: str, image: str, *, classes: int) -> Net:
    depths, first, heads = SWIN_SIZES[size]
    side, across = int(image) // int(patch), int(window)
    yield from conv("patch_embed.proj", (first, 3, int(patch), int(patch)))
    yield from layernorm("patch_embed.norm", first)
    for i, depth in enumerate(depths):
        width, windows = first << i, (side >> i) // across
        if i:
            yield from merging(f"layers.{i}.downsample.", width)
        for j in range(depth):
            prefix = f"layers.{i}.blocks.{j}."
            if j % 2 and windows > 1:
                yield Buffer(f"{prefix}attn_mask", (windows**2, across**2, across**2), "")
            yield from swin_block(prefix, width, heads << i, across)
    yield from layernorm("norm", first << 3)
    yield from classifier("head.fc", classes, first << 3)

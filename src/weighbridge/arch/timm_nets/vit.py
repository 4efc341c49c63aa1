"""ViT and DeiT as timm writes them: query, key and value in one matrix.

Source: timm 1.0.31 models/{vision_transformer,deit}.py; sizes: arXiv 2010.11929, table 1, and
2012.12877, table 1.
"""

from weighbridge.arch.blueprint import Param, conv, linear
from weighbridge.arch.timm_nets.layers import Net, classifier
from weighbridge.arch.vision import layernorm

SIZES = {  # width, layers
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}


def block(at: str, width: int) -> Net:
    yield from layernorm(f"{at}norm1", width)
    yield from linear(f"{at}attn.qkv", 3 * width, width, bias=True)
    yield from linear(f"{at}attn.proj", width, width, bias=True)
    yield from layernorm(f"{at}norm2", width)
    yield from linear(f"{at}mlp.fc1", 4 * width, width, bias=True)
    yield from linear(f"{at}mlp.fc2", width, 4 * width, bias=True)


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

"""Transformers as timm writes them: ViT, DeiT, CLIP, SigLIP, DINOv2, EVA, DINOv3, Swin.

Query, key and value are in one matrix. EVA-02 and DINOv3 turn queries and keys by their positions.

Source: timm 1.0.31 models/{vision_transformer,deit,eva}.py, layers/attention_pool.py; sizes: arXiv
2010.11929, table 1, and 2012.12877, table 1.

Swin as timm writes it, with what its windows keep: indices of positions and masks of shifts.

    every second block of a stage shifts its windows, where there is more than one window

Source: timm 1.0.31 models/swin_transformer.py; sizes: arXiv 2103.14030, section 3.3.
"""

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import Buffer, Param, conv, linear
from weighbridge.models.arch.families.timm_nets.convolutions import Net, classifier
from weighbridge.models.arch.vision import layernorm

SIZES = {  # width, layers
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
    "so400m": (1152, 27),
    "giant": (1536, 40),
    "giantopt": (1536, 40),
}
INNER = {"so400m": 4304}  # of its feed-forwards, where not four times its width


class TimmVitSwitches(NamedTuple):
    """Switches in which networks of the class VisionTransformer differ."""

    tokens: tuple[str, ...] = ("cls_token",)  # learned, before the patches
    registers: int = 0  # learned tokens without a position
    heads: tuple[str, ...] = ("head",)
    scaled: bool = False  # what a block adds, by a vector
    normed: bool = False  # tokens before the first block; patches have no bias then
    mapped: bool = False  # a learned query attends to the patches
    gated: bool = False  # feed-forwards: SwiGLU, packed


def block(prefix: str, width: int, inner: int = 0, switches: TimmVitSwitches | None = None) -> Net:
    switches = switches or TimmVitSwitches()
    yield from layernorm(f"{prefix}norm1", width)
    yield from linear(f"{prefix}attn.qkv", 3 * width, width, bias=True)
    yield from linear(f"{prefix}attn.proj", width, width, bias=True)
    if switches.scaled:
        yield Param(f"{prefix}ls1.gamma", (width,), "other")
    yield from layernorm(f"{prefix}norm2", width)
    yield from feed(f"{prefix}mlp.", width, inner or 4 * width, gated=switches.gated)
    if switches.scaled:
        yield Param(f"{prefix}ls2.gamma", (width,), "other")


def feed(prefix: str, width: int, inner: int, *, gated: bool = False) -> Net:
    yield from linear(f"{prefix}fc1", inner * (2 if gated else 1), width, bias=True)
    yield from linear(f"{prefix}fc2", width, inner, bias=True)


def transformer(size: str, patch: int, image: int, switches: TimmVitSwitches, classes: int) -> Net:
    """Learned tokens have a position each, unless there are registers."""
    width, layers = SIZES[size]
    inner = INNER.get(size, 4096 if switches.gated else 4 * width)
    places = (image // patch) ** 2 + (0 if switches.registers else len(switches.tokens))
    for name in switches.tokens[:1]:
        yield Param(name, (1, 1, width), "other")
    if switches.registers:
        yield Param("reg_token", (1, switches.registers, width), "other")
    yield Param("pos_embed", (1, places, width), "other")
    for name in switches.tokens[1:]:
        yield Param(name, (1, 1, width), "other")
    yield from conv("patch_embed.proj", (width, 3, patch, patch), bias=not switches.normed)
    yield from layernorm("norm_pre", width) if switches.normed else ()
    for i in range(layers):
        yield from block(f"blocks.{i}.", width, inner, switches)
    yield from layernorm("norm", width)
    if switches.mapped:
        yield from pooling("attn_pool.", width, inner)
    for name in switches.heads:
        yield from classifier(name, classes, width)


def pooling(prefix: str, width: int, inner: int) -> Net:
    """AttentionPoolLatent"""
    yield Param(f"{prefix}latent", (1, 1, width), "other")
    yield from linear(f"{prefix}q", width, width, bias=True)
    yield from linear(f"{prefix}kv", 2 * width, width, bias=True)
    yield from linear(f"{prefix}proj", width, width, bias=True)
    yield from layernorm(f"{prefix}norm", width)
    yield from feed(f"{prefix}mlp.", width, inner)


def vit(size: str, patch: str, image: str, *, classes: int) -> Net:
    return transformer(size, int(patch), int(image), TimmVitSwitches(), classes)


def distilled(size: str, patch: str, image: str, *, classes: int) -> Net:
    two = TimmVitSwitches(tokens=("cls_token", "dist_token"), heads=("head", "head_dist"))
    return transformer(size, int(patch), int(image), two, classes)


def clip(size: str, patch: str, image: str, *, classes: int) -> Net:
    return transformer(size, int(patch), int(image), TimmVitSwitches(normed=True), classes)


def siglip(size: str, patch: str, mean: str | None, image: str, *, classes: int) -> Net:
    switches = TimmVitSwitches(tokens=(), mapped=mean is None)
    return transformer(size, int(patch), int(image), switches, classes)


def dinov2(size: str, registers: str | None, *, classes: int) -> Net:
    switches = TimmVitSwitches(registers=4 if registers else 0, scaled=True, gated=size == "giant")
    return transformer(size, 14, 518, switches, classes)


# ---- EVA, EVA-02, DINOv3

# width, layers, inner width of feed-forwards. arXiv 2211.07636, 2303.11331, 2508.10104
EVA_SIZES = {
    "tiny": (192, 12, 512),
    "small": (384, 12, 1024),
    "base": (768, 12, 2048),
    "large": (1024, 24, 2730),
    "giant": (1408, 40, 6144),
}
DINOV3_SIZES = {
    "tiny": (192, 12, 768),
    "small": (384, 12, 1536),
    "small_plus": (384, 12, 1536),
    "base": (768, 12, 3072),
    "large": (1024, 24, 4096),
    "huge_plus": (1280, 32, 5120),
    "7b": (4096, 40, 8192),
}
ROTARY = 16  # of a head of 64: a quarter as many frequencies


class EvaSwitches(NamedTuple):
    """Switches in which networks of the class Eva differ."""

    fused: bool = True  # queries, keys and values in one matrix
    bias: bool = True  # queries and values have one; keys in one matrix have zeros
    scaled: bool = False
    feed: str = "plain"  # packed: SwiGLU in one matrix; gated: in two; normed: in two, with a norm
    normed: bool = False  # a norm of what was attended to


def eva_block(prefix: str, width: int, inner: int, switches: EvaSwitches) -> Net:
    for number in (1, 2) if switches.scaled else ():
        yield Param(f"{prefix}gamma_{number}", (width,), "other")
    yield from layernorm(f"{prefix}norm1", width)
    yield from eva_attention(prefix, width, switches)
    yield from layernorm(f"{prefix}norm2", width)
    yield from eva_feed(f"{prefix}mlp.", width, inner, switches.feed)


def eva_attention(prefix: str, width: int, switches: EvaSwitches) -> Net:
    if switches.fused:
        for name in "qv" if switches.bias else "":
            yield Param(f"{prefix}attn.{name}_bias", (width,), "bias")
        if switches.bias:
            yield Buffer(f"{prefix}attn.k_bias", (width,), "")
        yield from linear(f"{prefix}attn.qkv", 3 * width, width)
    for name in () if switches.fused else "qkv":
        yield from linear(f"{prefix}attn.{name}_proj", width, width, bias=name != "k")
    if switches.normed:
        yield from layernorm(f"{prefix}attn.norm", width)
    yield from linear(f"{prefix}attn.proj", width, width, bias=True)


def eva_feed(prefix: str, width: int, inner: int, kind: str) -> Net:
    if kind in ("plain", "packed"):
        yield from feed(prefix, width, inner, gated=kind == "packed")
        return
    yield from linear(f"{prefix}fc1_g", inner, width, bias=True)
    yield from linear(f"{prefix}fc1_x", inner, width, bias=True)
    if kind == "normed":
        yield from layernorm(f"{prefix}norm", inner)
    yield from linear(f"{prefix}fc2", width, inner, bias=True)


def eva_body(sizes: tuple[int, int, int], patch: int, places: int, switches: EvaSwitches) -> Net:
    """Tokens have positions where `places` are given; registers and rotations where none are."""
    width, layers, inner = sizes
    yield Param("cls_token", (1, 1, width), "other")
    if places:
        yield Param("pos_embed", (1, places + 1, width), "other")
    else:
        yield Param("reg_token", (1, 4, width), "other")
    yield from conv("patch_embed.proj", (width, 3, patch, patch))
    for i in range(layers):
        yield from eva_block(f"blocks.{i}.", width, inner, switches)


def eva02(size: str, patch: str, clip: str | None, image: str, *, classes: int) -> Net:
    places, deep = (int(image) // int(patch)) ** 2, size in ("base", "large")
    switches = EvaSwitches(
        fused=not deep, feed="normed" if deep else "packed", normed=clip is not None
    )
    yield Buffer("rope.bands", (ROTARY,), "")
    yield Buffer("rope.pos_embed", (places, 8 * ROTARY), "")
    yield from eva_body(EVA_SIZES[size], int(patch), places, switches)
    yield from layernorm("norm" if clip else "fc_norm", EVA_SIZES[size][0])
    yield from classifier("head", classes, EVA_SIZES[size][0])


def eva(patch: str, image: str, *, classes: int) -> Net:
    sizes = EVA_SIZES["giant"]
    yield from eva_body(sizes, int(patch), (int(image) // int(patch)) ** 2, EvaSwitches())
    yield from layernorm("fc_norm", sizes[0])
    yield from classifier("head", classes, sizes[0])


def dinov3(size: str, bias: str | None, *, classes: int) -> Net:
    sizes, gated = DINOV3_SIZES[size], size.endswith("plus") or size == "7b"
    yield Buffer("rope.periods", (2 * ROTARY if size == "7b" else ROTARY,), "")
    switches = EvaSwitches(bias=bias is not None, scaled=True, feed="gated" if gated else "plain")
    yield from eva_body(sizes, 16, 0, switches)
    yield from layernorm("norm", sizes[0])
    yield from classifier("head", classes, sizes[0])


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

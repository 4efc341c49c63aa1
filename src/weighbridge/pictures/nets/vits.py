"""Transformers that see, as timm runs them: ViT, DeiT, DINOv2, Swin.

Source: timm 1.0.31 models/{vision_transformer,swin_transformer}.py, layers/attention.py.
"""

from math import isqrt

from weighbridge.pictures.trees import Tree, sequence
from weighbridge.pictures.values import Value, attend, cat

WIDEST = {1280: 80, 1152: 72, 1408: 88, 1664: 104}  # width of heads of ViT-H, SO400M, g and G
HEAD = 64  # of all others


def vit(t: Tree, x: Value) -> Value:
    x = _embedded(t, x)
    x = t.layer_norm("norm_pre", x) if t.has("norm_pre") else x
    x = sequence(x, t.each("blocks"), vit_block)
    x = t.layer_norm("norm", x) if t.has("norm") else x
    first = x.part(x.shape[0], x.shape[-1])
    if t.has("fc_norm"):
        first = t.layer_norm("fc_norm", first.resized(*first.shape))
    for name in ("head_dist", "head"):
        if t.has(name):
            first_of = t.linear(name, first)
            if name == "head":
                return first_of
    return first


def _embedded(t: Tree, x: Value) -> Value:
    """_pos_embed: positions are of the patches alone, or of the tokens before them, too."""
    patches = t / "patch_embed"
    x = patches.conv("proj", x, patches.shape("proj.weight")[-1])
    batch, width, height, breadth = x.shape
    x = x.view(batch, height * breadth, width)
    names = [name for name in ("cls_token", "dist_token", "reg_token") if t.has(name)]
    tokens = [t.parameter(name) for name in names]
    tokens = [one.part(batch, one.shape[1], width) for one in tokens]
    positions = t.parameter("pos_embed")
    if positions.shape[1] > height * breadth:
        x = cat([*tokens, x])
        return x + positions
    x = x + positions
    return cat([*tokens, x]) if tokens else x.copy(*x.shape)


def vit_block(t: Tree, x: Value) -> Value:
    x = x + scaled(t, "ls1", attention(t / "attn", t.layer_norm("norm1", x)))
    return x + scaled(t, "ls2", mlp(t / "mlp", t.layer_norm("norm2", x)))


def scaled(t: Tree, name: str, x: Value) -> Value:
    """LayerScale"""
    return x * (t / name).parameter("gamma") if t.has(name) else x


def attention(t: Tree, x: Value) -> Value:
    """Attention of torch's own kernels."""
    width = x.shape[-1]
    qkv = t.linear("qkv", x)
    q, k, v = qkv.chunk(3)
    out = attend(q, k, v, width // WIDEST.get(width, HEAD))
    return t.linear("proj", out)


def mlp(t: Tree, x: Value) -> Value:
    """Mlp, and SwiGLUPacked where the second product reads half of what the first gives."""
    y = t.linear("fc1", x)
    if t.shape("fc2.weight")[1] < y.shape[-1]:
        gate, up = y.chunk(2)
        y = gate.act() * up
    else:
        y = y.act()
    return t.linear("fc2", y)


# ---- Swin


def swin(t: Tree, x: Value) -> Value:
    patches = t / "patch_embed"
    x = patches.conv("proj", x, patches.shape("proj.weight")[-1])
    batch, width, height, breadth = x.shape
    x = patches.layer_norm("norm", x.view(batch, height, breadth, width), dense=False)
    x = sequence(x, t.each("layers"), swin_stage)
    x = t.layer_norm("norm", x)
    x = x.resized(batch, x.shape[-1])
    return (t / "head").linear("fc", x) if t.has("head.fc") else x


def swin_stage(t: Tree, x: Value) -> Value:
    if t.has("downsample"):
        x = merged(t / "downsample", x)
    return sequence(x, t.each("blocks"), swin_block)


def merged(t: Tree, x: Value) -> Value:
    """PatchMerging, whose sides are made even."""
    batch, height, width, channels = x.shape
    height, width = (height + 1) // 2, (width + 1) // 2
    x = x.resized(batch, 2 * height, 2 * width, channels)
    x = x.copy(batch, height, width, 4 * channels)
    x = t.layer_norm("norm", x)
    return t.linear("reduction", x)


def swin_block(t: Tree, x: Value) -> Value:
    batch, height, width, channels = x.shape
    x = x + windowed(t, t.layer_norm("norm1", x))
    x = x.view(batch, height * width, channels)
    x = x + mlp(t / "mlp", t.layer_norm("norm2", x))
    return x.view(batch, height, width, channels)


def windowed(t: Tree, x: Value) -> Value:
    """SwinTransformerBlock._attn: every second block rolls the picture by half a window,
    if there is more than one."""
    batch, height, width, channels = x.shape
    rows, heads = (t / "attn").shape("relative_position_bias_table")
    side = (isqrt(rows) + 1) // 2
    shifts = t.place.number % 2 == 1 and min(height, width) > side
    moved = x.resized(*x.shape) if shifts else x
    tall, wide = (-(-one // side) * side for one in (height, width))
    moved = moved.resized(batch, tall, wide, channels)
    windows = moved.copy(batch * (tall // side) * (wide // side), side * side, channels)
    out = window_attention(t / "attn", windows, heads, shifts)
    moved = out.copy(batch, tall, wide, channels)
    if (tall, wide) != (height, width):
        moved = moved.part(*x.shape).copy(*x.shape)
    return moved.resized(*x.shape) if shifts else moved


def window_attention(t: Tree, x: Value, heads: int, masked: bool) -> Value:
    """WindowAttention, written out: scores of all windows, with positions and a mask added."""
    count, area, channels = x.shape
    head, table = channels // heads, t.parameter("relative_position_bias_table")
    qkv = t.linear("qkv", x)
    q, k, v = (one.view(count, heads, area, head) for one in qkv.chunk(3))
    q = q * 1.0
    scores = q.copy(*q.shape).matmul(k.copy(*k.shape).view(count, heads, head, area), area)
    bias = table.resized(area * area, heads).copy(1, heads, area, area)
    scores = scores + bias
    del bias
    if masked:
        scores = scores + t.run.constant(count, 1, area, area)
    scores = scores.softmax()
    out = scores.matmul(v.copy(*v.shape), head)
    out = out.copy(count, area, channels)
    return t.linear("proj", out)


PROGRAMS = {
    "blocks.0.attn.qkv": vit,
    "layers.0.blocks.0.attn.relative_position_bias_table": swin,
}

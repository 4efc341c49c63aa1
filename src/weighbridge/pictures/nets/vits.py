"""Vision transformers, as timm runs them: ViT, DeiT, CLIP, SigLIP, DINOv2, EVA, DINOv3, Swin.

Source: timm 1.0.31 models/{vision_transformer,eva,swin_transformer}.py, layers/{attention,
attention_pool,mlp,pos_embed_sincos}.py.
"""

from math import isqrt

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.trees import Tree, sequence
from weighbridge.pictures.values import Value, attend, cat, flat, headed
from weighbridge.training.forward.ops import matrix

# head width of ViT-H, SO400M, g and G
WIDEST = {1280: 80, 1152: 72, 1408: 88, 1664: 104}
WIDEST_EVA = {1408: 88, 4096: 128}  # of EVA-g and DINOv3-7B
WIDEST_POOLED = {**WIDEST, 1536: 96}  # of SigLIP 2's giant
HEAD = 64  # of all other models


def vit(t: Tree, x: Value) -> Value:
    x = _embedded(t, x)
    x = t.layer_norm("norm_pre", x) if t.has("norm_pre") else x
    x = sequence(x, t.each("blocks"), vit_block)
    x = t.layer_norm("norm", x) if t.has("norm") else x
    first = latent_pooled(t / "attn_pool", x) if t.has("attn_pool") else _first(x)
    if t.has("fc_norm"):
        first = t.layer_norm("fc_norm", first.resized(*first.shape))
    for name in ("head_dist", "head"):
        if t.has(name):
            first_of = t.linear(name, first)
            if name == "head":
                return first_of
    return first


def _first(x: Value) -> Value:
    return x.part(x.shape[0], x.shape[-1])


def latent_pooled(t: Tree, x: Value) -> Value:
    """Return AttentionPoolLatent of `x`: a learned query attends to all tokens."""
    batch, _, width = x.shape
    latent = t.parameter("latent").part(batch, 1, width)
    q = t.linear("q", latent)
    k, v = t.linear("kv", x).chunk(2)
    y = attend(q, k, v, width // WIDEST_POOLED.get(width, HEAD))
    y = t.linear("proj", y)
    return _first(y + mlp(t / "mlp", t.layer_norm("norm", y)))


def _embedded(t: Tree, x: Value) -> Value:
    """Return tokens with positions (_pos_embed): the patches, or the tokens before them, too."""
    patches = t / "patch_embed"
    x = patches.conv("proj", x, patches.shape("proj.weight")[-1])
    batch, width, height, breadth = x.shape
    x = x.view(batch, height * breadth, width)
    names = [name for name in ("cls_token", "dist_token", "reg_token") if t.has(name)]
    tokens = [t.parameter(name) for name in names]
    tokens = [one.part(batch, one.shape[1], width) for one in tokens]
    if not t.has("pos_embed"):
        return cat([*tokens, x])
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
    """Return attention of `x` by torch's kernels."""
    width = x.shape[-1]
    qkv = t.linear("qkv", x)
    q, k, v = qkv.chunk(3)
    out = attend(q, k, v, width // WIDEST.get(width, HEAD))
    return t.linear("proj", out)


def mlp(t: Tree, x: Value) -> Value:
    """Return Mlp of `x`, or SwiGLUPacked if the second linear reads half of the first's output."""
    y = t.linear("fc1", x)
    if t.shape("fc2.weight")[1] < y.shape[-1]:
        gate, up = y.chunk(2)
        y = gate.act() * up
    else:
        y = y.act()
    return t.linear("fc2", y)


# ---- EVA, EVA-02, DINOv3

Turns = tuple[Value, Value] | None  # cosines and sines of the patches


def eva(t: Tree, x: Value) -> Value:
    patch = t.shape("patch_embed.proj.weight")[-1]
    places = (x.shape[2] // patch) * (x.shape[3] // patch)
    turns = _turns(t, places)
    x = _embedded(t, x)
    for block in t.each("blocks"):
        x = eva_block(block, x, turns, places)
    x = t.layer_norm("norm", x) if t.has("norm") else x
    first = _first(x)
    if t.has("fc_norm"):
        first = t.layer_norm("fc_norm", first.resized(*first.shape))
    return t.linear("head", first) if t.has("head") else first


def _turns(t: Tree, places: int) -> Turns:
    """Return rotary positions: a buffer for EVA-02, computed for DINOv3, None for EVA."""
    head = WIDEST_EVA.get(t.shape("cls_token")[-1], HEAD)
    if not t.has("pos_embed"):
        cos, sin = t.run.new(1, places, 1, 2 * head, dtype=FLOAT32).chunk(2)
        return cos, sin
    feed = t / "blocks" / 0 / "mlp"
    if not feed.has("fc1_g") and feed.shape("fc1.weight")[0] == feed.shape("fc2.weight")[1]:
        return None
    cos, sin = (t.run.constant(1, places, 1, head, dtype=FLOAT32) for _ in range(2))
    return cos, sin


def eva_block(t: Tree, x: Value, turns: Turns, places: int) -> Value:
    attended = eva_attention(t / "attn", t.layer_norm("norm1", x), turns, places)
    if t.has("gamma_1"):
        attended = attended * t.parameter("gamma_1")
    x = x + attended
    y = eva_mlp(t / "mlp", t.layer_norm("norm2", x))
    if t.has("gamma_2"):
        y = y * t.parameter("gamma_2")
    return x + y


def eva_attention(t: Tree, x: Value, turns: Turns, places: int) -> Value:
    """EvaAttention: queries and values have biases; a fused linear has zeros for the keys."""
    width = x.shape[-1]
    heads = width // WIDEST_EVA.get(width, HEAD)
    if not t.has("qkv"):
        q, k, v = (t.linear(name, x) for name in ("q_proj", "k_proj", "v_proj"))
    elif t.has("q_bias"):
        zeros = t.run.constant(width)
        bias = cat([t.parameter("q_bias"), zeros, t.parameter("v_bias")], 0)
        weight = t.place.param("qkv.weight", 3 * width, width, kind="linear")
        made = matrix.linear(x.run.m, x.tensor, weight, bias.tensor)
        q, k, v = Value(x.run, made).chunk(3)
        del made
    else:
        q, k, v = t.linear("qkv", x).chunk(3)
    if turns is not None:
        q = turned(q, turns, heads, places)
        k = turned(k, turns, heads, places)
    out = attend(q, k, v, heads, first=turns is not None)
    out = t.layer_norm("norm", out) if t.has("norm") else out
    return t.linear("proj", out)


def turned(x: Value, turns: tuple[Value, Value], heads: int, places: int) -> Value:
    """apply_rot_embed_cat of all tokens but the first: x cos + rotated sin, then joined again."""
    cos, sin = turns
    whole, before = x.shape, x.shape[1] - places
    y = headed(x, heads)
    first, later = y.split(before, places, dim=1)
    straight = later * cos
    half = later.resized(*later.shape[:-1], later.shape[-1] // 2)
    rotated = half.resized(*later.shape)
    del half
    spun = (straight + rotated * sin).like(x)
    del straight, rotated
    return flat(cat([first, spun])).view(*whole)


def eva_mlp(t: Tree, x: Value) -> Value:
    """Return Mlp, GluMlp or SwiGLU of `x`; SwiGLU's gate lives until it returns."""
    if not t.has("fc1_g"):
        return mlp(t, x)
    gate = t.linear("fc1_g", x)
    y = t.linear("fc1_x", x)
    y = gate.act() * y
    if t.has("norm"):
        y = t.layer_norm("norm", y)
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
    """Return PatchMerging of `x`, padded to even sides."""
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
    """Return WindowAttention, written out: scores of all windows, plus positions and a mask."""
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


PROGRAMS = {  # by a tensor that only networks of the kind have
    "blocks.0.attn.q_bias": eva,
    "blocks.0.attn.q_proj": eva,
    "blocks.0.gamma_1": eva,
    "blocks.0.attn.qkv": vit,
    "layers.0.blocks.0.attn.relative_position_bias_table": swin,
}

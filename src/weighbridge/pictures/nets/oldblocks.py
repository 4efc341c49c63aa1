"""Parts that diffusion transformers share. `n` is a place in the module tree; names are diffusers'."""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.values import attend, cat, flat, headed


def embed(n, x, width, bias=True, names=("linear_1", "linear_2"), inside=None):
    """TimestepEmbedding, PixArtAlphaTextProjection and their like: linear, act, linear."""
    x = n.linear(names[0], x, inside or width, bias)
    return n.linear(names[1], x.act(), width, bias)


def timestep(n, b, width, bias=True, inputs=256):
    return embed(n, n.run.new(b, inputs), width, bias)


def norm(n, x, wide=False):
    """A LayerNorm without weights."""
    return n.layer_norm("", x, affine=False, wide=wide)


def scaled(x, scale, shift):
    """x (1 + scale) + shift, a row of a batch."""
    return x * (scale + 1) + shift


def rows(x, count):
    """Chunks of a modulation, each to be broadcast over tokens."""
    return [c.view(c.shape[0], 1, c.shape[-1]) for c in x.chunk(count)]


def ada(n, x, temb, count=6, bias=True, linear="linear", wide=False):
    """AdaLayerNormZero: silu, linear, norm(x) modulated by the first two of `count`."""
    parts = rows(n.linear(linear, temb.act(), count * x.shape[-1], bias), count)
    return scaled(norm(n, x, wide), parts[1], parts[0]), parts


def continuous(n, x, temb, bias=True, linear="linear", affine=False, wide=None):
    """AdaLayerNormContinuous."""
    scale, shift = rows(n.linear(linear, temb.act(), 2 * x.shape[-1], bias), 2)
    return scaled(n.layer_norm("norm", x, affine=affine), scale, shift)


def feed(n, x, inside, out=None, how="gelu", bias=True):
    """FeedForward: net.0 with its activation, net.2."""
    gated = how in ("geglu", "swiglu")
    h = (n / "net" / 0).linear("proj", x, inside * (2 if gated else 1), bias)
    if gated:
        h, gate = h.chunk(2)
        h = h * gate.act()
        del gate
    else:
        h = h.act()
    return (n / "net").linear("2", h, out or x.shape[-1], bias)


def swiglu(n, x, inside, names=("w1", "w3", "w2"), bias=False):
    """w2(silu(w1 x) w3 x)"""
    return n.linear(
        names[2],
        n.linear(names[0], x, inside, bias).act() * n.linear(names[1], x, inside, bias),
        x.shape[-1],
        bias,
    )


def rope(x, how):
    """Rotary embeddings of [b, tokens, heads, head], each with the temporaries of its formula."""
    m = x.run
    if how == "real":  # (x cos + rotated sin) in float32
        half = x.resized(*x.shape[:-1], x.shape[-1] // 2)
        rotated = cat([half, half], -1)
        del half
        fixed = m.constant(1, dtype=FLOAT32)
        return (x.float() * fixed + rotated.float() * fixed).like(x)
    if how == "complex":  # view_as_complex(x.float()) freqs
        return (x.float() * m.constant(1, dtype=FLOAT32)).like(x)
    if how == "halves":  # Wan: x1 cos - x2 sin into an empty tensor, halves in float32
        y = x.resized(*x.shape)
        half = m.new(*x.shape[:-1], x.shape[-1] // 2, dtype=FLOAT32)
        both = m.new(*half.shape, dtype=FLOAT32)
        m.new(*half.shape, dtype=FLOAT32)
        del half, both
        return y
    if how == "float":  # LTX: as "real", and frequencies are there
        return rope(x, "real")
    return x


def qkv(n, x, d, bias=True, names=("to_q", "to_k", "to_v"), seen=None, kv=None):
    seen = seen or x
    return (
        n.linear(names[0], x, d, bias),
        n.linear(names[1], seen, kv or d, bias),
        n.linear(names[2], seen, kv or d, bias),
    )


def normed(n, name, x, heads, how="diffusers"):
    """An RMSNorm a head; gives [b, tokens, heads, head]."""
    return n.rms_norm(name, headed(x, heads), how=how)


ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")


def joint(
    n,
    x,
    y,
    d,
    heads,
    *,
    bias=True,
    qk=True,
    turn="real",
    text_first=True,
    each=False,
    out=True,
    dy=None,
    bias_y=None,
    how="diffusers",
    fused=False,
    joined=None,
    out_bias=None,
):
    """Attention of two streams that are one sequence. `each`: rotary before they are joined."""
    bias_y = bias if bias_y is None else bias_y
    if fused:
        q, k, v = n.linear("to_qkv", x, 3 * d, bias).chunk(3)
    else:
        q, k, v = qkv(n, x, d, bias)
    p, s, u = qkv(n, y, d, bias_y, ADDED)
    if qk == "wide":
        q, k, p, s = (norm(n, headed(t, heads), True) for t in (q, k, p, s))
    elif qk:
        q = normed(n, "norm_q", q, heads, how)
        k = normed(n, "norm_k", k, heads, how)
        p = normed(n, "norm_added_q", p, heads, how)
        s = normed(n, "norm_added_k", s, heads, how)
    else:
        q, k, p, s = (headed(t, heads) for t in (q, k, p, s))
    if each:
        q = rope(q, turn)
        k = rope(k, turn)
        if each == "both":
            p = rope(p, turn)
            s = rope(s, turn)
    q = cat([p, q] if text_first else [q, p])
    k = cat([s, k] if text_first else [k, s])
    v = cat([u, v] if text_first else [v, u])
    del p, s, u
    if not each:
        q = rope(q, turn)
        k = rope(k, turn)
    q, k = flat(q), flat(k)
    h = attend(q, k, v, heads)
    a, b = h.split(y.shape[1], x.shape[1], dim=1)
    if x.shape[0] > 1 or how == "copies":
        b, a = b.copy(), a
    out_bias = bias if out_bias is None else out_bias
    b = (n / "to_out").linear("0", b, d, out_bias)
    if not out:
        return b, a
    a = n.linear("to_add_out", a.copy() if x.shape[0] > 1 else a, dy or d, out_bias)
    return b, a


def double(
    n,
    x,
    y,
    temb,
    heads,
    *,
    ratio=4,
    names=("norm1", "norm1_context", "ff", "ff_context"),
    last=False,
    ff="gelu",
    **options,
):
    """The block of SD3, FLUX, HunyuanVideo: two streams, modulated by one vector."""
    d, bias = x.shape[-1], True
    h, (shift, scale, gate, shift2, scale2, gate2) = ada(n / names[0], x, temb, bias=bias)
    del shift, scale
    if last:
        g, more = continuous(n / names[1], y, temb), None
    else:
        g, more = ada(n / names[1], y, temb, bias=bias)
    a, b = joint(n / "attn", h, g, d, heads, out=not last, **options)
    a = gate * a
    x = x + a
    h = scaled(norm(n, x), scale2, shift2)
    f = feed(n / names[2], h, int(ratio * d), how=ff)
    f = gate2 * f
    x = x + f
    if last:
        return x, None
    b = more[2] * b
    y = y + b
    g = scaled(norm(n, y), more[4], more[3])
    f2 = feed(n / names[3], g, int(ratio * d), how=ff)
    return x, y + more[5] * f2


def single(
    n, x, temb, heads, *, ratio=4, turn="real", qk=True, mod=None, how="diffusers", fused=False
):
    """FLUX's parallel block: attention beside the MLP, one projection of both."""
    d = x.shape[-1]
    if mod is None:
        h, parts = ada(n / "norm", x, temb, 3)
        gate = parts[2]
        del parts
    else:
        h, gate = scaled(norm(n, x), mod[1], mod[0]), mod[2]
    mlp = n.linear("proj_mlp", h, int(ratio * d))
    mlp = mlp.act()
    q, k, v = (n / "attn").linear("to_qkv", h, 3 * d).chunk(3) if fused else qkv(n / "attn", h, d)
    q = normed(n / "attn", "norm_q", q, heads, how)
    k = normed(n / "attn", "norm_k", k, heads, how)
    q = flat(rope(q, turn))
    k = flat(rope(k, turn))
    a = attend(q, k, v, heads)
    del q, k, v
    h = cat([a, mlp], -1)
    return x + gate * n.linear("proj_out", h, d)


def table(n, temb, count, wide=False):
    """A learnt table beside the modulation that all blocks share."""
    d = temb.shape[-1] // count
    rows_ = n.value("scale_shift_table", count, d)
    mod = temb.view(temb.shape[0], count, d)
    mod = rows_ + (mod.float() if wide else mod)
    return [c.view(c.shape[0], 1, d) for c in mod.chunk(count, dim=1)]


def attention(
    n,
    x,
    heads,
    d=None,
    *,
    seen=None,
    bias=True,
    out_bias=True,
    qk=None,
    turn=None,
    kv_heads=None,
    how="diffusers",
    out="to_out",
    gate=None,
):
    """Self or cross attention. `qk`: norm over "head" or "width", or none."""
    d = d or x.shape[-1]
    kv = d // heads * (kv_heads or heads)
    q, k, v = qkv(n, x, d, bias, seen=seen, kv=kv)
    if qk == "width":
        q = n.rms_norm("norm_q", q, how=how)
        k = n.rms_norm("norm_k", k, how=how)
    elif qk == "head":
        q = flat(normed(n, "norm_q", q, heads, how))
        k = flat(normed(n, "norm_k", k, kv_heads or heads, how))
    elif qk == "wide":
        q, k = flat(norm(n, headed(q, heads), True)), flat(norm(n, headed(k, heads), True))
    elif qk == "layer":
        q, k = (
            flat(n.layer_norm("norm_q", headed(q, heads))),
            flat(n.layer_norm("norm_k", headed(k, heads))),
        )
    if turn:
        q = flat(rope(headed(q, heads), turn))
        k = flat(rope(headed(k, kv_heads or heads), turn))
    if kv != d:
        k, v = (
            k.copy(*q.shape) if x is k else k.resized(*k.shape[:2], d),
            v.resized(*v.shape[:2], d),
        )
    h = attend(q, k, v, heads)
    del q, k, v
    if gate:
        h = h * n.linear(gate, x, d, bias).act("result")
    return (n / "to_out").linear("0", h, x.shape[-1], out_bias) if out else h

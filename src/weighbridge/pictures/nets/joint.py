"""Transformers of two joined streams: SD3, Qwen-Image and AuraFlow. FLUX is in flux.py.

Source: diffusers 0.42 models/transformers/{transformer_sd3, transformer_qwenimage,
auraflow_transformer_2d}.py, models/attention.py, models/attention_processor.py.
"""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    ada,
    added,
    apart,
    attended,
    attends,
    continuous,
    controlled,
    feed,
    hinted,
    latent,
    norm,
    normed,
    packed,
    projections,
    qkv,
    rows,
    scaled,
    spun,
    timestep,
    vector,
    width_of,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, cat, headed

Pair = tuple[Value, Value]
SD3_CONTROL, QWEN_CONTROL = "SD3ControlNetModel", "QwenImageControlNetModel"


# ---- Stable Diffusion 3 and 3.5


@attends
def sd3_attention(n: NetPlace, x: Value, y: Value, c: ComponentConfig, *, last: bool) -> Pair:
    """Return both streams after JointAttnProcessor2_0; the last block projects no text."""
    d, heads = x.shape[-1], c.num_attention_heads
    q, k, v = (headed(t, heads) for t in qkv(n, x, d))
    if c.qk_norm:
        q = n.rms_norm("norm_q", q)
        k = n.rms_norm("norm_k", k)
    encoder_q, encoder_k, encoder_v = (headed(t, heads) for t in added(n, y, d))
    if c.qk_norm:
        encoder_q = n.rms_norm("norm_added_q", encoder_q)
        encoder_k = n.rms_norm("norm_added_k", encoder_k)
    q = cat([q, encoder_q])
    k = cat([k, encoder_k])
    v = cat([v, encoder_v])
    h = attended(q, k, v)
    x, z = h.split(x.shape[1], y.shape[1], dim=1)
    if not last:
        z = n.linear("to_add_out", z.copy() if z.shape[0] > 1 else z, d)
    return (n / "to_out").linear("0", x.copy() if x.shape[0] > 1 else x, d), z


@attends
def second_attention(n: NetPlace, x: Value, c: ComponentConfig) -> Value:
    """Return a self-attention of the image, which the first blocks of SD 3.5 medium add."""
    d, heads = x.shape[-1], c.num_attention_heads
    q, k, v = (headed(t, heads) for t in qkv(n, x, d))
    if c.qk_norm:
        q = n.rms_norm("norm_q", q)
        k = n.rms_norm("norm_k", k)
    return (n / "to_out").linear("0", attended(q, k, v), d)


def sd3_block(
    p: NetPlace, streams: Pair, temb: Value, c: ComponentConfig
) -> tuple[Value, Value | None]:
    """JointTransformerBlock"""
    x, y = streams
    del streams
    d, last = x.shape[-1], p.number == c.num_layers - 1 and p.run.cls != SD3_CONTROL
    second = None
    if p.number in (c.dual_attention_layers or ()):
        shift, scale, *parts = rows((p / "norm1").linear("linear", temb.act(), 9 * d), 9)
        gate, shift_mlp, scale_mlp, gate_mlp, shift2, scale2, gate2 = parts
        h = norm(p, x)
        second = scaled(h, scale2, shift2)
        h = scaled(h, scale, shift)
    else:
        h, (gate, shift_mlp, scale_mlp, gate_mlp) = ada(p / "norm1", x, temb)
    more: list[Value] = []
    if last:
        g = continuous(p / "norm1_context", y, temb)
    else:
        g, more = ada(p / "norm1_context", y, temb)
    a, b = sd3_attention(p / "attn", h, g, c, last=last)
    a = gate * a
    x = x + a
    if second is not None:
        e = second_attention(p / "attn2", second, c)
        e = gate2 * e
        x = x + e
    h = norm(p, x)
    h = scaled(h, scale_mlp, shift_mlp)
    f = feed(p / "ff", h, 4 * d)
    f = gate_mlp * f
    x = x + f
    if last:
        return x, None
    b = more[0] * b
    y = y + b
    g = norm(p, y)
    g = scaled(g, more[2], more[1])
    f2 = feed(p / "ff_context", g, 4 * d)
    y = y + more[3] * f2
    return x, y


def sd3(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, _ = width_of(c)
    image = n.run.constant(s.batch, c.in_channels, s.height, s.width)
    position = n / "pos_embed"
    x = position.conv("proj", image, d, c.patch_size, c.patch_size, 0)
    position.buffer("pos_embed", 1, c.pos_embed_max_size**2, d)  # of which a center crop is read
    tokens = x.shape[2] * x.shape[3]
    x = x.view(s.batch, tokens, d) + n.run.new(1, tokens, d)
    temb = vector(n / "time_text_embed", s.batch, d, c.pooled_projection_dim)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d)
    if n.run.cls == SD3_CONTROL:
        channels = c.in_channels + (c.extra_conditioning_channels or 0)
        hint = n.run.constant(s.batch, channels, s.height, s.width)
        h = (n / "pos_embed_input").conv("proj", hint, d, c.patch_size, c.patch_size, 0)
        x = x + h.view(s.batch, tokens, d)
        del h
    outputs: list[list[Value]] = [[]]
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(lambda p, x, y: sd3_block(p, (x, y), temb, c), x, y)
        if y is not None:
            x = controlled(p, x, 0, c.num_layers, outputs)
    if n.run.cls == SD3_CONTROL:
        return projections(n, outputs, ("controlnet_blocks",))
    x = continuous(n / "norm_out", x, temb)
    x = n.linear("proj_out", x, c.patch_size**2 * c.out_channels)
    return x.copy()


# ---- Qwen-Image, its edit and layered models


def qwen_attention(n: NetPlace, streams: Pair, heads: int, freqs: Pair) -> Pair:
    """QwenDoubleStreamAttnProcessor2_0"""
    x, y = streams
    d, text, image = x.shape[-1], y.shape[1], x.shape[1]
    q, k, v = qkv(n, x, d)
    encoder_q, encoder_k, encoder_v = added(n, y, d)
    q = normed(n, "norm_q", q, heads)
    k = normed(n, "norm_k", k, heads)
    encoder_q = normed(n, "norm_added_q", encoder_q, heads)
    encoder_k = normed(n, "norm_added_k", encoder_k, heads)
    q = spun(q, freqs[0])
    k = spun(k, freqs[0])
    encoder_q = spun(encoder_q, freqs[1])
    encoder_k = spun(encoder_k, freqs[1])
    joint_q = cat([encoder_q, q])
    joint_k = cat([encoder_k, k])
    joint_v = cat([headed(encoder_v, heads), headed(v, heads)])
    h = attended(joint_q, joint_k, joint_v)
    b, a = (h.part(h.shape[0], tokens, d) for tokens in (text, image))
    several = h.shape[0] > 1
    a = (n / "to_out").linear("0", a.copy() if several else a, d)
    b = n.linear("to_add_out", b.copy() if several else b, d)
    return a, b


def modulated(x: Value, mod: Value, *, chosen: bool = False) -> Pair:
    """Return (modulated `x`, gate) of QwenImageTransformerBlock._modulate. `chosen`: each token
    takes one of two rows, for generated and for given tokens."""
    if chosen:
        shift, scale, gate = (x.run.new(*x.shape) for _ in range(3))
    else:
        shift, scale, gate = rows(mod, 3)
    return scaled(x, scale, shift), gate


def qwen_block(p: NetPlace, streams: Pair, temb: Value, c: ComponentConfig, freqs: Pair) -> Pair:
    """QwenImageTransformerBlock"""
    x, y = streams
    del streams
    d, chosen = x.shape[-1], bool(c.zero_cond_t)
    mod1, mod2 = p.linear("img_mod.1", temb.act(), 6 * d).chunk(2)
    if chosen:
        temb = temb.part(x.shape[0], d)
    c_mod1, c_mod2 = p.linear("txt_mod.1", temb.act(), 6 * d).chunk(2)
    normed1 = norm(p, x)
    h, gate = modulated(normed1, mod1, chosen=chosen)
    c_normed1 = norm(p, y)
    g, c_gate = modulated(c_normed1, c_mod1)
    a, b = qwen_attention(p / "attn", (h, g), c.num_attention_heads, freqs)
    x = x + gate * a
    y = y + c_gate * b
    normed2 = norm(p, x)
    h2, gate2 = modulated(normed2, mod2, chosen=chosen)
    f = feed(p / "img_mlp", h2, 4 * d)
    x = x + gate2 * f
    c_normed2 = norm(p, y)
    g2, c_gate2 = modulated(c_normed2, c_mod2)
    f2 = feed(p / "txt_mlp", g2, 4 * d)
    y = y + c_gate2 * f2
    return x, y


def qwen_image(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    (d, _), run = width_of(c), n.run
    x = n.linear("img_in", latent(n, s, c.in_channels, s.tokens or packed(s)), d)
    x = hinted(n, x, c.in_channels + (c.extra_condition_channels or 0))
    y = n.rms_norm("txt_norm", latent(n, s, c.joint_attention_dim, s.text))
    y = n.linear("txt_in", y, d)
    times = s.batch * (2 if c.zero_cond_t else 1)
    temb = timestep(n / "time_text_embed" / "timestep_embedder", times, d)
    if c.use_additional_t_cond:
        (n / "time_text_embed").param("addition_t_embedding.weight", 2, d, kind="embedding")
    of_image = run.new(1, x.shape[1], 1, c.attention_head_dim, dtype=FLOAT32)
    of_text = run.new(1, s.text, 1, c.attention_head_dim, dtype=FLOAT32)
    outputs: list[list[Value]] = [[]]
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(lambda p, x, y: qwen_block(p, (x, y), temb, c, (of_image, of_text)), x, y)
        x = controlled(p, x, 0, c.num_layers, outputs)
    if run.cls == QWEN_CONTROL:
        return projections(n, outputs, ("controlnet_blocks",))
    if c.zero_cond_t:
        temb = temb.part(s.batch, d)
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, c.patch_size**2 * (c.out_channels or c.in_channels))


# ---- AuraFlow


def aura_attention(n: NetPlace, x: Value, heads: int, y: Value | None = None) -> tuple[Value, ...]:
    """Return AuraFlowAttnProcessor2_0's output streams; heads are normalized in float32."""
    d = x.shape[-1]
    q, k, v = (headed(t, heads) for t in qkv(n, x, d, False))
    if y is None:
        q = norm(n, q, wide=True)
        k = norm(n, k, wide=True)
        return ((n / "to_out").linear("0", attended(q, k, v), d, False),)
    p, s, u = (headed(t, heads) for t in added(n, y, d, False))
    q = norm(n, q, wide=True)
    k = norm(n, k, wide=True)
    p = norm(n, p, wide=True)
    s = norm(n, s, wide=True)
    q, k, v = cat([p, q]), cat([s, k]), cat([u, v])
    del p, s, u
    b, a = apart(attended(q, k, v), y.shape[1], x.shape[1])
    a = (n / "to_out").linear("0", a, d, False)
    return a, n.linear("to_add_out", b, d, False)


def aura_feed(p: NetPlace, x: Value) -> Value:
    """AuraFlowFeedForward"""
    d = x.shape[-1]
    inside = -(-int(2 * 4 * d / 3) // 256) * 256
    up = p.linear("linear_1", x, inside, False).act() * p.linear("linear_2", x, inside, False)
    return p.linear("out_projection", up, d, False)


def aura_two(p: NetPlace, x: Value, y: Value, temb: Value, heads: int) -> Pair:
    """AuraFlowJointTransformerBlock"""
    h, (gate, shift, scale, gate_mlp) = ada(p / "norm1", x, temb, bias=False, wide=True)
    context = p / "norm1_context"
    g, (c_gate, c_shift, c_scale, c_gate_mlp) = ada(context, y, temb, bias=False, wide=True)
    a, b = aura_attention(p / "attn", h, heads, g)
    e = norm(p, x + gate * a, wide=True)
    e = scaled(e, scale, shift)
    e = gate_mlp * aura_feed(p / "ff", e)
    x = x + e
    k = norm(p, y + c_gate * b, wide=True)
    k = scaled(k, c_scale, c_shift)
    k = c_gate_mlp * aura_feed(p / "ff_context", k)
    return x, y + k


def aura_one(p: NetPlace, x: Value, temb: Value, heads: int) -> Value:
    """AuraFlowSingleTransformerBlock"""
    h, (gate, shift, scale, gate_mlp) = ada(p / "norm1", x, temb, bias=False, wide=True)
    (a,) = aura_attention(p / "attn", h, heads)
    e = norm(p, x + gate * a, wide=True)
    e = scaled(e, scale, shift)
    e = gate_mlp * aura_feed(p / "ff", e)
    return x + e


def aura_flow(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    (d, heads), register = width_of(c), 8
    size, position = c.patch_size**2 * c.in_channels, n / "pos_embed"
    position.param("pos_embed", 1, c.pos_embed_max_size, d)
    n.param("register_tokens", 1, register, d)
    x = position.linear("proj", n.run.new(s.batch, packed(s, c.patch_size), size), d)
    x = x + n.run.new(1, x.shape[1], d)
    temb = timestep(n / "time_step_proj", s.batch, d)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d, False)
    y = cat([n.run.constant(s.batch, register, d), y])
    for p in n.each("joint_transformer_blocks", c.num_mmdit_layers):
        x, y = p.block(lambda p, x, y: aura_two(p, x, y, temb, heads), x, y)
    image = x.shape[1]
    z = cat([y, x])
    for p in n.each("single_transformer_blocks", c.num_single_dit_layers):
        z = p.block(lambda p, z: aura_one(p, z, temb, heads), z)
    x = z.part(s.batch, image, d)
    x = continuous(n / "norm_out", x, temb, False)
    return n.linear("proj_out", x, c.patch_size**2 * (c.out_channels or c.in_channels), False)


PROGRAMS = {
    "SD3Transformer2DModel": sd3,
    "QwenImageTransformer2DModel": qwen_image,
    "AuraFlowTransformer2DModel": aura_flow,
    SD3_CONTROL: sd3,
    QWEN_CONTROL: qwen_image,
}

"""FLUX.1 with its relatives LongCat and Chroma, and FLUX.2.

Source: diffusers 0.42 models/transformers/{transformer_flux, transformer_chroma,
transformer_longcat_image, transformer_flux2}.py.
"""

from collections.abc import Callable

from weighbridge.base.records import frozen_record
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    Turns,
    ada,
    added,
    apart,
    attended,
    attends,
    continuous,
    controlled,
    embed,
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
    turned,
    turns_of,
    vector,
    width_of,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, cat, headed

Pair = tuple[Value, Value]


@attends
def attention(n: NetPlace, x: Value, y: Value, heads: int, turns: Turns) -> Pair:
    """Return both streams after FluxAttnProcessor; the text comes first."""
    d, bias = x.shape[-1], n.run.cls != "Flux2Transformer2DModel"
    q, k, v = qkv(n, x, d, bias)
    encoder_q, encoder_k, encoder_v = added(n, y, d, bias)
    q = normed(n, "norm_q", q, heads, "torch")
    k = normed(n, "norm_k", k, heads, "torch")
    encoder_q = normed(n, "norm_added_q", encoder_q, heads, "torch")
    encoder_k = normed(n, "norm_added_k", encoder_k, heads, "torch")
    q = cat([encoder_q, q])
    k = cat([encoder_k, k])
    v = cat([headed(encoder_v, heads), headed(v, heads)])
    q = turned(q, turns)
    k = turned(k, turns)
    h = attended(q, k, v)
    y, x = apart(h, y.shape[1], x.shape[1])
    x = (n / "to_out").linear("0", x, d, bias)
    y = n.linear("to_add_out", y, d, bias)
    return x, y


@attends
def own_attention(n: NetPlace, x: Value, heads: int, turns: Turns) -> Value:
    """Return FluxAttnProcessor of one stream, without an output projection."""
    q, k, v = qkv(n, x, x.shape[-1])
    q = normed(n, "norm_q", q, heads, "torch")
    k = normed(n, "norm_k", k, heads, "torch")
    q = turned(q, turns)
    k = turned(k, turns)
    return attended(q, k, headed(v, heads))


Modulate = Callable[[NetPlace, Value], tuple[Value, list[Value]]]


def double(p: NetPlace, streams: Pair, heads: int, turns: Turns, zero: Modulate) -> Pair:
    """Return both streams (x, y) after FluxTransformerBlock. `zero` normalizes a stream and returns
    its modulation."""
    x, y = streams
    del streams
    d = x.shape[-1]
    h, (gate, shift, scale, gate_mlp) = zero(p / "norm1", x)
    g, (c_gate, c_shift, c_scale, c_gate_mlp) = zero(p / "norm1_context", y)
    a, b = attention(p / "attn", h, g, heads, turns)
    a = gate * a
    x = x + a
    h = scaled(norm(p, x), scale, shift)
    f = feed(p / "ff", h, 4 * d)
    f = gate_mlp * f
    x = x + f
    b = c_gate * b
    y = y + b
    g = scaled(norm(p, y), c_scale, c_shift)
    f2 = feed(p / "ff_context", g, 4 * d)
    y = y + c_gate_mlp * f2
    return x, y


def single(p: NetPlace, x: Value, heads: int, turns: Turns, zero: Modulate) -> Value:
    """Return `x` after FluxSingleTransformerBlock: attention parallel to the MLP, one projection of
    both."""
    d, residual = x.shape[-1], x
    h, (gate,) = zero(p / "norm", x)
    mlp = p.linear("proj_mlp", h, 4 * d).act()
    a = own_attention(p / "attn", h, heads, turns)
    x = cat([a, mlp], -1)
    x = gate * p.linear("proj_out", x, d)
    return residual + x


def times(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return the time embedding, with guidance and the pooled text if the class has them."""
    d, _ = width_of(c)
    if n.run.cls == "LongCatImageTransformer2DModel":
        return vector(n / "time_embed", s.batch, d)
    pooled, guidance = c.pooled_projection_dim, bool(c.guidance_embeds)
    return vector(n / "time_text_embed", s.batch, d, pooled, guidance=guidance)


def flux(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = width_of(c)
    x = n.linear("x_embedder", latent(n, s, c.in_channels, s.tokens or packed(s)), d)
    x = hinted(n, x, c.in_channels)
    temb = times(n, c, s)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d)
    if c.num_mode:
        y = cat([n.embedding("controlnet_mode_embedder", s.batch, 1, c.num_mode, d), y])
    turns = turns_of(n.run, y.shape[1] + x.shape[1], c.attention_head_dim)

    def two(p: NetPlace, x: Value, y: Value) -> Pair:
        return double(p, (x, y), heads, turns, lambda q, h: ada(q, h, temb))

    def one(p: NetPlace, x: Value, y: Value) -> Pair:
        text, image = y.shape[1], x.shape[1]
        x = cat([y, x])
        x = single(p, x, heads, turns, lambda q, h: ada(q, h, temb, 3))
        return x.part(s.batch, image, d), x.part(s.batch, text, d)

    outputs: list[list[Value]] = [[], []]
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(two, x, y)
        x = controlled(p, x, 0, c.num_layers, outputs)
    for p in n.each("single_transformer_blocks", c.num_single_layers):
        x, y = p.block(one, x, y)
        x = controlled(p, x, 1, c.num_single_layers, outputs)
    if n.run.cls == "FluxControlNetModel":
        return projections(n, outputs, ("controlnet_blocks", "controlnet_single_blocks"))
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, c.out_channels or c.in_channels)


def chroma(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return the output of Chroma: FLUX whose modulations come from one network, for all blocks at
    once."""
    d, heads = width_of(c)
    x = n.linear("x_embedder", latent(n, s, c.in_channels, s.tokens or packed(s)), d)
    g, hidden = n / "distilled_guidance_layer", c.approximator_hidden_dim
    count = 3 * c.num_single_layers + 12 * c.num_layers + 2
    v = g.linear("in_proj", n.run.new(s.batch, count, c.approximator_num_channels), hidden)
    for i in range(c.approximator_layers):
        v = v + embed(g / "layers" / i, (g / "norms").rms_norm(str(i), v, how="torch"), hidden)
    temb = g.linear("out_proj", v, d)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d)
    turns = turns_of(n.run, s.text + x.shape[1], c.attention_head_dim)

    def zero(count: int) -> Modulate:
        def pruned(q: NetPlace, h: Value) -> tuple[Value, list[Value]]:
            shift, scale, *others = [temb.part(s.batch, 1, d) for _ in range(count)]
            return scaled(norm(q, h), scale, shift), others

        return pruned

    def two(p: NetPlace, x: Value, y: Value) -> Pair:
        return double(p, (x, y), heads, turns, zero(6))

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(two, x, y)
    image = x.shape[1]
    x = cat([y, x])
    for p in n.each("single_transformer_blocks", c.num_single_layers):
        x = p.block(lambda p, x: single(p, x, heads, turns, zero(3)), x)
    x = x.part(s.batch, image, d)
    x, _ = zero(2)(n, x)
    return n.linear("proj_out", x, c.out_channels or c.in_channels)


# ---- FLUX.2


def gated(h: Value) -> Value:
    """Return Flux2SwiGLU of `h`, by slices, not chunks."""
    half = h.shape[-1] // 2
    shape = (*h.shape[:-1], half)
    return h.part(*shape).act() * h.part(*shape)


def gated_feed(n: NetPlace, x: Value, inside: int) -> Value:
    """Flux2FeedForward"""
    h = n.linear("linear_in", x, 2 * inside, False)
    h = gated(h)
    return n.linear("linear_out", h, x.shape[-1], False)


@frozen_record
class SharedModulation:
    """Inputs that all blocks of FLUX.2 share: modulations (of the image, the text, both),
    positions, and the MLP's width."""

    mods: tuple[Value, ...]
    turns: Turns
    heads: int
    inside: int


def flux2_double(p: NetPlace, x: Value, y: Value, k: SharedModulation) -> Pair:
    """Flux2TransformerBlock"""
    shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = rows(k.mods[0], 6)
    c_shift, c_scale, c_gate, c_shift_mlp, c_scale_mlp, c_gate_mlp = rows(k.mods[1], 6)
    h = norm(p, x)
    h = scaled(h, scale, shift)
    g = norm(p, y)
    g = scaled(g, c_scale, c_shift)
    a, b = attention(p / "attn", h, g, k.heads, k.turns)
    a = gate * a
    x = x + a
    h = norm(p, x)
    h = scaled(h, scale_mlp, shift_mlp)
    f = gated_feed(p / "ff", h, k.inside)
    x = x + gate_mlp * f
    b = c_gate * b
    y = y + b
    g = norm(p, y)
    g = scaled(g, c_scale_mlp, c_shift_mlp)
    f2 = gated_feed(p / "ff_context", g, k.inside)
    y = y + c_gate_mlp * f2
    return x, y


@attends
def flux2_parallel(n: NetPlace, x: Value, shared: SharedModulation) -> Value:
    """Flux2ParallelSelfAttnProcessor"""
    d, heads = x.shape[-1], shared.heads
    projected = n.linear("to_qkv_mlp_proj", x, 3 * d + 2 * shared.inside, False)
    joined, mlp = projected.split(3 * d, 2 * shared.inside)
    q, k, v = joined.chunk(3)
    q = normed(n, "norm_q", q, heads, "torch")
    k = normed(n, "norm_k", k, heads, "torch")
    q = turned(q, shared.turns)
    k = turned(k, shared.turns)
    h = attended(q, k, headed(v, heads))
    mlp = gated(mlp)
    h = cat([h, mlp], -1)
    return n.linear("to_out", h, d, False)


def flux2_single(p: NetPlace, x: Value, k: SharedModulation) -> Value:
    """Flux2SingleTransformerBlock"""
    shift, scale, gate = rows(k.mods[2], 3)
    h = norm(p, x)
    h = scaled(h, scale, shift)
    a = flux2_parallel(p / "attn", h, k)
    return x + gate * a


def flux2(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = width_of(c)
    guidance = c.guidance_embeds is not False
    temb = vector(n / "time_guidance_embed", s.batch, d, guidance=guidance, bias=False)
    mods = [
        (n / name).linear("linear", temb.act(), count * d, False)
        for name, count in (
            ("double_stream_modulation_img", 6),
            ("double_stream_modulation_txt", 6),
            ("single_stream_modulation", 3),
        )
    ]
    x = n.linear("x_embedder", latent(n, s, c.in_channels, s.tokens or packed(s)), d, False)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d, False)
    turns = turns_of(n.run, s.text + x.shape[1], c.attention_head_dim)
    inside = int(d * c.mlp_ratio)
    k = SharedModulation(mods=tuple(mods), turns=turns, heads=heads, inside=inside)
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(lambda p, x, y: flux2_double(p, x, y, k), x, y)
    image = x.shape[1]
    x = cat([y, x])
    for p in n.each("single_transformer_blocks", c.num_single_layers):
        x = p.block(lambda p, x: flux2_single(p, x, k), x)
    x = x.part(s.batch, image, d)
    x = continuous(n / "norm_out", x, temb, False)
    return n.linear("proj_out", x, c.patch_size**2 * (c.out_channels or c.in_channels), False)


PROGRAMS = {
    "FluxTransformer2DModel": flux,
    "FluxControlNetModel": flux,
    "LongCatImageTransformer2DModel": flux,
    "ChromaTransformer2DModel": chroma,
    "Flux2Transformer2DModel": flux2,
}

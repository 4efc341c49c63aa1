"""Cosmos' transformer.

Source: diffusers 0.42 models/transformers/transformer_cosmos.py.
"""

from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import feed
from weighbridge.pictures.nets.ltx import interleaved
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, flat, headed

IMAGE_TOKENS = 256
Turns = tuple[Value, Value]


def attention(
    a: NetPlace, x: Value, heads: int, seen: Value, turns: Turns | None = None, prefix: str = "to_"
) -> Value:
    """CosmosAttnProcessor2_0: keys and values are repeated, once, which copies them."""
    d = x.shape[-1]
    names = ("q_img", "k_img", "v_img") if prefix != "to_" else ("to_q", "to_k", "to_v")
    norms = ("q_img_norm", "k_img_norm") if prefix != "to_" else ("norm_q", "norm_k")
    query = headed(a.linear(names[0], x, d, bias=False), heads)
    key = headed(a.linear(names[1], seen, d, bias=False), heads)
    value = headed(a.linear(names[2], seen, d, bias=False), heads)
    query = a.rms_norm(norms[0], query)
    key = a.rms_norm(norms[1], key)
    if turns is not None:
        query = interleaved(query, turns)
        key = interleaved(key, turns)
    key = key.copy()
    value = value.copy()
    return attend(flat(query), flat(key), flat(value), heads)


def zero(p: NetPlace, x: Value, times: Value, temb: Value, low: int) -> tuple[Value, Value]:
    """CosmosAdaLayerNormZero"""
    d = x.shape[-1]
    mod = times.act()
    mod = p.linear("linear_1", mod, low, bias=False)
    mod = p.linear("linear_2", mod, 3 * d, bias=False)
    mod = mod + temb
    shift, scale, gate = mod.chunk(3)
    x = p.layer_norm("", x, affine=False)
    x = x * (scale + 1.0)
    return x + shift, gate


def learnt_positions(n: NetPlace, c: ComponentConfig, s: Sizes, d: int) -> Value:
    """CosmosLearnablePositionalEmbed"""
    for axis, size, step in zip("thw", c.max_size, c.patch_size, strict=True):
        (n / "learnable_pos_embed").param(f"pos_emb_{axis}", size // step, d)
    k = c.patch_size
    return n.run.new(s.batch, s.frames // k[0] * (s.height // k[1]) * (s.width // k[2]), d)


def times_of(n: NetPlace, s: Sizes, d: int, tokens: int) -> tuple[Value, Value]:
    """CosmosEmbedding: the shared modulation, and what each norm makes its own of."""
    e, count = n / "time_embed", s.frames if s.token_times else 1
    times = n.run.new(s.batch * count, d)
    temb = (e / "t_embedder").linear("linear_1", times, d, bias=False)
    temb = (e / "t_embedder").linear("linear_2", temb.act(), 3 * d, bias=False)
    times = e.rms_norm("norm", times)
    if s.token_times:
        return times.resized(s.batch, tokens, d), temb.resized(s.batch, tokens, 3 * d)
    return times.view(s.batch, 1, d), temb.view(s.batch, 1, 3 * d)


def contexts(n: NetPlace, c: ComponentConfig, s: Sizes) -> tuple[Value, Value | None]:
    """The text, and pictures where a model reads them."""
    y, run = n.run.constant(s.batch, s.text, c.text_embed_dim), n.run
    if c.use_crossattn_projection:
        y = run.constant(s.batch, s.text, c.crossattn_proj_in_channels)
        y = n.linear("crossattn_proj.0", y, c.encoder_hidden_states_channels).act()
    if not c.img_context_dim_in:
        return y, None
    tokens = c.img_context_num_tokens or IMAGE_TOKENS
    pictures = run.constant(s.batch, tokens, c.img_context_dim_in)
    return y, n.linear("img_context_proj.0", pictures, c.img_context_dim_out).act()


def ended(n: NetPlace, x: Value, times: Value, temb: Value, low: int) -> Value:
    """CosmosAdaLayerNorm"""
    o, d = n / "norm_out", x.shape[-1]
    mod = o.linear("linear_1", times.act(), low, bias=False)
    mod = o.linear("linear_2", mod, 2 * d, bias=False)
    mod = mod + temb.part(*temb.shape[:-1], 2 * d)
    shift, scale = mod.chunk(2)
    x = o.layer_norm("", x, affine=False)
    x = x * (scale + 1.0)
    return x + shift


def cosmos(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    heads, run, k = c.num_attention_heads, n.run, c.patch_size
    d, low = heads * c.attention_head_dim, c.adaln_lora_dim
    tokens = s.frames // k[0] * (s.height // k[1]) * (s.width // k[2])
    cos, sin = (run.new(tokens, 1, c.attention_head_dim, dtype=FLOAT32) for _ in range(2))
    extra = learnt_positions(n, c, s, d) if c.extra_pos_embed_type else None
    x = run.new(s.batch, tokens, (c.in_channels + bool(c.concat_padding_mask)) * prod(k))
    x = (n / "patch_embed").linear("proj", x, d, bias=False)
    times, temb = times_of(n, s, d, tokens)
    y, pictures = contexts(n, c, s)

    def block(p: NetPlace, x: Value) -> Value:
        if extra is not None:
            x = x + extra
        h, gate = zero(p / "norm1", x, times, temb, low)
        a = attention(p / "attn1", h, heads, h, (cos, sin))
        a = (p / "attn1" / "to_out").linear("0", a, d, bias=False)
        x = x + gate * a
        h, gate = zero(p / "norm2", x, times, temb, low)
        a = attention(p / "attn2", h, heads, y)
        if pictures is not None:
            a = a + attention(p / "attn2", h, heads, pictures, prefix="img")
        a = (p / "attn2" / "to_out").linear("0", a, d, bias=False)
        x = x + gate * a
        h, gate = zero(p / "norm3", x, times, temb, low)
        f = feed(p / "ff", h, int(c.mlp_ratio * d), bias=False)
        return x + gate * f

    for p in n.each("transformer_blocks", c.num_layers):
        x = p.block(block, x)
    x = ended(n, x, times, temb, low)
    x = n.linear("proj_out", x, prod(k) * c.out_channels, bias=False)
    return x.copy()


PROGRAMS = {"CosmosTransformer3DModel": cosmos}

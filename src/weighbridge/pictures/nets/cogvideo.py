"""CogVideoX's transformer and Mochi's: a video and its text are one sequence in attention.

Source: diffusers 0.42 models/transformers/{cogvideox_transformer_3d, transformer_mochi}.py,
models/{attention_processor, embeddings, normalization}.py.
"""

from collections.abc import Callable
from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import continuous, feed, rows, timestep
from weighbridge.pictures.nets.ltx import interleaved, scaled
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed

Turns = tuple[Value, Value]  # cosines and sines of positions
Pair = tuple[Value, Value]  # of the video and the text


def patches(n: NetPlace, c: ComponentConfig, s: Sizes, d: int) -> Value:
    """Patches of each frame; several frames are one patch since CogVideoX 1.5."""
    k, steps = c.patch_size, c.patch_size_t or 1
    height, width, frames = s.height // k, s.width // k, -(-s.frames // steps)
    if not c.patch_size_t:
        x = n.run.constant(s.batch * s.frames, c.in_channels, s.height, s.width)
        x = n.conv("proj", x, d, k, k, 0)
        return x.view(s.batch, frames * height * width, d)
    x = n.run.new(s.batch, frames * height * width, c.in_channels * k * k * steps)
    return n.linear("proj", x, d)


def norm_zero(p: NetPlace, x: Value, y: Value, temb: Value) -> tuple[Value, Value, Value, Value]:
    """CogVideoXLayerNormZero"""
    shift, scale, gate, y_shift, y_scale, y_gate = rows(
        p.linear("linear", temb.act(), 6 * x.shape[-1]), 6
    )
    x = scaled(p.layer_norm("norm", x), scale, shift)
    y = scaled(p.layer_norm("norm", y), y_scale, y_shift)
    return x, y, gate, y_gate


def joined(a: NetPlace, x: Value, y: Value, heads: int, turns: Turns | None) -> Pair:
    """CogVideoXAttnProcessor2_0: norms put heads before tokens; positions are written in place."""
    d, text = x.shape[-1], y.shape[1]
    h = cat([y, x])
    query, key, value = (a.linear(name, h, d) for name in ("to_q", "to_k", "to_v"))
    query = a.layer_norm("norm_q", headed(query, heads), dense=False)
    key = a.layer_norm("norm_k", headed(key, heads), dense=False)
    if turns is not None:
        tokens = (x.shape[0], x.shape[1], heads, d // heads)
        query = query.written(interleaved(query.part(*tokens), turns))
        key = key.written(interleaved(key.part(*tokens), turns))
    h = attend(flat(query), flat(key), value, heads, first=True)
    h = (a / "to_out").linear("0", h, d)
    y, x = h.split(text, x.shape[1], dim=1)
    return x, y


def cogvideox(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    heads, run = c.num_attention_heads, n.run
    d = heads * c.attention_head_dim
    temb = timestep(n / "time_embedding", s.batch, c.time_embed_dim, inputs=d)
    if c.ofs_embed_dim:
        ofs = timestep(n / "ofs_embedding", s.batch, c.ofs_embed_dim, inputs=c.ofs_embed_dim)
        temb = temb + ofs
    p, frames = n / "patch_embed", (c.sample_frames - 1) // c.temporal_compression_ratio + 1
    y = p.linear("text_proj", run.constant(s.batch, s.text, c.text_embed_dim), d)
    x = patches(p, c, s, d)
    x = cat([y, x])
    if c.use_learned_positional_embeddings:
        places = frames * (c.sample_height // c.patch_size) * (c.sample_width // c.patch_size)
        p.param("pos_embedding", 1, places + c.max_text_seq_length, d)
    if c.use_learned_positional_embeddings or not c.use_rotary_positional_embeddings:
        x = x + run.constant(1, x.shape[1], d)
    tokens, turns = x.shape[1] - s.text, None
    if c.use_rotary_positional_embeddings:
        cos, sin = (run.constant(1, tokens, 1, d // heads, dtype=FLOAT32) for _ in range(2))
        turns = (cos, sin)
    y, x = x.split(s.text, tokens, dim=1)

    def block(p: NetPlace, x: Value, y: Value) -> Pair:
        h, g, gate, y_gate = norm_zero(p / "norm1", x, y, temb)
        a, b = joined(p / "attn1", h, g, heads, turns)
        x = x + gate * a
        y = y + y_gate * b
        h, g, gate, y_gate = norm_zero(p / "norm2", x, y, temb)
        h = cat([g, h])
        f = feed(p / "ff", h, 4 * d)
        of_y, of_x = f.split(s.text, tokens, dim=1)
        del f
        return x + gate * of_x, y + y_gate * of_y

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(block, x, y)
    x = n.layer_norm("norm_final", x)
    o = n / "norm_out"
    shift, scale = rows(o.linear("linear", temb.act(), 2 * d), 2)
    x = scaled(o.layer_norm("norm", x), scale, shift)
    x = n.linear("proj_out", x, c.patch_size**2 * (c.patch_size_t or 1) * c.out_channels)
    return x.copy()


# ---- Mochi


def modulated(x: Value, scale: Value) -> Value:
    """MochiModulatedRMSNorm, in float32."""
    h = x.float()
    h = NetPlace(x.run).rms_norm("", h, affine=False)
    h = h * scale
    return h.like(x)


def rms_zero(p: NetPlace, x: Value, temb: Value) -> tuple[Value, Value, Value, Value]:
    """MochiRMSNormZero"""
    scale, gate, scale2, gate2 = rows(p.linear("linear", temb.act(), 4 * x.shape[-1]), 4)
    return modulated(x, scale.float() + 1.0), gate, scale2, gate2


def halves(x: Value, turns: Turns) -> Value:
    """Even and odd numbers of a head, turned in float32."""
    half, (freqs_cos, freqs_sin) = x.shape[-1] // 2, turns
    even, odd = x.split(half, half)
    x_even = even.float()
    x_odd = odd.float()
    cos = (x_even * freqs_cos - x_odd * freqs_sin).like(x)
    sin = (x_even * freqs_sin + x_odd * freqs_cos).like(x)
    return cat([cos, sin], -1)


def projected(
    a: NetPlace, x: Value, d: int, heads: int, *, added: bool
) -> tuple[Value, Value, Value]:
    """Queries, keys and values of a stream, the first two with norms of their heads."""
    q, k, v = ("add_q_proj", "add_k_proj", "add_v_proj") if added else ("to_q", "to_k", "to_v")
    norm = "norm_added_" if added else "norm_"
    query, key, value = (headed(a.linear(name, x, d, bias=False), heads) for name in (q, k, v))
    query = a.rms_norm(f"{norm}q", query)
    key = a.rms_norm(f"{norm}k", key)
    return query, key, value


def valid(a: NetPlace, x: Value, y: Value, heads: int, turns: Turns, *, last: bool) -> Pair:
    """MochiAttnProcessor2_0: a copy of the tokens that count, for each item of a batch."""
    d, e = x.shape[-1], y.shape[-1]
    query, key, value = projected(a, x, d, heads, added=False)
    y_query, y_key, y_value = projected(a, y, d, heads, added=True)
    query = halves(query, turns)
    key = halves(key, turns)
    outputs = []
    for _ in range(x.shape[0]):
        texts = [one.part(1, *one.shape[1:]).copy() for one in (y_query, y_key, y_value)]
        valid_query, valid_key, valid_value = (
            flat(cat([one.part(1, *one.shape[1:]), text]))
            for one, text in zip((query, key, value), texts, strict=True)
        )
        output = attend(valid_query, valid_key, valid_value, heads)
        output = output.copy()
        outputs.append(output)
    h = cat(outputs, 0)
    h = h.copy()
    of_x, of_y = h.split(x.shape[1], y.shape[1], dim=1)
    of_x = (a / "to_out").linear("0", of_x, d)
    if not last:
        of_y = a.linear("to_add_out", of_y, e)
    return of_x, of_y


def mochi_block(c: ComponentConfig, temb: Value, turns: Turns) -> Callable[..., Pair]:
    """MochiTransformerBlock; the last one leaves the text as it is."""
    heads, e = c.num_attention_heads, c.pooled_projection_dim

    def block(p: NetPlace, x: Value, y: Value) -> Pair:
        last, d = p.number == c.num_layers - 1, x.shape[-1]
        h, gate, scale2, gate2 = rms_zero(p / "norm1", x, temb)
        if last:
            scale = (p / "norm1_context").linear("linear_1", temb.act(), e)
            g = modulated(y, scale.view(y.shape[0], 1, e).float() + 1.0)
        else:
            g, y_gate, y_scale2, y_gate2 = rms_zero(p / "norm1_context", y, temb)
        a, b = valid(p / "attn1", h, g, heads, turns, last=last)
        x = x + modulated(a, gate.act("result"))
        h = modulated(x, scale2.float() + 1.0)
        f = feed(p / "ff", h, 4 * d * 2 // 3, how="swiglu", bias=False)
        x = x + modulated(f, gate2.act("result"))
        if last:
            return x, y
        y = y + modulated(b, y_gate.act("result"))
        g = modulated(y, y_scale2.float() + 1.0)
        f_y = feed(p / "ff_context", g, 4 * e * 2 // 3, how="swiglu", bias=False)
        return x, y + modulated(f_y, y_gate2.act("result"))

    return block


def mochi(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    heads, run, k = c.num_attention_heads, n.run, c.patch_size
    d, p, text = heads * c.attention_head_dim, n / "time_embed", c.text_embed_dim
    n.param("pos_frequencies", 3, heads, c.attention_head_dim // 2)
    words = run.constant(s.batch, s.text, text)
    temb = timestep(p / "timestep_embedder", s.batch, d, inputs=c.time_embed_dim)
    q = p / "pooler"
    q.linear("to_kv", run.new(s.batch, s.text + 1, text), 2 * text)
    pooled = q.linear("to_q", run.new(s.batch, text), text)
    temb = temb + q.linear("to_out", pooled, d)
    y = p.linear("caption_proj", words, c.pooled_projection_dim)
    x = run.constant(s.batch * s.frames, c.in_channels, s.height, s.width)
    x = (n / "patch_embed").conv("proj", x, d, k, k, 0)
    x = x.copy(s.batch, s.frames * prod(x.shape[2:]), d)
    turns = tuple(
        run.new(x.shape[1], heads, c.attention_head_dim // 2, dtype=FLOAT32) for _ in range(2)
    )
    block = mochi_block(c, temb, (turns[0], turns[1]))
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(block, x, y)
    x = continuous(n / "norm_out", x, temb)
    x = n.linear("proj_out", x, k**2 * (c.out_channels or c.in_channels))
    return x.copy()


PROGRAMS = {"CogVideoXTransformer3DModel": cogvideox, "MochiTransformer3DModel": mochi}

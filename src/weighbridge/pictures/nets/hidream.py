"""HiDream: two streams, then one, with experts for the image; each block reads a layer of Llama.

Source: diffusers 0.42 models/transformers/transformer_hidream_image.py.
"""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.units import align_up
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    attended,
    embed,
    latent,
    norm,
    packed,
    rows,
    scaled,
    swiglu,
    timestep,
    width_of,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, cat, headed

INNER = 256  # the MLPs' widths are multiples of it


def feed(p: NetPlace, x: Value, inside: int) -> Value:
    """HiDreamImageFeedForwardSwiGLU"""
    return swiglu(p, x, align_up(int(2 * inside / 3), INNER))


def turned(xq: Value, xk: Value, freqs: Value) -> tuple[Value, Value]:
    """Return queries and keys after apply_rope, which casts both to float32 at once."""

    def whole(x: Value) -> Value:
        return x * freqs

    xq_, xk_ = xq.float(), xk.float()
    xq_out = whole(xq_) + whole(xq_)
    xk_out = whole(xk_) + whole(xk_)
    return xq_out.like(xq), xk_out.like(xk)


def experts(p: NetPlace, x: Value, c: ComponentConfig) -> Value:
    """Return MOEFeedForwardSwiGLU.moe_infer with tokens spread evenly over experts."""
    d, count = x.shape[-1], c.num_routed_experts
    p.param("gate.weight", count, d)
    expert_cache = x.resized(*x.shape)
    tokens = x.shape[0] * x.shape[1] * c.num_activated_experts // count
    for i in range(count):
        expert_tokens = x.resized(1, tokens, d)
        expert_out = feed(p / "experts" / i, expert_tokens, 4 * d)
        del expert_tokens, expert_out
    return expert_cache + feed(p / "shared_experts", x, 2 * d)


def projected(a: NetPlace, x: Value, heads: int, end: str = "") -> tuple[Value, Value, Value]:
    """Return queries and keys, normalized over the whole width, and values."""
    d = x.shape[-1]
    q = a.rms_norm(f"q_rms_norm{end}", a.linear(f"to_q{end}", x, d), how="torch")
    k = a.rms_norm(f"k_rms_norm{end}", a.linear(f"to_k{end}", x, d), how="torch")
    v = a.linear(f"to_v{end}", x, d)
    return headed(q, heads), headed(k, heads), headed(v, heads)


def joint_attention(
    a: NetPlace, x: Value, y: Value, heads: int, freqs: Value
) -> tuple[Value, Value]:
    """Return both streams after HiDreamAttnProcessor."""
    d = x.shape[-1]
    query_i, key_i, value_i = projected(a, x, heads)
    query_t, key_t, value_t = projected(a, y, heads, "_t")
    query = cat([query_i, query_t])
    key = cat([key_i, key_t])
    value = cat([value_i, value_t])
    query, key = turned(query, key, freqs)
    h = attended(query, key, value)
    i, t = h.split(x.shape[1], y.shape[1], dim=1)
    i = a.linear("to_out", i, d)
    t = a.linear("to_out_t", t, d)
    return i, t


def own_attention(a: NetPlace, x: Value, heads: int, freqs: Value) -> Value:
    """Return HiDreamAttnProcessor of one stream; its first variables stay alive."""
    query_i, key_i, value_i = projected(a, x, heads)
    query, key = turned(query_i, key_i, freqs)
    h = attended(query, key, value_i)
    return a.linear("to_out", h, x.shape[-1])


def two_streams(
    p: NetPlace, x: Value, y: Value, temb: Value, c: ComponentConfig, freqs: Value
) -> tuple[Value, Value]:
    """HiDreamImageTransformerBlock"""
    d, heads = width_of(c)
    mod = rows((p / "adaLN_modulation").linear("1", temb.act(), 12 * d), 12)
    h = norm(p, x)
    h = scaled(h, mod[1], mod[0])
    g = norm(p, y)
    g = scaled(g, mod[7], mod[6])
    a, b = joint_attention(p / "attn1", h, g, heads, freqs)
    x = mod[2] * a + x
    y = mod[8] * b + y
    h = norm(p, x)
    h = scaled(h, mod[4], mod[3])
    g = norm(p, y)
    g = scaled(g, mod[10], mod[9])
    f = mod[5] * experts(p / "ff_i", h, c)
    f2 = mod[11] * feed(p / "ff_t", g, 4 * d)
    return f + x, f2 + y


def one_stream(p: NetPlace, x: Value, temb: Value, c: ComponentConfig, freqs: Value) -> Value:
    """HiDreamImageSingleTransformerBlock"""
    d, heads = width_of(c)
    mod = rows((p / "adaLN_modulation").linear("1", temb.act(), 6 * d), 6)
    h = norm(p, x)
    h = scaled(h, mod[1], mod[0])
    a = own_attention(p / "attn1", h, heads, freqs)
    x = mod[2] * a + x
    h = norm(p, x)
    h = scaled(h, mod[4], mod[3])
    f = mod[5] * experts(p / "ff_i", h, c)
    return f + x


def hidream(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    (d, _), run = width_of(c), n.run
    size, blocks = c.in_channels * c.patch_size**2, c.num_layers + c.num_single_layers
    image = packed(s, c.patch_size)
    x = (n / "x_embedder").linear("proj", latent(n, s, size, image), d)
    temb = timestep(n / "t_embedder" / "timestep_embedder", s.batch, d)
    pooled = run.constant(s.batch, c.text_emb_dim)
    temb = temb + embed(n / "p_embedder" / "pooled_embedder", pooled, d)
    t5_width, llama_width = c.caption_channels
    texts = [
        (n / "caption_projection" / i).linear("linear", latent(n, s, width, s.text), d, False)
        for i, width in enumerate([llama_width] * blocks + [t5_width])
    ]
    freqs = run.new(1, image + 3 * s.text, 1, c.attention_head_dim, 2, dtype=FLOAT32)
    freqs = freqs.part(1, image + 3 * s.text, 1, c.attention_head_dim)
    y = cat([texts[-1], texts[-2]])
    for i, p in enumerate(n.each("double_stream_blocks", c.num_layers)):
        z = cat([y, texts[i]])
        x, z = p.block(lambda p, x, z: two_streams(p / "block", x, z, temb, c, freqs), x, z)
        y = z.part(s.batch, 2 * s.text, d)
        del z
    whole = cat([x, y])
    del x
    for i, p in enumerate(n.each("single_stream_blocks", c.num_single_layers), c.num_layers):
        z = cat([whole, texts[i]])
        z = p.block(lambda p, z: one_stream(p / "block", z, temb, c, freqs), z)
        whole = z.part(s.batch, image + 2 * s.text, d)
        del z
    final = n / "final_layer"
    shift, scale = rows((final / "adaLN_modulation").linear("1", temb.act(), 2 * d), 2)
    x = scaled(norm(final, whole.part(s.batch, image, d)), scale, shift)
    return final.linear("linear", x, c.patch_size**2 * (c.out_channels or c.in_channels))


PROGRAMS = {"HiDreamImageTransformer2DModel": hidream}

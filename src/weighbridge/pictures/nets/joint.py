"""Transformers of two joined streams: SD3, FLUX, Chroma, LongCat, Qwen-Image, FLUX.2, AuraFlow, HunyuanVideo.

A program reads (n, c, s): a place in the tree, the config, and the request's sizes:
    b batch   t, h, w latent frames, height, width   text tokens
"""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    ada,
    attention,
    continuous,
    double,
    embed,
    feed,
    joint,
    norm,
    normed,
    rope,
    rows,
    scaled,
    single,
    timestep,
)
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat


def vector(n, b, d, pooled=None, guidance=False, bias=True):
    """CombinedTimestep(Guidance)TextProjEmbeddings"""
    temb = timestep(n / "timestep_embedder", b, d, bias)
    if guidance:
        temb = temb + timestep(n / "guidance_embedder", b, d, bias)
    if pooled:
        temb = temb + embed(n / "text_embedder", n.run.new(b, pooled), d, bias)
    return temb


def packed(s, patch=2):
    return s.frames * (s.height // patch) * (s.width // patch)


def latent(n, s, channels, tokens):
    """The packed latents, given by the pipeline: they are there before the step."""
    return n.run.new(s.batch, tokens, channels)


def flux(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    x = n.linear("x_embedder", latent(n, s, c.in_channels, s.tokens or packed(s)), d)
    if n.run.cls == "LongCatImageTransformer2DModel":
        temb = vector(n / "time_embed", s.batch, d)
    else:
        temb = vector(n / "time_text_embed", s.batch, d, c.pooled_projection_dim, c.guidance_embeds)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d)
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(
            lambda p, x, y: double(p, x, y, temb, heads, fused=n.run.fused_qkv, how="torch"), x, y
        )

    def one(p, x, y):
        return tuple(
            reversed(
                single(p, cat([y, x]), temb, heads, fused=n.run.fused_qkv, how="torch").split(
                    s.text, x.shape[1], dim=1
                )
            )
        )

    for p in n.each("single_transformer_blocks", c.num_single_layers):
        x, y = p.block(one, x, y)
    del y
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, c.out_channels or c.in_channels)


def chroma(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    x = n.linear("x_embedder", latent(n, s, c.in_channels, s.tokens or packed(s)), d)
    g, hidden = n / "distilled_guidance_layer", c.approximator_hidden_dim
    count = 3 * c.num_single_layers + 12 * c.num_layers + 2
    v = g.linear("in_proj", latent(n, s, c.approximator_num_channels, count), hidden)
    for i in range(c.approximator_layers):
        v = v + embed(g / "layers" / i, (g / "norms").rms_norm(str(i), v, how="torch"), hidden)
    mods = g.linear("out_proj", v, d)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d)
    part = n.run.new(s.batch, 1, d)

    def two(p, x, y):
        h, g_ = scaled(norm(p, x), part, part), scaled(norm(p, y), part, part)
        a, b = joint(p / "attn", h, g_, d, heads, how="torch")
        x = x + part * a
        x = x + part * feed(p / "ff", scaled(norm(p, x), part, part), 4 * d)
        y = y + part * b
        return x, y + part * feed(p / "ff_context", scaled(norm(p, y), part, part), 4 * d)

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(two, x, y)
    x = cat([y, x])
    for p in n.each("single_transformer_blocks", c.num_single_layers):
        x = p.block(lambda p, x: single(p, x, None, heads, mod=[part] * 3, how="torch"), x)
    x = scaled(norm(n, x.split(y.shape[1], x.shape[1] - y.shape[1], dim=1)[1]), part, part)
    del mods
    return n.linear("proj_out", x, c.out_channels or c.in_channels)


def qwen_image(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    x = n.linear("img_in", latent(n, s, c.in_channels, s.tokens or packed(s)), d)
    y = n.linear("txt_in", n.rms_norm("txt_norm", latent(n, s, c.joint_attention_dim, s.text)), d)
    temb = timestep(n / "time_text_embed" / "timestep_embedder", s.batch, d)
    if c.use_additional_t_cond:
        (n / "time_text_embed").param("addition_t_embedding.weight", 2, d, kind="embedding")

    def two(p, x, y):
        a, b = (
            rows(p.linear("img_mod.1", temb.act(), 6 * d), 6),
            rows(p.linear("txt_mod.1", temb.act(), 6 * d), 6),
        )
        h0 = norm(p, x)
        h = scaled(h0, a[1], a[0])
        g0 = norm(p, y)
        g = scaled(g0, b[1], b[0])
        i, t = joint(p / "attn", h, g, d, heads, turn="complex", each="both")
        x, y = x + a[2] * i, y + b[2] * t
        e0 = norm(p, x)
        e = scaled(e0, a[4], a[3])
        f = feed(p / "img_mlp", e, 4 * d)
        x = x + a[5] * f
        k0 = norm(p, y)
        k = scaled(k0, b[4], b[3])
        return x, y + b[5] * feed(p / "txt_mlp", k, 4 * d)

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(two, x, y)
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, c.patch_size**2 * (c.out_channels or c.in_channels))


def sd3(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    x = (n / "pos_embed").conv(
        "proj",
        n.run.new(s.batch, c.in_channels, s.height, s.width),
        d,
        c.patch_size,
        c.patch_size,
        0,
    )
    x = x.view(s.batch, x.shape[2] * x.shape[3], d) + n.run.new(1, x.shape[2] * x.shape[3], d)
    temb = vector(n / "time_text_embed", s.batch, d, c.pooled_projection_dim)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d)
    qk = bool(c.qk_norm)

    def two(p, x, y):
        i = int(p.path.split(".")[-2])
        last, dual = i == c.num_layers - 1, i in (c.dual_attention_layers or ())
        if not dual:
            return double(p, x, y, temb, heads, last=last, qk=qk, turn=None, text_first=False)
        parts = rows((p / "norm1").linear("linear", temb.act(), 9 * d), 9)
        h = norm(p, x)
        h, h2 = scaled(h, parts[1], parts[0]), scaled(h, parts[7], parts[6])
        g, more = ada(p / "norm1_context", y, temb)
        a, b = joint(p / "attn", h, g, d, heads, qk=qk, turn=None, text_first=False)
        a = parts[2] * a
        x = x + a
        e = parts[8] * attention(p / "attn2", h2, heads, qk="head" if qk else None)
        x = x + e
        h = scaled(norm(p, x), parts[4], parts[3])
        f = parts[5] * feed(p / "ff", h, 4 * d)
        x = x + f
        y = y + more[2] * b
        return x, y + more[5] * feed(p / "ff_context", scaled(norm(p, y), more[4], more[3]), 4 * d)

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(two, x, y)
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, c.patch_size**2 * c.out_channels).copy()


def flux2(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads, ratio = (
        c.num_attention_heads * c.attention_head_dim,
        c.num_attention_heads,
        c.mlp_ratio,
    )
    inside, m = int(d * ratio), n.run
    temb = vector(
        n / "time_guidance_embed", s.batch, d, guidance=c.guidance_embeds is not False, bias=False
    )
    shared = {
        k: rows((n / k).linear("linear", temb.act(), size * d, False), size)
        for k, size in (
            ("double_stream_modulation_img", 6),
            ("double_stream_modulation_txt", 6),
            ("single_stream_modulation", 3),
        )
    }
    a, b, one = shared.values()
    x = n.linear("x_embedder", latent(n, s, c.in_channels, s.tokens or packed(s)), d, False)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d, False)

    def gated(p, x):
        h, gate = p.linear("linear_in", x, 2 * inside, False).chunk(2)
        h = h.act() * gate
        del gate
        return p.linear("linear_out", h, d, False)

    def two(p, x, y):
        h, g = scaled(norm(p, x), a[1], a[0]), scaled(norm(p, y), b[1], b[0])
        i, t = joint(p / "attn", h, g, d, heads, bias=False, how="torch")
        i = a[2] * i
        x = x + i
        h = scaled(norm(p, x), a[4], a[3])
        f = gated(p / "ff", h)
        x = x + a[5] * f
        t = b[2] * t
        y = y + t
        g = scaled(norm(p, y), b[4], b[3])
        f2 = gated(p / "ff_context", g)
        return x, y + b[5] * f2

    def parallel(p, x):
        at = p / "attn"
        e = scaled(norm(p, x), one[1], one[0])
        q, k, v, mlp = at.linear("to_qkv_mlp_proj", e, 3 * d + 2 * inside, False).split(
            d, d, d, 2 * inside
        )
        q = normed(at, "norm_q", q, heads, "torch")
        k = normed(at, "norm_k", k, heads, "torch")
        q = flat(rope(q, "real"))
        k = flat(rope(k, "real"))
        h = attend(q, k, v, heads)
        u, gate = mlp.chunk(2)
        h = at.linear("to_out", cat([h, u.act() * gate], -1), d, False)
        return x + one[2] * h

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(two, x, y)
    x = cat([y, x])
    for p in n.each("single_transformer_blocks", c.num_single_layers):
        x = p.block(parallel, x)
    x = continuous(n / "norm_out", x.split(s.text, x.shape[1] - s.text, dim=1)[1], temb, False)
    return n.linear("proj_out", x, c.patch_size**2 * (c.out_channels or c.in_channels), False)


def aura_flow(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    inside = -(-int(2 * 4 * d / 3) // 256) * 256
    (n / "pos_embed").param("pos_embed", 1, c.pos_embed_max_size, d)
    n.param("register_tokens", 1, 8, d)
    x = (n / "pos_embed").linear(
        "proj", latent(n, s, c.patch_size**2 * c.in_channels, packed(s)), d
    )
    temb = timestep(n / "time_step_proj", s.batch, d)
    y = n.linear("context_embedder", latent(n, s, c.joint_attention_dim, s.text), d, False)
    y = cat([n.run.new(s.batch, 8, d), y])

    def ff(p, x):
        return p.linear(
            "out_projection",
            p.linear("linear_1", x, inside, False).act() * p.linear("linear_2", x, inside, False),
            d,
            False,
        )

    def two(p, x, y):
        h, a = ada(p / "norm1", x, temb, bias=False, wide=True)
        g, b = ada(p / "norm1_context", y, temb, bias=False, wide=True)
        i, t = joint(p / "attn", h, g, d, heads, bias=False, turn=None, qk="wide")
        e = norm(p, x + a[2] * i, True)
        e = scaled(e, a[4], a[3])
        e = a[5] * ff(p / "ff", e)
        x = x + e
        k = scaled(norm(p, y + b[2] * t, True), b[4], b[3])
        return x, y + b[5] * ff(p / "ff_context", k)

    def one(p, x):
        h, a = ada(p / "norm1", x, temb, bias=False, wide=True)
        i = attention(p / "attn", h, heads, bias=False, out_bias=False, qk="wide")
        e = scaled(norm(p, x + a[2] * i, True), a[4], a[3])
        e = a[5] * ff(p / "ff", e)
        return x + e

    for p in n.each("joint_transformer_blocks", c.num_mmdit_layers):
        x, y = p.block(two, x, y)
    z = cat([y, x])
    for p in n.each("single_transformer_blocks", c.num_single_dit_layers):
        z = p.block(one, z)
    x = continuous(n / "norm_out", z.split(y.shape[1], x.shape[1], dim=1)[1], temb, False)
    return n.linear("proj_out", x, c.patch_size**2 * (c.out_channels or c.in_channels), False)


def refiner(n, c, s, d, heads, pooled):
    """HunyuanVideo's token refiner"""
    y = latent(n, s, pooled, s.text)
    temb = vector(n / "time_text_embed", s.batch, d, pooled)
    y = n.linear("proj_in", y, d)
    for p in (n / "token_refiner").each("refiner_blocks", c.num_refiner_layers):
        h = attention(p / "attn", p.layer_norm("norm1", y), heads)
        gates = (p / "norm_out").linear("linear", temb.act(), 2 * d).chunk(2)
        y = y + h * gates[0].view(s.batch, 1, d)
        y = y + feed(p / "ff", p.layer_norm("norm2", y), int(c.mlp_ratio * d), how="silu") * gates[
            1
        ].view(s.batch, 1, d)
    return y


def hunyuan_video(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    fifteen = n.run.cls == "HunyuanVideo15Transformer3DModel"
    k = (c.patch_size_t, c.patch_size, c.patch_size)
    x = (n / "x_embedder").conv(
        "proj", n.run.new(s.batch, c.in_channels, s.frames, s.height, s.width), d, k, k, (0, 0, 0)
    )
    x = x.view(s.batch, x.shape[2] * x.shape[3] * x.shape[4], d)
    if fifteen:
        temb = timestep(n / "time_embed" / "timestep_embedder", s.batch, d)
        if c.use_meanflow:
            timestep(n / "time_embed" / "timestep_embedder_r", s.batch, d)
        y = refiner(n / "context_embedder", c, s, d, heads, c.text_embed_dim)
        p = n / "context_embedder_2"
        z = p.layer_norm("norm", latent(n, s, c.text_embed_2_dim, 256))
        z = p.linear("linear_3", p.linear("linear_2", p.linear("linear_1", z, d).act(), d).act(), d)
        p = n / "image_embedder"
        i = p.layer_norm("norm_in", latent(n, s, c.image_embed_dim, 729))
        i = p.layer_norm(
            "norm_out", p.linear("linear_2", p.linear("linear_1", i, c.image_embed_dim).act(), d)
        )
        n.param("cond_type_embed.weight", 3, d, kind="embedding")
        y = cat([i, z, y])
        del i, z
    else:
        temb = vector(n / "time_text_embed", s.batch, d, c.pooled_projection_dim, c.guidance_embeds)
        y = refiner(n / "context_embedder", c, s, d, heads, c.text_embed_dim)
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(
            lambda p, x, y: double(
                p, x, y, temb, heads, ratio=c.mlp_ratio, each=True, text_first=False
            ),
            x,
            y,
        )

    def one(p, x, y):
        x = single(p, cat([x, y]), temb, heads, ratio=c.mlp_ratio)
        return tuple(x.split(x.shape[1] - y.shape[1], y.shape[1], dim=1))

    for p in n.each("single_transformer_blocks", c.num_single_layers or 0):
        x, y = p.block(one, x, y)
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, k[0] * k[1] * k[2] * c.out_channels).copy()


PROGRAMS = {
    "FluxTransformer2DModel": flux,
    "LongCatImageTransformer2DModel": flux,
    "ChromaTransformer2DModel": chroma,
    "QwenImageTransformer2DModel": qwen_image,
    "SD3Transformer2DModel": sd3,
    "Flux2Transformer2DModel": flux2,
    "AuraFlowTransformer2DModel": aura_flow,
    "HunyuanVideoTransformer3DModel": hunyuan_video,
    "HunyuanVideo15Transformer3DModel": hunyuan_video,
}

"""UNet2DConditionModel and ControlNetModel: ResNet blocks, transformers over pixels, skips."""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import embed, feed
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend, cat


def per_level(value, count):
    return list(value) if isinstance(value, (list, tuple)) else [value] * count


def resnet(p, x, out, temb=None, shortcut=None, add=True):
    """ResnetBlock2D; `shortcut` None: where the width changes."""
    h = p.group_norm("norm1", x)
    h = h.act()
    h = p.conv("conv1", h, out)
    if temb:
        t = p.linear("time_emb_proj", temb.act(), out)
        h = h + t.view(*t.shape, 1, 1)
        del t
    h = p.group_norm("norm2", h)
    h = h.act()
    h = p.conv("conv2", h, out)
    if x.shape[1] != out if shortcut is None else shortcut:
        x = p.conv("conv_shortcut", x, out, 1)
    return (x + h) * 1.0


def pixels(p, x, heads, layers, text, linear, only_cross=False, dual=True, y=None):
    """Transformer2DModel: self attention, attention to the text, GEGLU."""
    b, d, h, w = x.shape
    residual = x
    z = p.group_norm("norm", x)
    if linear:
        z = p.linear("proj_in", z.view(b, h * w, d).copy(), d)
    else:
        z = p.conv("proj_in", z, d, 1).view(b, h * w, d).copy()
    for i in range(layers):
        z = (p / "transformer_blocks" / i).block(lambda q, z: layer(q, z, y, heads, only_cross), z)
    if linear:
        z = p.linear("proj_out", z, d).copy(b, d, h, w)
    else:
        z = p.conv("proj_out", z.copy(b, d, h, w), d, 1)
    return z + residual


def layer(p, x, y, heads, only_cross=False):
    d = x.shape[-1]

    def at(q, h, seen):
        q_ = q.linear("to_q", h, d, False)
        k, v = q.linear("to_k", seen, d, False), q.linear("to_v", seen, d, False)
        o = attend(q_, k, v, heads)
        del q_, k, v
        return (q / "to_out").linear("0", o, d)

    h = p.layer_norm("norm1", x)
    a = at(p / "attn1", h, y if only_cross else h)
    x = a + x
    if y:
        h = p.layer_norm("norm2", x)
        a = at(p / "attn2", h, y)
        x = a + x
    h = p.layer_norm("norm3", x)
    return feed(p / "ff", h, 4 * d, how="geglu") + x


def front(n, c, s, widths):
    """conv_in, time and what is added to it; gives x, temb, text."""
    m, d = n.run, widths[0]
    t = 4 * d
    x = m.new(s.batch, c.in_channels, s.height, s.width)
    e = m.new(s.batch, d)
    if c.time_cond_proj_dim:
        (n / "time_embedding").linear("cond_proj", m.new(s.batch, c.time_cond_proj_dim), d, False)
    temb = embed(n / "time_embedding", e, t)
    x = n.conv("conv_in", x, d, c.conv_in_kernel or 3)
    if c.class_embed_type == "projection":
        temb = temb + embed(
            n / "class_embedding", m.new(s.batch, c.projection_class_embeddings_input_dim), t
        )
    elif c.class_embed_type == "simple_projection":
        temb = cat(
            [
                temb,
                n.linear(
                    "class_embedding", m.new(s.batch, c.projection_class_embeddings_input_dim), t
                ),
            ],
            -1,
        )
    elif c.num_class_embeds:
        n.param("class_embedding.weight", c.num_class_embeds, t, kind="embedding")
    if c.addition_embed_type == "text_time":
        temb = temb + embed(
            n / "add_embedding", m.new(s.batch, c.projection_class_embeddings_input_dim), t
        )
    y = m.new(s.batch, s.text, per_level(c.cross_attention_dim, 1)[0])
    if c.encoder_hid_dim_type == "text_proj" or (c.encoder_hid_dim and not c.encoder_hid_dim_type):
        y = n.linear("encoder_hid_proj", m.new(s.batch, s.text, c.encoder_hid_dim), y.shape[-1])
    return x, temb, y


def down(p, x, skips, temb, width, layers, attn, y):
    """The caller holds the block's input while the block runs."""
    for j in range(layers):
        x = (p / "resnets" / j).block(lambda q, x: resnet(q, x, width, temb), x)
        if attn:
            x = pixels(p / "attentions" / j, x, *attn, y=y)
        skips.append(x)
    return x


def up(p, x, skips, temb, width, layers, attn, y, more):
    """The skips of one block stay until it is done."""
    for j in range(layers):
        x = cat([x, skips[layers - 1 - j]])
        x = (p / "resnets" / j).block(lambda q, x: resnet(q, x, width, temb), x)
        if attn:
            x = pixels(p / "attentions" / j, x, *attn, y=y)
    return upsampled(p / "upsamplers" / 0, x) if more else x


def body(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    """The way down and the middle; gives x, skips and what the way up needs."""
    widths, m = list(c.block_out_channels), n.run
    count = len(widths)
    layers = per_level(c.layers_per_block, count)
    depths = per_level(c.transformer_layers_per_block or 1, count)
    texts = per_level(c.cross_attention_dim, count)
    only = per_level(c.only_cross_attention or False, count)
    heads = per_level(c.num_attention_heads or c.attention_head_dim or 8, count)
    x, temb, y = front(n, c, s, widths)
    skips = [x]

    def seen(i, y=y):
        """A text as wide as the level's; none where the model has no text: it attends to itself twice."""
        return m.new(s.batch, s.text, texts[i]) if isinstance(c.cross_attention_dim, list) else y

    for i, (width, kind) in enumerate(zip(widths, c.down_block_types)):
        p = n / "down_blocks" / i
        spec = (
            width,
            layers[i],
            kind.startswith("CrossAttn")
            and (heads[i], depths[i], texts[i], c.use_linear_projection, only[i]),
            seen(i),
        )
        x = down(p, x, skips, temb, *spec)
        if i < count - 1:
            x = (p / "downsamplers" / 0).conv("conv", x, width, 3, 2, 1)
            skips.append(x)
    p = n / "mid_block"
    x = resnet(p / "resnets" / 0, x, widths[-1], temb)
    x = pixels(
        p / "attentions" / 0,
        x,
        heads[-1],
        depths[-1],
        texts[-1],
        c.use_linear_projection,
        y=seen(-1),
    )
    x = resnet(p / "resnets" / 1, x, widths[-1], temb)
    return x, skips, temb, seen, widths, layers, depths, texts, only, heads


def unet(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    x, skips, temb, seen, widths, layers, depths, texts, only, heads = body(n, c, s)
    count = len(widths)
    for i, kind in enumerate(c.up_block_types):
        k, p = count - 1 - i, n / "up_blocks" / i
        spec = (
            widths[k],
            layers[k] + 1,
            kind.startswith("CrossAttn")
            and (heads[k], depths[k], texts[k], c.use_linear_projection, only[k]),
            seen(k),
        )
        beside = [skips.pop() for _ in range(layers[k] + 1)][::-1]
        x = up(p, x, beside, temb, *spec, i < count - 1)
        del beside
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    return n.conv("conv_out", x, c.out_channels, c.conv_out_kernel or 3)


def upsampled(p, x, out=None, **kw):
    """diffusers < 0.31 interpolated bfloat16 in float32."""
    h = x.float().upsample().to(x.dtype) if x.run.float_upsampling else x.upsample()
    return p.conv("conv", h, out or x.shape[1], **kw)


def controlnet(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    p = n / "controlnet_cond_embedding"
    m, widths = n.run, c.conditioning_embedding_out_channels or (16, 32, 96, 256)
    h = m.new(s.batch, c.conditioning_channels or 3, 8 * s.height, 8 * s.width)
    h = p.conv("conv_in", h, widths[0]).act()
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        h = (p / "blocks").conv(str(2 * i), h, a).act()
        h = (p / "blocks").conv(str(2 * i + 1), h, b, 3, 2, 1).act()
    p.conv("conv_out", h, c.block_out_channels[0])
    x, skips, *_ = body(n, c, s)
    outs = [n.conv(f"controlnet_down_blocks.{i}", t, t.shape[1], 1) for i, t in enumerate(skips)]
    return [*outs, n.conv("controlnet_mid_block", x, x.shape[1], 1)][-1]


PROGRAMS = {"UNet2DConditionModel": unet, "ControlNetModel": controlnet}

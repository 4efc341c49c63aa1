"""UNet2DConditionModel and ControlNetModel: ResNet blocks, transformers over pixels, skips.

Source: diffusers 0.42 models/unets/{unet_2d_condition, unet_2d_blocks}.py, models/resnet.py,
models/transformers/transformer_2d.py, models/attention.py, models/controlnets/controlnet.py.
"""

from itertools import pairwise
from typing import Any

from weighbridge.base.records import frozen_record, replace
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import embed, feed
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat

CONTROL_WIDTHS = 16, 32, 96, 256  # of a ControlNet's picture
IP_TOKENS = 4  # of ImageProjection, as IP-Adapter's own files have them
TO_PIXELS = 8  # of a latent's side


@frozen_record
class Level:
    """One resolution: channels, ResNet blocks, and transformers, if any. `text`: width of the text;
    `linear`: kind of their projections; `only`: they have no self-attention."""

    width: int
    layers: int
    heads: int
    depth: int
    text: int
    linear: bool
    only: bool


@frozen_record
class Conditions:
    """Conditions of all blocks: the time embedding, and the text in each level's width."""

    temb: Value
    texts: tuple[Value, ...]


def each_level(value: Any, count: int) -> list[Any]:
    """Return a setting per level, from a list or from one for all."""
    return list(value) if isinstance(value, (list, tuple)) else [value] * count


def levels_of(c: ComponentConfig) -> list[Level]:
    """Return the levels, the largest pictures first."""
    widths = list(c.block_out_channels)
    count = len(widths)
    layers, depths, texts, onlys, heads = (
        each_level(value, count)
        for value in (
            c.layers_per_block,
            c.transformer_layers_per_block or 1,
            c.cross_attention_dim,
            c.only_cross_attention or False,
            c.num_attention_heads or c.attention_head_dim or 8,
        )
    )
    return [
        Level(
            width=widths[i],
            layers=layers[i],
            heads=heads[i],
            depth=depths[i],
            text=texts[i],
            linear=bool(c.use_linear_projection),
            only=onlys[i],
        )
        for i in range(count)
    ]


# ---- blocks


def resnet(
    p: NetPlace, x: Value, out: int, temb: Value | None = None, *, last: bool = False
) -> Value:
    """ResnetBlock2D, with a shortcut if the width changes. `last`: the input's channels are last in
    memory, and a norm copies it."""
    h = p.group_norm("norm1", x.copy() if last else x)
    h = h.act()
    h = p.conv("conv1", h, out)
    if temb is not None:
        t = p.linear("time_emb_proj", temb.act(), out)
        h = h + t.view(*t.shape, 1, 1)
        del t
    h = p.group_norm("norm2", h)
    h = h.act()
    h = p.conv("conv2", h, out)
    if x.shape[1] != out:
        x = p.conv("conv_shortcut", x, out, 1, last=last)
    return (x + h) * 1.0


def attention(n: NetPlace, x: Value, seen: Value, heads: int) -> Value:
    """AttnProcessor2_0"""
    d = x.shape[-1]
    q = n.linear("to_q", x, d, False)
    k = n.linear("to_k", seen, d, False)
    v = n.linear("to_v", seen, d, False)
    h = attend(q, k, v, heads)
    if n.run.seen is not None and n.path.endswith("attn2."):  # IPAdapterAttnProcessor2_0
        h = h + shown(n / "processor", q, n.run.seen, heads) * 1.0
    del q, k, v
    return (n / "to_out").linear("0", h, d)


def shown(n: NetPlace, q: Value, picture: Value, heads: int) -> Value:
    """Return attention to a picture, by an IP-Adapter's keys and values."""
    d = q.shape[-1]
    k = (n / "to_k_ip").linear("0", picture, d, False)
    v = (n / "to_v_ip").linear("0", picture, d, False)
    return attend(q, k, v, heads)


def layer(p: NetPlace, x: Value, y: Value, level: Level) -> Value:
    """BasicTransformerBlock"""
    h = p.layer_norm("norm1", x)
    a = attention(p / "attn1", h, y if level.only else h, level.heads)
    x = a + x
    h = p.layer_norm("norm2", x)
    a = attention(p / "attn2", h, y, level.heads)
    x = a + x
    h = p.layer_norm("norm3", x)
    return feed(p / "ff", h, 4 * x.shape[-1], how="geglu") + x


def pixels(p: NetPlace, x: Value, y: Value, level: Level) -> Value:
    """Transformer2DModel"""
    b, d, h, w = x.shape
    residual = x
    z = p.group_norm("norm", x)
    if level.linear:
        z = p.linear("proj_in", z.view(b, h * w, d).copy(), d)
    else:
        z = p.conv("proj_in", z, d, 1).view(b, h * w, d).copy()
    for block in p.each("transformer_blocks", level.depth):
        z = block.block(lambda q, z: layer(q, z, y, level), z)
    if level.linear:
        z = p.linear("proj_out", z, d).copy(b, d, h, w)
    else:
        z = p.conv("proj_out", z.copy(b, d, h, w), d, 1)
    return z + residual


def upsampled(p: NetPlace, x: Value, out: int | None = None, **forms: Any) -> Value:
    """Return Upsample2D of `x`; diffusers before 0.31 interpolated bfloat16 in float32."""
    h = x.float().upsample().to(x.dtype) if x.run.float_upsampling else x.upsample()
    return p.conv("conv", h, out or x.shape[1], **forms)


# ---- down, middle and up


def front(n: NetPlace, c: ComponentConfig, s: Sizes) -> tuple[Value, Value, Value]:
    """Return (conv_in's output, the time embedding with its additions, the text)."""
    run, d = n.run, c.block_out_channels[0]
    t, given = 4 * d, c.projection_class_embeddings_input_dim
    x = run.constant(s.batch, c.in_channels, s.height, s.width)
    times = run.new(s.batch, d)
    if c.time_cond_proj_dim:
        guided = run.new(s.batch, c.time_cond_proj_dim)
        times = times + (n / "time_embedding").linear("cond_proj", guided, d, False)
    temb = embed(n / "time_embedding", times, t)
    if c.class_embed_type == "projection":
        temb = temb + embed(n / "class_embedding", run.new(s.batch, given), t)
    elif c.class_embed_type == "simple_projection":
        temb = cat([temb, n.linear("class_embedding", run.new(s.batch, given), t)], -1)
    elif c.num_class_embeds:
        n.param("class_embedding.weight", c.num_class_embeds, t, kind="embedding")
    if c.addition_embed_type == "text_time":
        temb = temb + embed(n / "add_embedding", run.new(s.batch, given), t)
    y = run.constant(s.batch, s.text, each_level(c.cross_attention_dim, 1)[0])
    projected = c.encoder_hid_dim_type == "text_proj"
    if projected or (c.encoder_hid_dim and not c.encoder_hid_dim_type):
        seen = run.constant(s.batch, s.text, c.encoder_hid_dim)
        y = n.linear("encoder_hid_proj", seen, y.shape[-1])
    if c.image_embed_dim:  # of an IP-Adapter (companions.py); no config of diffusers has it
        run.seen = projected_picture(n / "encoder_hid_proj", c, s.batch)
    return n.conv("conv_in", x, d, c.conv_in_kernel or 3), temb, y


def projected_picture(n: NetPlace, c: ComponentConfig, batch: int) -> Value:
    """MultiIPAdapterImageProjection of one adapter: tokens from the image encoder's output."""
    p, width = n / "image_projection_layers" / 0, each_level(c.cross_attention_dim, 1)[0]
    x = n.run.constant(batch, c.image_embed_dim)
    x = p.linear("image_embeds", x, IP_TOKENS * width).view(batch, IP_TOKENS, width)
    return p.layer_norm("norm", x)


def down(
    p: NetPlace, x: Value, skips: list[Value], level: Level, k: Conditions, y: Value | None
) -> Value:
    """DownBlock2D, or CrossAttnDownBlock2D with a text; the output of each layer is a skip."""
    for j in range(level.layers):
        x = (p / "resnets" / j).block(lambda q, x: resnet(q, x, level.width, k.temb), x)
        if y is not None:
            x = pixels(p / "attentions" / j, x, y, level)
        skips.append(x)
    return x


def middle(p: NetPlace, x: Value, level: Level, k: Conditions) -> Value:
    """UNetMidBlock2DCrossAttn, whose first ResNet block is never checkpointed."""
    x = resnet(p / "resnets" / 0, x, level.width, k.temb)
    x = pixels(p / "attentions" / 0, x, k.texts[-1], level)
    last: Value = (p / "resnets" / 1).block(lambda q, x: resnet(q, x, level.width, k.temb), x)
    return last


def up(
    p: NetPlace, x: Value, skips: list[Value], level: Level, k: Conditions, y: Value | None
) -> Value:
    """Return `x` after UpBlock2D or CrossAttnUpBlock2D; its skips live until it returns."""
    for j in range(level.layers + 1):
        x = cat([x, skips[level.layers - j]])
        x = (p / "resnets" / j).block(lambda q, x: resnet(q, x, level.width, k.temb), x)
        if y is not None:
            x = pixels(p / "attentions" / j, x, y, level)
    return x


def crossed(kind: str, text: Value) -> Value | None:
    """Return the text for a block that attends to it, else None."""
    return text if kind.startswith("CrossAttn") else None


def body(n: NetPlace, c: ComponentConfig, s: Sizes) -> tuple[Value, list[Value], Conditions]:
    """Return the output of the down and middle blocks, the skips, and the conditions."""
    levels = levels_of(c)
    x, temb, y = front(n, c, s)
    several = isinstance(c.cross_attention_dim, list)
    texts = [n.run.constant(s.batch, s.text, level.text) if several else y for level in levels]
    k = Conditions(temb=temb, texts=tuple(texts))
    skips = [x]
    for i, (level, kind) in enumerate(zip(levels, c.down_block_types, strict=True)):
        p = n / "down_blocks" / i
        x = down(p, x, skips, level, k, crossed(kind, texts[i]))
        if i < len(levels) - 1:
            x = (p / "downsamplers" / 0).conv("conv", x, level.width, 3, 2, 1)
            skips.append(x)
    residuals = n.run.residuals
    if residuals:  # of a ControlNet
        skips = [skip + one for skip, one in zip(skips, residuals[0], strict=True)]
    last = replace(levels[-1], only=False)
    x = middle(n / "mid_block", x, last, k)
    if residuals:
        x = x + residuals[1][0]
    return x, skips, k


def unet(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    x, skips, k = body(n, c, s)
    sums = tuple(skips) if n.run.residuals else ()  # a local variable of diffusers' forward
    levels = levels_of(c)[::-1]
    for i, (level, kind) in enumerate(zip(levels, c.up_block_types, strict=True)):
        p, number = n / "up_blocks" / i, level.layers + 1
        joined = skips[-number:]
        del skips[-number:]
        last = i == len(levels) - 1
        x = up(p, x, joined, level, k, crossed(kind, k.texts[len(levels) - 1 - i]))
        if not last:
            x = upsampled(p / "upsamplers" / 0, x)
        del joined
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    x = n.conv("conv_out", x, c.out_channels, c.conv_out_kernel or 3)
    del sums
    return x


def controlnet(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """ControlNetModel: a picture of pixels, the down blocks, and a projection of each skip."""
    p, run = n / "controlnet_cond_embedding", n.run
    widths = c.conditioning_embedding_out_channels or CONTROL_WIDTHS
    sides = TO_PIXELS * s.height, TO_PIXELS * s.width
    h = run.constant(s.batch, c.conditioning_channels or 3, *sides)
    h = p.conv("conv_in", h, widths[0])
    h = h.act()
    for i, (width, wider) in enumerate(pairwise(widths)):
        h = (p / "blocks").conv(str(2 * i), h, width)
        h = h.act()
        h = (p / "blocks").conv(str(2 * i + 1), h, wider, 3, 2, 1)
        h = h.act()
    h = p.conv("conv_out", h, c.block_out_channels[0])
    x, skips, _ = body(n, c, s)
    outs = [n.conv(f"controlnet_down_blocks.{i}", t, t.shape[1], 1) for i, t in enumerate(skips)]
    x = n.conv("controlnet_mid_block", x, x.shape[1], 1)
    outs = [out * 1.0 for out in outs]
    x = x * 1.0
    run.residuals = [outs, [x]]
    return x


PROGRAMS = {"UNet2DConditionModel": unet, "ControlNetModel": controlnet}

"""AnimateDiff: the U-Net of Stable Diffusion, with attention over frames after each block.

Source: diffusers 0.42 models/unets/unet_motion_model.py, models/attention.py.
"""

from typing import Any

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import embed
from weighbridge.pictures.nets.svd import Clip, basic
from weighbridge.pictures.nets.unet import resnet as spatial
from weighbridge.pictures.nets.unet import upsampled
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, cat


def each(value: Any, level: int) -> int:
    """Return a level's number, from a list or from one number for all levels."""
    return int(value[level] if isinstance(value, list | tuple) else value)


def of_pixels(p: NetPlace, c: ComponentConfig, x: Value, level: int, k: Clip) -> Value:
    """Transformer2DModel"""
    assert k.text is not None
    batch, d, height, width = x.shape
    heads, text, linear = each(c.num_attention_heads, level), k.text, c.use_linear_projection
    tokens = batch, height * width, d
    h = p.group_norm("norm", x)
    if linear:
        h = p.linear("proj_in", h.copy(*tokens), d)
    else:
        h = p.conv("proj_in", h, d, 1)
        h = h.copy(*tokens)
    for i in range(each(c.transformer_layers_per_block, level)):
        h = (p / "transformer_blocks" / i).block(lambda q, h: basic(q, h, heads, text), h)
    if linear:
        h = p.linear("proj_out", h, d)
        h = h.copy(*x.shape)
    else:
        h = h.copy(*x.shape)
        h = p.conv("proj_out", h, d, 1)
    return h + x


def of_frames(p: NetPlace, c: ComponentConfig, x: Value, level: int, k: Clip) -> Value:
    """Return `x` after AnimateDiffTransformer3D, in which frames are the tokens of each pixel."""
    batch, d, height, width = x.shape
    heads = each(c.motion_num_attention_heads, level)
    video = x.view(batch // k.frames, d, k.frames, height, width).copy()
    h = p.group_norm("norm", video)
    del video
    h = h.copy(batch // k.frames * height * width, k.frames, d)
    h = p.linear("proj_in", h, d)
    for i in range(each(c.temporal_transformer_layers_per_block, level)):
        h = basic(p / "transformer_blocks" / i, h, heads, None, positions=True)
    h = p.linear("proj_out", h, d)
    h = h.copy(*x.shape)
    return h + x


def resnet(p: NetPlace, x: Value, out: int, k: Clip) -> Value:
    block: Value = p.block(lambda q, x: spatial(q, x, out, k.temb), x)
    return block


def down_block(p: NetPlace, c: ComponentConfig, x: Value, level: int, k: Clip) -> list[Value]:
    """CrossAttnDownBlockMotion and DownBlockMotion"""
    width, states = c.block_out_channels[level], list[Value]()
    for i in range(each(c.layers_per_block, level)):
        x = resnet(p / "resnets" / i, x, width, k)
        if c.down_block_types[level].startswith("CrossAttn"):
            x = of_pixels(p / "attentions" / i, c, x, level, k)
        x = of_frames(p / "motion_modules" / i, c, x, level, k)
        states.append(x)
    if level < len(c.block_out_channels) - 1:
        x = (p / "downsamplers" / 0).conv("conv", x, width, 3, 2, 1)
        states.append(x)
    return states


def up_block(
    p: NetPlace, c: ComponentConfig, x: Value, skips: list[Value], level: int, k: Clip
) -> Value:
    """Return `x` after CrossAttnUpBlockMotion or UpBlockMotion; level 0 runs last, but first among
    down blocks."""
    kind = c.up_block_types[len(c.block_out_channels) - 1 - level]
    for i, skip in enumerate(skips[::-1]):
        x = cat([x, skip])
        x = resnet(p / "resnets" / i, x, c.block_out_channels[level], k)
        if kind.startswith("CrossAttn"):
            x = of_pixels(p / "attentions" / i, c, x, level, k)
        x = of_frames(p / "motion_modules" / i, c, x, level, k)
    return upsampled(p / "upsamplers" / 0, x) if level else x


def middle(p: NetPlace, c: ComponentConfig, x: Value, k: Clip) -> Value:
    """UNetMidBlockCrossAttnMotion, or Stable Diffusion's own"""
    last = len(c.block_out_channels) - 1
    x = spatial(p / "resnets" / 0, x, x.shape[1], k.temb)
    x = of_pixels(p / "attentions" / 0, c, x, last, k)
    if c.use_motion_mid_block:
        x = (p / "motion_modules" / 0).block(lambda q, x: of_frames(q, c, x, last, k), x)
    return resnet(p / "resnets" / 1, x, x.shape[1], k)


def unet(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """UNetMotionModel"""
    run, widths, batch = n.run, c.block_out_channels, s.batch * s.frames
    temb = embed(n / "time_embedding", run.new(s.batch, widths[0]), 4 * widths[0])
    if c.addition_embed_type == "text_time":
        added = run.new(s.batch, c.projection_class_embeddings_input_dim)
        temb = temb + embed(n / "add_embedding", added, 4 * widths[0])
    k = Clip(
        frames=s.frames,
        temb=temb.resized(batch, 4 * widths[0]),
        text=run.constant(batch, s.text, each(c.cross_attention_dim, 0)),
    )
    x = run.new(batch, c.in_channels, s.height, s.width)
    x = n.conv("conv_in", x, widths[0])
    skips = [x]
    for level in range(len(widths)):
        skips += down_block(n / "down_blocks" / level, c, x, level, k)
        x = skips[-1]
    x = middle(n / "mid_block", c, x, k)
    for level in reversed(range(len(widths))):
        count = each(c.layers_per_block, level) + 1
        joined, skips = skips[-count:], skips[:-count]
        p = n / "up_blocks" / (len(widths) - 1 - level)
        x = up_block(p, c, x, joined, level, k)
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    return n.conv("conv_out", x, c.out_channels)


PROGRAMS = {"UNetMotionModel": unet}

"""Stable Diffusion's networks as diffusers writes them: the U-Net with text, and the autoencoder.

    U-Net   down blocks, a middle, up blocks that read what the down blocks left; in each, layers of
            a ResNet block and, where its kind says CrossAttn, a transformer over the pixels
    VAE     an encoder and a decoder of ResNet blocks, each with one attention in the middle

    ResNet block  GroupNorm, 3 x 3, (time to C), GroupNorm, 3 x 3, a 1 x 1 where the width changes
    transformer   of T layers: attention to itself, to the text, GEGLU of 4 C

Source: diffusers 0.42 models/unets/{unet_2d_condition,unet_2d_blocks}.py,
models/autoencoders/{autoencoder_kl,vae}.py, models/{attention,resnet}.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.models.arch.blueprint import Blueprint, Param, conv, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.vision import layernorm, sizes

Net = Iterator[Param]
BLOCKS = ("UNetMidBlock2DCrossAttn",)
DOWN = frozenset(("DownBlock2D", "CrossAttnDownBlock2D"))
UP = frozenset(("UpBlock2D", "CrossAttnUpBlock2D"))
ODD = (  # keys of other U-Nets, which bring tensors of their own
    *("class_embed_type", "num_class_embeds", "encoder_hid_dim", "time_cond_proj_dim"),
    *("cross_attention_norm", "only_cross_attention", "dual_cross_attention"),
)


def resnet(prefix: str, outputs: int, inputs: int, time: int = 0) -> Net:
    yield from layernorm(f"{prefix}norm1", inputs)
    yield from conv(f"{prefix}conv1", (outputs, inputs, 3, 3))
    if time:
        yield from linear(f"{prefix}time_emb_proj", outputs, time, bias=True)
    yield from layernorm(f"{prefix}norm2", outputs)
    yield from conv(f"{prefix}conv2", (outputs, outputs, 3, 3))
    if inputs != outputs:
        yield from conv(f"{prefix}conv_shortcut", (outputs, inputs, 1, 1))


def attention(prefix: str, width: int, seen: int, *, bias: bool = False) -> Net:
    yield from linear(f"{prefix}to_q", width, width, bias=bias)
    yield from linear(f"{prefix}to_k", width, seen, bias=bias)
    yield from linear(f"{prefix}to_v", width, seen, bias=bias)
    yield from linear(f"{prefix}to_out.0", width, width, bias=True)


def layer(prefix: str, width: int, text: int) -> Net:
    yield from layernorm(f"{prefix}norm1", width)
    yield from attention(f"{prefix}attn1.", width, width)
    yield from layernorm(f"{prefix}norm2", width)
    yield from attention(f"{prefix}attn2.", width, text)
    yield from layernorm(f"{prefix}norm3", width)
    yield from linear(f"{prefix}ff.net.0.proj", 8 * width, width, bias=True)
    yield from linear(f"{prefix}ff.net.2", width, 4 * width, bias=True)


def transformer(c: Config, prefix: str, width: int, layers: int) -> Net:
    yield from layernorm(f"{prefix}norm", width)
    for name in ("proj_in", "proj_out"):
        if c.flag("use_linear_projection"):
            yield from linear(f"{prefix}{name}", width, width, bias=True)
        else:
            yield from conv(f"{prefix}{name}", (width, width, 1, 1))
    for i in range(layers):
        yield from layer(f"{prefix}transformer_blocks.{i}.", width, c.num("cross_attention_dim"))


def depths(c: Config, count: int) -> tuple[int, ...]:
    """Layers of the transformers of each block."""
    return c.per_layer("transformer_layers_per_block", count=count, default=1)


def down(c: Config, widths: tuple[int, ...]) -> Net:
    kinds, layers = [str(kind) for kind in c.many("down_block_types")], c.num("layers_per_block")
    inputs = widths[0]
    for i, (width, depth) in enumerate(zip(widths, depths(c, len(widths)), strict=True)):
        prefix = f"down_blocks.{i}."
        for j in range(layers):
            yield from resnet(f"{prefix}resnets.{j}.", width, inputs, 4 * widths[0])
            inputs = width
            if kinds[i].startswith("CrossAttn"):
                yield from transformer(c, f"{prefix}attentions.{j}.", width, depth)
        if i < len(widths) - 1:
            yield from conv(f"{prefix}downsamplers.0.conv", (width, width, 3, 3))


def left(c: Config, widths: tuple[int, ...]) -> list[int]:
    """Widths of what the down blocks leave for the up blocks, which take the last first."""
    widths_left = [widths[0]]
    for i, width in enumerate(widths):
        widths_left += [width] * (c.num("layers_per_block") + (i < len(widths) - 1))
    return widths_left


def up(c: Config, widths: tuple[int, ...]) -> Net:
    kinds, layers = [str(kind) for kind in c.many("up_block_types")], c.num("layers_per_block") + 1
    beside, inputs = left(c, widths), widths[-1]
    turned = zip(reversed(widths), reversed(depths(c, len(widths))), strict=True)
    for i, (width, depth) in enumerate(turned):
        prefix = f"up_blocks.{i}."
        for j in range(layers):
            yield from resnet(f"{prefix}resnets.{j}.", width, inputs + beside.pop(), 4 * widths[0])
            inputs = width
            if kinds[i].startswith("CrossAttn"):
                yield from transformer(c, f"{prefix}attentions.{j}.", width, depth)
        if i < len(widths) - 1:
            yield from conv(f"{prefix}upsamplers.0.conv", (width, width, 3, 3))


def embedded(prefix: str, inputs: int, time: int) -> Net:
    yield from linear(f"{prefix}linear_1", time, inputs, bias=True)
    yield from linear(f"{prefix}linear_2", time, time, bias=True)


def unet(c: Config) -> Net:
    widths = sizes(c, "block_out_channels")
    first, last = widths[0], widths[-1]
    yield from conv("conv_in", (first, c.num("in_channels"), 3, 3))
    yield from embedded("time_embedding.", first, 4 * first)
    if c.word("addition_embed_type", default="") == "text_time":
        inputs = c.num("projection_class_embeddings_input_dim")
        yield from embedded("add_embedding.", inputs, 4 * first)
    yield from down(c, widths)
    yield from up(c, widths)
    yield from resnet("mid_block.resnets.0.", last, last, 4 * first)
    yield from transformer(c, "mid_block.attentions.0.", last, depths(c, len(widths))[-1])
    yield from resnet("mid_block.resnets.1.", last, last, 4 * first)
    yield from layernorm("conv_norm_out", first)
    yield from conv("conv_out", (c.num("out_channels"), first, 3, 3))


def middle(prefix: str, width: int) -> Net:
    yield from resnet(f"{prefix}resnets.0.", width, width)
    yield from layernorm(f"{prefix}attentions.0.group_norm", width)
    yield from attention(f"{prefix}attentions.0.", width, width, bias=True)
    yield from resnet(f"{prefix}resnets.1.", width, width)


def side(c: Config, prefix: str, widths: tuple[int, ...], layers: int) -> Net:
    """The blocks of an encoder (`down`) or of a decoder (`up`)."""
    inputs = widths[0]
    for i, width in enumerate(widths):
        for j in range(layers):
            yield from resnet(f"{prefix}_blocks.{i}.resnets.{j}.", width, inputs)
            inputs = width
        if i < len(widths) - 1:
            name = "downsamplers" if prefix.endswith("down") else "upsamplers"
            yield from conv(f"{prefix}_blocks.{i}.{name}.0.conv", (width, width, 3, 3))


def autoencoder(c: Config) -> Net:
    widths, layers = sizes(c, "block_out_channels"), c.num("layers_per_block")
    first, last, hidden = widths[0], widths[-1], c.num("latent_channels")
    yield from conv("encoder.conv_in", (first, c.num("in_channels"), 3, 3))
    yield from side(c, "encoder.down", widths, layers)
    yield from middle("encoder.mid_block.", last)
    yield from layernorm("encoder.conv_norm_out", last)
    yield from conv("encoder.conv_out", (2 * hidden, last, 3, 3))
    yield from conv("decoder.conv_in", (last, hidden, 3, 3))
    yield from middle("decoder.mid_block.", last)
    yield from side(c, "decoder.up", widths[::-1], layers + 1)
    yield from layernorm("decoder.conv_norm_out", first)
    yield from conv("decoder.conv_out", (c.num("out_channels"), first, 3, 3))
    if c.flag("use_quant_conv", default=True):
        yield from conv("quant_conv", (2 * hidden, 2 * hidden, 1, 1))
    if c.flag("use_post_quant_conv", default=True):
        yield from conv("post_quant_conv", (hidden, hidden, 1, 1))


def plain_unet(raw: Mapping[str, Any]) -> bool:
    """True if a UNet is built of the blocks that are written here."""
    kinds = {*raw.get("down_block_types", ()), *raw.get("up_block_types", ())}
    middle_kind = raw.get("mid_block_type", BLOCKS[0])
    added = raw.get("addition_embed_type") in (None, "text_time")
    ours = kinds <= DOWN | UP and middle_kind in BLOCKS and added
    return ours and not any(raw.get(key) for key in ODD)


def plain_vae(raw: Mapping[str, Any]) -> bool:
    kinds = {*raw.get("down_block_types", ()), *raw.get("up_block_types", ())}
    return kinds <= {"DownEncoderBlock2D", "UpDecoderBlock2D"}


SPLIT = ("down_blocks.*.resnets.*", "mid_block.resnets.*", "up_blocks.*")
WHOLE = (
    "down_blocks.*.attentions.*.transformer_blocks.*",
    "mid_block.attentions.*.transformer_blocks.*",
)
RULES = {  # class -> what it must be, its rule, modules that are never split
    "UNet2DConditionModel": (plain_unet, unet, (*SPLIT, *WHOLE)),
    "AutoencoderKL": (
        plain_vae,
        autoencoder,
        (
            "encoder.down_blocks.*.resnets.*",
            "decoder.up_blocks.*.resnets.*",
            *(f"{half}.mid_block.resnets.*" for half in ("encoder", "decoder")),
        ),
    ),
}


def of_config(raw: Mapping[str, Any]) -> Blueprint | None:
    """The tensors of the class that a config of diffusers names; None where no rule has it."""
    name = str(raw.get("_class_name"))
    if name not in RULES:
        return None
    fits, rule, blocks = RULES[name]
    if not fits(raw):
        return None
    return Blueprint(cls=name, params=tuple(rule(Config(raw))), blocks=blocks)

"""Vision transformers: ViT, DeiT, BEiT, DINOv2 and DINOv3.

ViT, DeiT, BEiT, DINOv2: the plain image transformers, under the names that all checkpoints use.

    cls 1 x D, position (patches + 1) x D, patch convolution D x 3 x p x p,
    L layers of (query, key, value, output; intermediate, output; two LayerNorms), LayerNorm

Source: transformers 5.23 models/{vit,deit,beit,dinov2,dinov2_with_registers}/modeling_*.py; names
of layers as before 5.0 (conversion_mapping.py there).

DINOv3's ViT: rotary positions instead of learned ones, registers, biases one by one.

Source: transformers 5.23 models/dinov3_vit/modeling_dinov3_vit.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.base.records import frozen_record
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.blueprint import Buffer, Family, Param, affine, conv, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import (
    classify,
    layernorm,
    nothing,
    patch_shape,
    patches,
    scaled,
)


@frozen_record
class VitSwitches:
    """Switches in which vision transformers differ."""

    tokens: int = 1  # learned tokens that have a position: cls, distillation
    distillation: bool = False
    mask: bool = False  # a learned token stands for hidden patches


def token(path: str, *shape: int) -> Iterator[Param]:
    yield Param(path, shape, "other")


def embeddings(c: Config, prefix: str, switches: VitSwitches) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from token(f"{prefix}cls_token", 1, 1, width)
    if switches.distillation:
        yield from token(f"{prefix}distillation_token", 1, 1, width)
    if switches.mask:
        yield from token(f"{prefix}mask_token", 1, 1, width)
    yield from token(f"{prefix}position_embeddings", 1, patches(c) + switches.tokens, width)
    yield from conv(f"{prefix}patch_embeddings.projection", patch_shape(c, width))


def attention(c: Config, prefix: str, *, bias: bool, key_bias: bool) -> Iterator[Param]:
    width = c.num("hidden_size")
    for name in ("query", "key", "value"):
        has = key_bias if name == "key" else bias
        yield from linear(f"{prefix}attention.{name}", width, width, bias=has)
    yield from affine(f"{prefix}output.dense", width, width)


def layer(c: Config, prefix: str, *, bias: bool, key_bias: bool) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from attention(c, f"{prefix}attention.", bias=bias, key_bias=key_bias)
    yield from affine(f"{prefix}intermediate.dense", inner, width)
    yield from affine(f"{prefix}output.dense", width, inner)
    yield from layernorm(f"{prefix}layernorm_before", width)
    yield from layernorm(f"{prefix}layernorm_after", width)


def encoder(c: Config, prefix: str, switches: VitSwitches) -> Iterator[Param]:
    bias = c.enabled("qkv_bias")
    yield from embeddings(c, f"{prefix}embeddings.", switches)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}encoder.layer.{i}.", bias=bias, key_bias=bias)
    yield from layernorm(f"{prefix}layernorm", c.num("hidden_size"))


def pooler(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from affine(f"{prefix}pooler.dense", c.num("pooler_output_size", default=width), width)


def vit(c: Config, prefix: str) -> Iterator[Param]:
    yield from encoder(c, prefix, VitSwitches())


def vit_masked(c: Config, prefix: str) -> Iterator[Param]:
    yield from encoder(c, prefix, VitSwitches(mask=True))


def vit_pooled(c: Config, prefix: str) -> Iterator[Param]:
    yield from vit(c, prefix)
    yield from pooler(c, prefix)


def deit(c: Config, prefix: str) -> Iterator[Param]:
    yield from encoder(c, prefix, VitSwitches(tokens=2, distillation=True))


def deit_masked(c: Config, prefix: str) -> Iterator[Param]:
    yield from encoder(c, prefix, VitSwitches(tokens=2, distillation=True, mask=True))


def deit_pooled(c: Config, prefix: str) -> Iterator[Param]:
    yield from deit(c, prefix)
    yield from pooler(c, prefix)


def pixels(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the head of masked image modelling: a 1 x 1 convolution to the pixels of a patch."""
    out = c.num("encoder_stride", default=16) ** 2 * c.num("num_channels", default=3)
    yield from conv(f"{prefix}decoder.0", (out, c.num("hidden_size"), 1, 1))


def bias_table(c: Config, prefix: str) -> Iterator[Param]:
    """Yield BEiT's table of relative positions in a window, and 3 more for the cls token (its
    appendix)."""
    (height, width), patch = c.pair("image_size"), max(1, c.num("patch_size"))
    distances = (2 * (height // patch) - 1) * (2 * (width // patch) - 1) + 3
    yield Param(
        f"{prefix}relative_position_bias_table", (distances, c.num("num_attention_heads")), "other"
    )


def beit_layer(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from layer(c, prefix, bias=True, key_bias=False)
    if c.ratio("layer_scale_init_value", default=0.1) > 0:
        yield from token(f"{prefix}lambda_1", width)
        yield from token(f"{prefix}lambda_2", width)
    if c.flag("use_relative_position_bias"):
        yield from bias_table(c, f"{prefix}attention.attention.relative_position_bias.")


def beit(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from token(f"{prefix}embeddings.cls_token", 1, 1, width)
    if c.flag("use_mask_token"):
        yield from token(f"{prefix}embeddings.mask_token", 1, 1, width)
    if c.flag("use_absolute_position_embeddings"):
        yield from token(f"{prefix}embeddings.position_embeddings", 1, patches(c) + 1, width)
    yield from conv(f"{prefix}embeddings.patch_embeddings.projection", patch_shape(c, width))
    if c.flag("use_shared_relative_position_bias"):
        yield from bias_table(c, f"{prefix}encoder.relative_position_bias.")
    for i in range(c.layers("num_hidden_layers")):
        yield from beit_layer(c, f"{prefix}encoder.layer.{i}.")
    if not c.enabled("use_mean_pooling"):
        yield from layernorm(f"{prefix}layernorm", width)


def beit_pooled(c: Config, prefix: str) -> Iterator[Param]:
    yield from beit(c, prefix)
    if c.enabled("use_mean_pooling"):
        yield from layernorm(f"{prefix}pooler.layernorm", c.num("hidden_size"))


def visual_tokens(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the head of BeitForMaskedImageModeling, which predicts a patch's word of the image
    vocabulary."""
    yield from layernorm(f"{prefix}layernorm", c.num("hidden_size"))
    yield from affine(f"{prefix}lm_head", c.num("vocab_size"), c.num("hidden_size"))


def dino_mlp(c: Config, prefix: str, width: int) -> Iterator[Param]:
    inner = scaled(c, width, "mlp_ratio")
    if not c.flag("use_swiglu_ffn"):
        yield from affine(f"{prefix}fc1", inner, width)
        yield from affine(f"{prefix}fc2", width, inner)
        return
    inner = (int(inner * 2 / 3) + 7) // 8 * 8  # gate and up in one matrix in all checkpoints
    yield from affine(f"{prefix}weights_in", 2 * inner, width)
    yield from affine(f"{prefix}weights_out", width, inner)


def dino_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, bias = c.num("hidden_size"), c.enabled("qkv_bias")
    yield from layernorm(f"{prefix}norm1", width)
    yield from attention(c, f"{prefix}attention.", bias=bias, key_bias=bias)
    yield from token(f"{prefix}layer_scale1.lambda1", width)
    yield from layernorm(f"{prefix}norm2", width)
    yield from dino_mlp(c, f"{prefix}mlp.", width)
    yield from token(f"{prefix}layer_scale2.lambda1", width)


def dinov2(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embeddings(c, f"{prefix}embeddings.", VitSwitches())
    if c.enabled("use_mask_token"):
        yield from token(f"{prefix}embeddings.mask_token", 1, width)
    registers = c.num("num_register_tokens", default=0)
    if registers:
        yield from token(f"{prefix}embeddings.register_tokens", 1, registers, width)
    for i in range(c.layers("num_hidden_layers")):
        yield from dino_layer(c, f"{prefix}encoder.layer.{i}.")
    yield from layernorm(f"{prefix}layernorm", width)


BLOCKS = ("embeddings", "encoder.layer.*")
IMAGE = {"ForImageClassification": classify("classifier")}
MASKED = "ForMaskedImageModeling"

VIT = Family(
    body=vit_pooled,
    cls="ViTModel",
    blocks=BLOCKS,
    classes={
        "ForImageClassification": Family(body=vit, base="vit", heads=IMAGE, blocks=BLOCKS),
        MASKED: Family(body=vit_masked, base="vit", heads={MASKED: pixels}, blocks=BLOCKS),
    },
)
DEIT_HEADS = {**IMAGE, "WithTeacher": classify("cls_classifier", "distillation_classifier")}
DEIT = Family(
    body=deit_pooled,
    cls="DeiTModel",
    blocks=BLOCKS,
    classes={
        **dict.fromkeys(
            DEIT_HEADS, Family(body=deit, base="deit", heads=DEIT_HEADS, blocks=BLOCKS)
        ),
        MASKED: Family(body=deit_masked, base="deit", heads={MASKED: pixels}, blocks=BLOCKS),
    },
)
BEIT = Family(
    body=beit_pooled,
    base="beit",
    cls="BeitModel",
    heads=IMAGE,
    blocks=("encoder.layer.*",),
    classes={
        MASKED: Family(
            body=beit, base="beit", heads={MASKED: visual_tokens}, blocks=("encoder.layer.*",)
        )
    },
)
DINO_HEADS = {"ForImageClassification": classify("classifier", times=2), "Backbone": nothing}
DINOV2 = Family(
    body=dinov2,
    base="dinov2",
    bases={"Backbone": ""},
    cls="Dinov2Model",
    heads=DINO_HEADS,
    blocks=BLOCKS,
)
DINOV2_REGISTERS = Family(
    body=dinov2,
    base="dinov2_with_registers",
    bases={"Backbone": ""},
    cls="Dinov2WithRegistersModel",
    heads=DINO_HEADS,
    blocks=BLOCKS,
)


def dinov3_embeddings(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield Param(f"{prefix}cls_token", (1, 1, width), "other")
    yield Param(f"{prefix}mask_token", (1, 1, width), "other")
    yield Param(f"{prefix}register_tokens", (1, c.num("num_register_tokens"), width), "other")
    yield from conv(f"{prefix}patch_embeddings", patch_shape(c, width))


def dinov3_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    bias = c.enabled("mlp_bias")
    yield from layernorm(f"{prefix}norm1", width)
    for name, switch in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "proj")):
        has = c.flag(f"{switch}_bias", default=switch != "key")
        yield from linear(f"{prefix}attention.{name}_proj", width, width, bias=has)
    yield Param(f"{prefix}layer_scale1.lambda1", (width,), "other")
    yield from layernorm(f"{prefix}norm2", width)
    for name in ("gate_proj", "up_proj") if c.flag("use_gated_mlp") else ("up_proj",):
        yield from linear(f"{prefix}mlp.{name}", inner, width, bias=bias)
    yield from linear(f"{prefix}mlp.down_proj", width, inner, bias=bias)
    yield Param(f"{prefix}layer_scale2.lambda1", (width,), "other")


def dinov3_vit(c: Config, prefix: str) -> Iterator[Param]:
    yield from dinov3_embeddings(c, f"{prefix}embeddings.")
    for i in range(c.layers("num_hidden_layers")):
        yield from dinov3_layer(c, f"{prefix}layer.{i}.")
    yield from layernorm(f"{prefix}norm", c.num("hidden_size"))


def rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies arange(0, 1, 4 / head size): a quarter of the head for each of
    two directions."""
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    yield Buffer(f"{prefix}rope_embeddings.inv_freq", (ceil_div(size, 4),), "float32")


DINOV3 = Family(
    body=dinov3_vit,
    base="",
    cls="DINOv3ViTModel",
    heads={"Backbone": nothing},
    buffers=rotary,
    blocks=("embeddings", "layer.*"),
)


_sees = partial(ModelType, no_cache="image", sees=Sight(images.native, tower=""), beside_patches=1)
TYPES = {
    "beit": _sees(
        BEIT,
    ),
    "deit": _sees(DEIT, beside_patches=2),
    "dinov2": _sees(
        DINOV2,
        computes=("own_items", "sized_images", "own_softmax"),
    ),
    "dinov2_with_registers": _sees(
        DINOV2_REGISTERS,
        computes=("own_softmax",),
    ),
    "vit": _sees(
        VIT,
        computes=("own_items", "sized_images"),
    ),
    "dinov3_vit": _sees(
        DINOV3,
        computes=("own_softmax",),
    ),
}

"""DINOv3's ViT: rotary positions instead of learned ones, registers, biases one by one.

Source: transformers 5.23 models/dinov3_vit/modeling_dinov3_vit.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight
from weighbridge.arch.vision import layernorm, nothing, patch_shape
from weighbridge.units import ceil_div


def embeddings(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield Param(f"{at}cls_token", (1, 1, width), "other")
    yield Param(f"{at}mask_token", (1, 1, width), "other")
    yield Param(f"{at}register_tokens", (1, c.num("num_register_tokens"), width), "other")
    yield from conv(f"{at}patch_embeddings", patch_shape(c, width))


def layer(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    bias = c.flag("mlp_bias", default=True)
    yield from layernorm(f"{at}norm1", width)
    for name, switch in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "proj")):
        has = c.flag(f"{switch}_bias", default=switch != "key")
        yield from linear(f"{at}attention.{name}_proj", width, width, bias=has)
    yield Param(f"{at}layer_scale1.lambda1", (width,), "other")
    yield from layernorm(f"{at}norm2", width)
    for name in ("gate_proj", "up_proj") if c.flag("use_gated_mlp") else ("up_proj",):
        yield from linear(f"{at}mlp.{name}", inner, width, bias=bias)
    yield from linear(f"{at}mlp.down_proj", width, inner, bias=bias)
    yield Param(f"{at}layer_scale2.lambda1", (width,), "other")


def vit(c: Config, at: str) -> Iterator[Param]:
    yield from embeddings(c, f"{at}embeddings.")
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{at}layer.{i}.")
    yield from layernorm(f"{at}norm", c.num("hidden_size"))


def rotary(c: Config, at: str) -> Iterator[Buffer]:
    """arange(0, 1, 4 / head size): a quarter of the head, for each of two directions."""
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    yield Buffer(f"{at}rope_embeddings.inv_freq", (ceil_div(size, 4),), "float32")


DINOV3 = Family(
    body=vit,
    base="",
    cls="DINOv3ViTModel",
    heads={"Backbone": nothing},
    buffers=rotary,
    blocks=("embeddings", "layer.*"),
)

TYPES = {
    "dinov3_vit": ModelType(
        DINOV3,
        no_cache="image",
        sees=Sight(images.native, tower=""),
        beside_patches=1,
        computes=("own_softmax",),
    ),
}

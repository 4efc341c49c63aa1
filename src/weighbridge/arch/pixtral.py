"""Pixtral's tower: rotary positions in two directions, no class token, gated MLPs, no biases.

Source: transformers 5.23 models/pixtral/modeling_pixtral.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.model_types import MlxFacts, ModelType
from weighbridge.arch.vision import patch_shape


def pixtral(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from conv(f"{at}patch_conv", patch_shape(c, width), bias=False)
    yield from norm(f"{at}ln_pre", width)
    for i in range(c.layers("num_hidden_layers")):
        path = f"{at}transformer.layers.{i}."
        for name in ("k_proj", "v_proj", "q_proj", "o_proj"):
            yield from linear(f"{path}attention.{name}", width, width)
        yield from norm(f"{path}attention_norm", width)
        yield from gated_mlp(f"{path}feed_forward", width, inner)
        yield from norm(f"{path}ffn_norm", width)


def rotary(c: Config, at: str) -> Iterator[Buffer]:
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{at}patch_positional_embedding.{name}", (size // 2,), "float32")


PIXTRAL = Family(
    body=pixtral, cls="PixtralVisionModel", buffers=rotary, blocks=("transformer.layers.*",)
)

TYPES = {
    "pixtral": ModelType(PIXTRAL, no_cache="image", mlx=MlxFacts(has_class=True)),
}

"""Fuyu: no tower at all. Patches go through one Linear into a Persimmon.

Source: transformers 5.23 models/fuyu/modeling_fuyu.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Param, linear
from weighbridge.arch.compose import SIDE_BY_SIDE, Inner, composite, nested, text_head
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight, TransformersFacts

TEXT = Inner(
    path="language_model.",
    config="text_config",
    label="language model",
    flat=True,
)


def patches(c: Config, prefix: str) -> Iterator[Param]:
    pixels = c.num("patch_size") ** 2 * c.num("num_channels")
    out = nested(c, TEXT).num("hidden_size")
    yield from linear(f"{prefix}vision_embed_tokens", out, pixels, bias=True)


FUYU = composite(
    TEXT,
    own=patches,
    projectors=("vision_embed_tokens.",),
    cls="FuyuForCausalLM",
    heads={"ForCausalLM": text_head(TEXT)},
    renames=SIDE_BY_SIDE,
)

TYPES = {
    "fuyu": ModelType(
        FUYU,
        language="text_config",
        flat=True,
        sees=Sight(images.fuyu, bare=True),
        transformers=TransformersFacts(last_logits=(4, 53), sdpa=(4, 53)),
    ),
}

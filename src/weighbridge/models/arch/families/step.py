"""Step 3.5 and 3.7: the text by itself, and with its tower.

    tower     patches and a table of positions, layers whose two halves are scaled; then two
              convolutions with a step of two, each of which doubles the width
    between   one Linear to the width of the text

Source: transformers 5.23 models/step3p7/{modeling,configuration}_*.py; vllm 0.33
model_executor/models/{step3p5,step3p5_mtp,step3p7}.py.
"""

from collections.abc import Iterator

from weighbridge.base.records import replace
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Family, Param, affine, conv, linear
from weighbridge.models.arch.compose import Inner, composite, nested, text_alone, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.window_moe import STEP3P7_TEXT
from weighbridge.models.arch.heads import DECODER_HEADS
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import (
    ModelType,
    Sight,
)
from weighbridge.models.arch.rotary import frequencies
from weighbridge.models.arch.vision import layernorm, patch_shape, patches

TEXT = Inner(path="model.")
VISION = Inner(path="vision_model.", config="vision_config", label="vision tower", fixed=True)
STRIDE = 4  # of both convolutions, a side; and as many times the width


def width_of(c: Config) -> int:
    return c.num("hidden_size", "width")


def tower(c: Config, prefix: str) -> Iterator[Param]:
    width = width_of(c)
    inner = int(width * c.ratio("mlp_ratio"))
    c.skip("intermediate_size")
    yield from conv(f"{prefix}conv1", patch_shape(c, width), bias=False)
    yield Param(f"{prefix}positional_embedding", (patches(c), width), "other")
    yield from layernorm(f"{prefix}ln_pre", width)
    for i in range(c.layers("num_hidden_layers", "layers")):
        path = f"{prefix}transformer.resblocks.{i}."
        for name in ("ls_1.gamma", "ls_2.gamma"):
            yield Param(f"{path}{name}", (width,), "other")
        for name in ("ln_1", "ln_2"):
            yield from layernorm(f"{path}{name}", width)
        yield Param(f"{path}attn.in_proj_weight", (3 * width, width))
        yield Param(f"{path}attn.in_proj_bias", (3 * width,), "bias")
        yield from affine(f"{path}attn.out_proj", width, width)
        yield from affine(f"{path}mlp.c_fc", inner, width)
        yield from affine(f"{path}mlp.c_proj", width, inner)
    for i, wide in ((1, width), (2, 2 * width)):
        yield from conv(f"{prefix}vit_downsampler{i}", (2 * wide, wide, 3, 3))


def tower_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    size = width_of(c) // max(1, c.num("num_attention_heads", "heads"))
    yield Buffer(f"{prefix}position_ids", (1, patches(c)), "int64")
    yield from frequencies(f"{prefix}rotary_emb.", size // 2)


def between(c: Config, prefix: str) -> Iterator[Param]:
    out, into = nested(c, TEXT).num("hidden_size"), STRIDE * width_of(nested(c, VISION))
    yield from linear(f"{prefix}vit_large_projector", out, into, bias=c.flag("projector_bias"))


STEP3P5 = replace(STEP3P7_TEXT, cls="Step3p5ForCausalLM", heads=DECODER_HEADS)
STEP3P7 = composite(
    TEXT,
    VISION,
    own=between,
    projectors=("vit_large_projector.",),
    base="",
    cls="Step3p7ForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
    classes={"ForCausalLM": text_alone(TEXT)},
)

TYPES = {
    "step3p5": ModelType(STEP3P5, windows=windows.nowhere, predicts="dense"),
    "step3p5_vision": ModelType(
        Family(
            body=tower,
            cls="Step3p7VisionModel",
            buffers=tower_buffers,
            blocks=("transformer.resblocks.*",),
        ),
        no_cache="image",
    ),
    "step3p7": ModelType(
        STEP3P7,
        language="text_config",
        flat=True,
        holds={"text_config": "step3p5", "vision_config": "step3p5_vision"},
        predicts="dense",
        sees=Sight(images.step),
    ),
}

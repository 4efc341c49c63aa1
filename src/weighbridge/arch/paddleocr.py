"""PaddleOCR-VL: a SigLIP tower with rotary positions beside its learned ones, an ERNIE 4.5.

    projector: LayerNorm, 2 x 2 patches together through two Linears

Source: transformers 5.23 models/paddleocr_vl/modeling_paddleocr_vl.py; checkpoints call the
projector `mlp_AR` (conversion_mapping.py).
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, embedding, linear
from weighbridge.arch.clip import layers, patch_kernel, side
from weighbridge.arch.compose import Inner, composite, either, nested, text_head
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.llama import ERNIE4_5
from weighbridge.arch.model_types import ModelType, Sight
from weighbridge.arch.vision import layernorm

TEXT = Inner(
    path="language_model.",
    config="text_config",
    label="language model",
    flat=True,
)
VISION = Inner(path="visual.", config="vision_config", label="vision tower")
NAMES = (
    ("model.language_model.", "model."),
    ("model.visual.", "visual."),
    ("model.projector.", "mlp_AR."),
)


def vision(c: Config, at: str) -> Iterator[Param]:
    path, width = f"{at}vision_model.", c.num("hidden_size")
    yield from conv(f"{path}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{path}embeddings.position_embedding", side(c) ** 2, width)
    yield from layers(c, path)
    yield from layernorm(f"{path}post_layernorm", width)


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    path = f"{at}vision_model."
    yield Buffer(f"{path}embeddings.position_ids", (1, side(c) ** 2), "int64")
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{path}rotary_pos_emb.{name}", (size // 4,), "float32")


def projector(c: Config, at: str) -> Iterator[Param]:
    tower = nested(c, VISION)
    width = tower.num("hidden_size")
    merged = width * tower.num("spatial_merge_size") ** 2
    yield from layernorm(f"{at}projector.pre_norm", width)
    yield from linear(f"{at}projector.linear_1", merged, merged, bias=True)
    out = nested(c, TEXT).num("hidden_size")
    yield from linear(f"{at}projector.linear_2", out, merged, bias=True)


PADDLEOCR_VISION = Family(
    body=vision,
    cls="PaddleOCRVisionModel",
    buffers=buffers,
    blocks=(),
)
PADDLEOCR_VL = composite(
    TEXT,
    VISION,
    own=projector,
    projectors=("projector.",),
    cls="PaddleOCRVLForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
    ties=either(TEXT, default=True),
    renames=NAMES,
)

TYPES = {
    "paddleocr_vl": ModelType(
        PADDLEOCR_VL, language="text_config", flat=True, sees=Sight(images.by_paddle)
    ),
    "paddleocr_vl_text": ModelType(ERNIE4_5),
    "paddleocr_vl_vision": ModelType(PADDLEOCR_VISION, no_cache="image"),
}

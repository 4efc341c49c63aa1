"""MiniMax-M3 whole: a tower as CLIP's, with patches of two frames, before MiniMax-M3's text.

    between   each position through two Linears, then four side by side through two more

Names are those of its checkpoint. Source: transformers 5.23 models/minimax_m3_vl/
{modeling,configuration,image_processing}_*.py and conversion_mapping.py; vllm 0.33
models/minimax_m3/common/vision_tower.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Buffer, Family, Param, affine, conv
from weighbridge.models.arch.compose import Inner, composite, nested
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.rotary import frequencies
from weighbridge.models.arch.vision import layernorm, nothing

TEXT = Inner(path="language_model.", head="ForCausalLM")
# its own config says clip_vision_model, which is another class
VISION = Inner(
    path="vision_tower.vision_model.", config="vision_config", label="vision tower", fixed=True
)
PIXELS = (4 * 28 * 28, 451_584)  # the least and the most of an image
AXES = 3  # of positions: frames, rows, columns


def tower(c: Config, prefix: str) -> Iterator[Param]:
    c.skip("vocab_size", "projection_dim", "image_size", "vision_segment_max_frames")
    width, inner, patch = c.num("hidden_size"), c.num("intermediate_size"), c.num("patch_size")
    frames = c.sub("img_token_compression_config").num("temporal_patch_size", default=2)
    shape = (width, c.num("num_channels"), frames, patch, patch)
    yield from conv(f"{prefix}embeddings.patch_embedding", shape, bias=False)
    yield from layernorm(f"{prefix}pre_layrnorm", width)
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}encoder.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from affine(f"{path}self_attn.{name}", width, width)
        for name in ("layer_norm1", "layer_norm2"):
            yield from layernorm(f"{path}{name}", width)
        yield from affine(f"{path}mlp.fc1", inner, width)
        yield from affine(f"{path}mlp.fc2", width, inner)


def tower_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the tower's rotary frequencies: an equal even number of elements per axis, about half
    of a head."""
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    yield from frequencies(f"{prefix}rotary_emb.", 2 * (size // (2 * AXES)))


def between(c: Config, prefix: str) -> Iterator[Param]:
    c.skip("num_reward_heads", "image_seq_length", "image_grid_pinpoints", "vision_feature_layer")
    vision, width = nested(c, VISION), nested(c, TEXT).num("hidden_size")
    inner = c.num("projector_hidden_size", default=width)
    merged = c.sub("img_token_compression_config").num("spatial_merge_size", default=2) ** 2
    for path, into in (
        ("multi_modal_projector.", vision.num("hidden_size")),
        ("patch_merge_mlp.", merged * width),
    ):
        yield from affine(f"{prefix}{path}linear_1", inner, into)
        yield from affine(f"{prefix}{path}linear_2", width, inner)


MINIMAX_M3_VL = composite(
    TEXT,
    VISION,
    own=between,
    projectors=("multi_modal_projector.", "patch_merge_mlp."),
    base="",
    cls="MiniMaxM3SparseForConditionalGeneration",
    stems=("MiniMaxM3",),
    heads={"ForConditionalGeneration": nothing},
)

TYPES = {
    "minimax_m3_vl": ModelType(
        MINIMAX_M3_VL,
        language="text_config",
        holds={"text_config": "minimax_m3_vl_text", "vision_config": "minimax_m3_vl_vision"},
        sees=Sight(images.merged(*PIXELS)),
    ),
    "minimax_m3_vl_vision": ModelType(
        Family(
            body=tower,
            cls="MiniMaxM3VLVisionModel",
            buffers=tower_buffers,
            blocks=("encoder.layers.*",),
        ),
        no_cache="image",
    ),
}

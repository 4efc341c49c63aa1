"""ERNIE 4.5 VL and PaddleOCR-VL.

ERNIE 4.5 VL: two sets of routed experts in a layer, one for words and one for images.

    sparse block: E text experts of 3 D F_t, E image experts of 3 D F_v, numbered one after the
    other; two routers [D, E]; shared MLPs as wide as text experts
    resampler: s x s patches, then t frames, through two Linears and a LayerNorm each

Sources: transformers 5.23 models/ernie4_5_vl_moe/modeling_ernie4_5_vl_moe.py and
conversion_mapping.py; flat keys as in baidu/ERNIE-4.5-VL-424B-A47B-Paddle config.json.

PaddleOCR-VL: a SigLIP tower with rotary positions beside its learned ones, an ERNIE 4.5.

    projector: LayerNorm, 2 x 2 patches together through two Linears

Source: transformers 5.23 models/paddleocr_vl/modeling_paddleocr_vl.py; checkpoints call the
projector `mlp_AR` (conversion_mapping.py).
"""

from collections.abc import Iterator, Sequence

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    conv,
    embedding,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.models.arch.compose import Inner, composite, either, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import below, stack, two_norms
from weighbridge.models.arch.families.clip import layers, patch_kernel, side
from weighbridge.models.arch.families.llama import ERNIE4_5, LlamaSwitches, attention
from weighbridge.models.arch.families.qwen_vl import rotary as vision_rotary
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.rotary import rotary
from weighbridge.models.arch.sparse import RoutedExperts, each
from weighbridge.models.arch.vision import layernorm, scaled

TEXT = Inner(path="language_model.", flat=True)
VISION = Inner(path="vision_model.", config="vision_config", label="vision tower")


def experts_of(c: Config) -> tuple[RoutedExperts, RoutedExperts]:
    """Return the routed experts for words and for images; the config gives one number, or one
    each."""
    counts = c.per_layer("moe_num_experts", count=2)
    inner = c.nums("moe_intermediate_size") or (1536, 512)  # Ernie4_5_VLMoeTextConfig
    if len(inner) < 2:
        raise c.error("moe_intermediate_size", "must.two", inner=inner)
    top_k = c.num("moe_k", "num_experts_per_tok")
    text, image = (
        RoutedExperts(count=n, inner=f, top_k=top_k) for n, f in zip(counts, inner[:2], strict=True)
    )
    return text, image


def sparse_layers(c: Config) -> Sequence[bool]:
    count = c.layers("num_hidden_layers")
    kinds = c.many("mlp_layer_types")
    if kinds:
        return [kind == "sparse" for kind in kinds[:count]]
    first, every = c.num("moe_layer_start_index", default=1), c.num("moe_layer_interval", default=1)
    return [i >= first and (i + 1) % max(1, every) == 0 for i in range(count)]


def numbered(prefix: str, width: int, experts: RoutedExperts, first: int) -> Iterator[Param]:
    for p in each("", width, experts):
        i, tail = p.name.removeprefix(".").split(".", 1)
        yield p._replace(name=f"{prefix}{int(i) + first}.{tail}")


def moe(c: Config, prefix: str) -> Iterator[Param]:
    width, (text, image) = c.num("hidden_size"), experts_of(c)
    yield Param(f"{prefix}gate.weight", (width, text.count), "router", "float32")
    yield Param(f"{prefix}gate.weight_1", (width, image.count), "router", "float32")
    bias = (2, max(text.count, image.count))
    yield Param(f"{prefix}moe_statics.e_score_correction_bias", bias, "other", "float32")
    yield from numbered(f"{prefix}experts.", width, text, 0)
    yield from numbered(f"{prefix}experts.", width, image, text.count)
    shared = c.num("moe_num_shared_experts", default=0) * text.inner
    if shared:
        yield from gated_mlp(f"{prefix}shared_experts", width, shared, bias=c.flag("use_bias"))


def text(c: Config, prefix: str) -> Iterator[Param]:
    sparse, bias = sparse_layers(c), c.flag("use_bias")

    def layer(c: Config, prefix: str, i: int) -> Iterator[Param]:
        width, inner = c.num("hidden_size"), c.num("intermediate_size")
        yield from below(prefix, attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias)))
        if sparse[i]:
            yield from moe(c, f"{prefix}mlp.")
        else:
            yield from gated_mlp(f"{prefix}mlp", width, inner, bias=bias)
        yield from two_norms(c, prefix)

    yield from stack(c, prefix, layer)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width, patch = c.num("hidden_size"), c.num("patch_size")
    inner = scaled(c, width, "mlp_ratio") if c.has("mlp_ratio") else c.num("intermediate_size")
    pixels = c.num("in_channels", default=3) * patch * patch
    yield from linear(f"{prefix}patch_embed.proj", width, pixels)
    for i in range(c.layers("depth")):
        path = f"{prefix}blocks.{i}."
        yield from layernorm(f"{path}norm1", width)
        yield from layernorm(f"{path}norm2", width)
        yield from affine(f"{path}attn.qkv", 3 * width, width)
        yield from affine(f"{path}attn.proj", width, width)
        yield from affine(f"{path}mlp.fc1", inner, width)
        yield from affine(f"{path}mlp.fc2", width, inner)
    yield from layernorm(f"{prefix}ln", width)


def resampler(c: Config, prefix: str) -> Iterator[Param]:
    tower, out = nested(c, VISION), nested(c, TEXT).num("hidden_size")
    space = tower.num("hidden_size") * tower.num("spatial_merge_size") ** 2
    time = tower.num("temporal_merge_size", default=c.num("temporal_conv_size", default=2))
    path = f"{prefix}resampler_model."
    for name, into in (("spatial_linear", space), ("temporal_linear", space * time)):
        yield from affine(f"{path}{name}.0", space, into)
        yield from affine(f"{path}{name}.2", space, space)
        yield from layernorm(f"{path}{name}.3", space)
    yield from affine(f"{path}mlp", out, space)
    yield from norm(f"{path}after_norm", out)


ERNIE_TEXT = DecoderFamily(body=text, cls="Ernie4_5_VLMoeTextModel", buffers=rotary)
ERNIE_VISION = Family(
    body=vision,
    cls="Ernie4_5_VLMoeVisionTransformerPretrainedModel",
    buffers=vision_rotary("hidden_size"),
    blocks=("blocks.*",),
)
ERNIE_VL = composite(
    TEXT,
    VISION,
    own=resampler,
    projectors=("resampler_model.",),
    cls="Ernie4_5_VLMoeForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
    renames=(("model.language_model.", "model."),),
)


PADDLEOCR_TEXT = Inner(path="language_model.", flat=True)
PADDLEOCR_TOWER = Inner(path="visual.", config="vision_config", label="vision tower")
NAMES = (
    ("model.language_model.", "model."),
    ("model.visual.", "visual."),
    ("model.projector.", "mlp_AR."),
)


def paddleocr_vision(c: Config, prefix: str) -> Iterator[Param]:
    path, width = f"{prefix}vision_model.", c.num("hidden_size")
    yield from conv(f"{path}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{path}embeddings.position_embedding", side(c) ** 2, width)
    yield from layers(c, path)
    yield from layernorm(f"{path}post_layernorm", width)


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    path = f"{prefix}vision_model."
    yield Buffer(f"{path}embeddings.position_ids", (1, side(c) ** 2), "int64")
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{path}rotary_pos_emb.{name}", (size // 4,), "float32")


def projector(c: Config, prefix: str) -> Iterator[Param]:
    tower = nested(c, PADDLEOCR_TOWER)
    width = tower.num("hidden_size")
    merged = width * tower.num("spatial_merge_size") ** 2
    yield from layernorm(f"{prefix}projector.pre_norm", width)
    yield from affine(f"{prefix}projector.linear_1", merged, merged)
    out = nested(c, PADDLEOCR_TEXT).num("hidden_size")
    yield from affine(f"{prefix}projector.linear_2", out, merged)


PADDLEOCR_VISION = Family(
    body=paddleocr_vision, cls="PaddleOCRVisionModel", buffers=buffers, blocks=()
)
PADDLEOCR_VL = composite(
    PADDLEOCR_TEXT,
    PADDLEOCR_TOWER,
    own=projector,
    projectors=("projector.",),
    cls="PaddleOCRVLForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(PADDLEOCR_TEXT)},
    ties=either(PADDLEOCR_TEXT, default=True),
    renames=NAMES,
)


TYPES = {
    "ernie4_5_moe_vl": ModelType(
        ERNIE_VL,
        language="text_config",
        flat=True,
        holds={"text_config": "ernie4_5_vl_moe_text", "vision_config": "ernie4_5_vl_moe_vision"},
        sees=Sight(images.by_ernie),
    ),
    "ernie4_5_vl_moe": ModelType(
        ERNIE_VL, language="text_config", flat=True, sees=Sight(images.by_ernie)
    ),
    "ernie4_5_vl_moe_text": ModelType(
        ERNIE_TEXT, layers="usual", computes=("wide_rotary",), gguf="ernie4_5-moe"
    ),
    "ernie4_5_vl_moe_vision": ModelType(ERNIE_VISION, no_cache="image"),
    "paddleocr_vl": ModelType(
        PADDLEOCR_VL, language="text_config", flat=True, sees=Sight(images.by_paddle)
    ),
    "paddleocr_vl_text": ModelType(ERNIE4_5),
    "paddleocr_vl_vision": ModelType(PADDLEOCR_VISION, no_cache="image"),
}

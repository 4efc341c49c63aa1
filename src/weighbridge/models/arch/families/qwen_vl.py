"""Qwen2-VL to Qwen3.5 and GLM-4.1V to 4.6V: towers that merge 2 x 2 patches at their end.

    Qwen  patches of t x p x p, L blocks of (qkv, proj; MLP; two norms), merger 4W -> 4W -> D;
          Qwen3-VL adds learned positions and a merger for each layer that feeds the decoder early
    GLM   no biases: blocks of (qkv, proj; gate, up, down; two RMSNorms), a convolution
          D x W x 2 x 2, a merger of a D x D Linear and a gated MLP

Checkpoints of Qwen's 2 and 2.5 series have `visual.` beside `model.`, later ones inside it.
Sources: transformers 5.23 models/{qwen2_vl,qwen2_5_vl,qwen3_vl,qwen3_5,glm4v,glm4v_moe,glm46v}/
modeling_*.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.models.arch import windows
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
from weighbridge.models.arch.compose import Inner, composite, either, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import Decoder, fused_gated
from weighbridge.models.arch.families.clip import side
from weighbridge.models.arch.families.glm import FOUR
from weighbridge.models.arch.families.glm4_moe import GLM4_MOE
from weighbridge.models.arch.families.llama import QWEN2, QWEN3, LlamaSwitches, decoder
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import (
    ModelType,
    Sight,
)
from weighbridge.models.arch.rotary import partly_rotary
from weighbridge.models.arch.vision import layernorm, scaled

MERGER = ("visual.merger.", "visual.deepstack_merger_list.")
BEFORE_3 = (("model.language_model.", "model."), ("model.visual.", "visual."))


def patch_embed(c: Config, prefix: str, width: int, *, bias: bool) -> Iterator[Param]:
    time, (tall, wide) = c.pair("temporal_patch_size")[0], c.pair("patch_size")
    shape = (width, c.num("in_channels", default=3), time, tall, wide)
    yield from conv(f"{prefix}patch_embed.proj", shape, bias=bias)


def attention(prefix: str, width: int) -> Iterator[Param]:
    yield from affine(f"{prefix}attn.qkv", 3 * width, width)
    yield from affine(f"{prefix}attn.proj", width, width)


def merger(prefix: str, width: int, merged: int, out: int) -> Iterator[Param]:
    yield from affine(f"{prefix}mlp.0", merged, merged)
    yield from affine(f"{prefix}mlp.2", out, merged)


def merged_width(c: Config, width: int) -> int:
    return width * c.num("spatial_merge_size") ** 2


def vision2(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Qwen2-VL's tower; its width is `embed_dim`; `hidden_size` is the language model's."""
    width = c.num("embed_dim")
    inner = scaled(c, width, "mlp_ratio")
    yield from patch_embed(c, prefix, width, bias=False)
    for i in range(c.layers("depth")):
        path = f"{prefix}blocks.{i}."
        yield from layernorm(f"{path}norm1", width)
        yield from layernorm(f"{path}norm2", width)
        yield from attention(path, width)
        yield from affine(f"{path}mlp.fc1", inner, width)
        yield from affine(f"{path}mlp.fc2", width, inner)
    yield from layernorm(f"{prefix}merger.ln_q", width)
    yield from merger(f"{prefix}merger.", width, merged_width(c, width), c.num("hidden_size"))


def vision2_5(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from patch_embed(c, prefix, width, bias=False)
    for i in range(c.layers("depth")):
        path = f"{prefix}blocks.{i}."
        yield from norm(f"{path}norm1", width)
        yield from norm(f"{path}norm2", width)
        yield from attention(path, width)
        yield from gated_mlp(f"{path}mlp", width, c.num("intermediate_size"), bias=True)
    yield from norm(f"{prefix}merger.ln_q", width)
    yield from merger(f"{prefix}merger.", width, merged_width(c, width), c.num("out_hidden_size"))


def merger3(c: Config, prefix: str, *, normed: int) -> Iterator[Param]:
    merged = merged_width(c, c.num("hidden_size"))
    yield from layernorm(f"{prefix}norm", normed)
    yield from affine(f"{prefix}linear_fc1", merged, merged)
    yield from affine(f"{prefix}linear_fc2", c.num("out_hidden_size"), merged)


def vision3_5(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Qwen3.5's tower, which merges only the last layer's output."""
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from patch_embed(c, prefix, width, bias=True)
    yield from embedding(f"{prefix}pos_embed", c.num("num_position_embeddings"), width)
    for i in range(c.layers("depth")):
        path = f"{prefix}blocks.{i}."
        yield from layernorm(f"{path}norm1", width)
        yield from layernorm(f"{path}norm2", width)
        yield from attention(path, width)
        yield from affine(f"{path}mlp.linear_fc1", inner, width)
        yield from affine(f"{path}mlp.linear_fc2", width, inner)
    yield from merger3(c, f"{prefix}merger.", normed=width)


def vision3(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Qwen3-VL's tower: Qwen3.5's, and a merger per early layer, whose norm spans the merged
    patches."""
    yield from vision3_5(c, prefix)
    merged = merged_width(c, c.num("hidden_size"))
    for i in range(len(c.nums("deepstack_visual_indexes"))):
        yield from merger3(c, f"{prefix}deepstack_merger_list.{i}.", normed=merged)


def rotary(width: str) -> Callable[[Config, str], Iterator[Buffer]]:
    def frequencies(c: Config, prefix: str) -> Iterator[Buffer]:
        """Yield the tower's rotary frequencies: half of a head for rows, half for columns, and one
        frequency per two elements."""
        size = c.num(width) // max(1, c.num("num_heads"))
        for name in ("inv_freq", "original_inv_freq"):
            yield Buffer(f"{prefix}rotary_pos_emb.{name}", (size // 4,), "float32")

    return frequencies


VISION2 = Family(
    body=vision2,
    cls="Qwen2VisionTransformerPretrainedModel",
    buffers=rotary("embed_dim"),
    blocks=("blocks.*",),
)
VISION2_5 = Family(
    body=vision2_5,
    cls="Qwen2_5_VisionTransformerPretrainedModel",
    buffers=rotary("hidden_size"),
    blocks=("blocks.*",),
)
VISION3 = Family(
    body=vision3, cls="Qwen3VLVisionModel", buffers=rotary("hidden_size"), blocks=("blocks.*",)
)
VISION3_5 = Family(
    body=vision3_5, cls="Qwen3_5VisionModel", buffers=rotary("hidden_size"), blocks=("blocks.*",)
)


def family_of(name: str, *, old: bool = False) -> Family:
    """Return a family of Qwen-VL's kind. With `old`, the language model's keys may be in the outer
    config, and names are flat."""
    text = Inner(path="language_model.", flat=old)
    vision = Inner(path="visual.", config="vision_config", label="vision tower")
    return composite(
        text,
        vision,
        projectors=MERGER,
        cls=f"{name}ForConditionalGeneration",
        heads={"ForConditionalGeneration": text_head(text)},
        ties=either(text) if old else False,
        renames=BEFORE_3 if old else (),
    )


QWEN2_VL = family_of("Qwen2VL", old=True)
QWEN2_5_VL = family_of("Qwen2_5_VL", old=True)
QWEN3_VL = family_of("Qwen3VL")
QWEN3_VL_MOE = family_of("Qwen3VLMoe")
QWEN3_5 = family_of("Qwen3_5")
QWEN3_5_MOE = family_of("Qwen3_5Moe")


# GLM


def glm_block(c: Config, prefix: str) -> Iterator[Param]:
    width, out = c.num("hidden_size"), c.num("out_hidden_size")
    yield from norm(f"{prefix}norm1", width)
    yield from norm(f"{prefix}norm2", width)
    yield from linear(f"{prefix}attn.qkv", 3 * width, width, bias=c.flag("attention_bias"))
    yield from linear(f"{prefix}attn.proj", width, width)
    yield from gated_mlp(f"{prefix}mlp", width, out)


def glm_tower(c: Config, prefix: str) -> Iterator[Param]:
    """Yield GLM-4V's tower. A block's MLP is as wide as the output; `intermediate_size` is the
    merger's."""
    width, out, fold = c.num("hidden_size"), c.num("out_hidden_size"), c.num("spatial_merge_size")
    yield from embedding(f"{prefix}embeddings.position_embedding", side(c) ** 2, width)
    yield from patch_embed(c, prefix, width, bias=True)
    for i in range(c.layers("depth")):
        yield from glm_block(c, f"{prefix}blocks.{i}.")
    yield from linear(f"{prefix}merger.proj", out, out)
    yield from layernorm(f"{prefix}merger.post_projection_norm", out)
    yield from gated_mlp(f"{prefix}merger", out, c.num("intermediate_size"))
    yield from norm(f"{prefix}post_conv_layernorm", width)
    yield from conv(f"{prefix}downsample", (out, width, fold, fold))
    yield from norm(f"{prefix}post_layernorm", width)


def glm_text(c: Config) -> Decoder:
    return decoder(c, LlamaSwitches(qkv_bias=True, mlp=fused_gated, norms=FOUR))


def glm_family(name: str) -> Family:
    language = Inner(path="language_model.")
    vision_part = Inner(path="visual.", config="vision_config", label="vision tower")
    return composite(
        language,
        vision_part,
        projectors=("visual.merger.", "visual.downsample."),
        cls=f"{name}ForConditionalGeneration",
        heads={"ForConditionalGeneration": text_head(language)},
        ties=either(language),
    )


GLM4V_TEXT = DecoderFamily(tree=glm_text, cls="Glm4vTextModel", buffers=partly_rotary(1.0))
GLM4V_VISION = Family(
    body=glm_tower, cls="Glm4vVisionModel", buffers=rotary("hidden_size"), blocks=("blocks.*",)
)
GLM4V = glm_family("Glm4v")
GLM4V_MOE = glm_family("Glm4vMoe")
GLM46V = glm_family("Glm46V")

TYPES = {
    "qwen2_vl": ModelType(
        QWEN2_VL, language="text_config", flat=True, sees=Sight(images.one_frame), gguf="qwen2vl"
    ),
    "qwen2_vl_text": ModelType(QWEN2, windows=windows.upper, gguf="qwen2vl"),
    "qwen2_vl_vision": ModelType(
        VISION2, no_cache="image", heads_key="num_heads", width_key="embed_dim"
    ),
    "qwen2_5_vl": ModelType(
        QWEN2_5_VL, language="text_config", flat=True, sees=Sight(images.one_frame), gguf="qwen2vl"
    ),
    "qwen2_5_vl_text": ModelType(QWEN2, windows=windows.upper, gguf="qwen2vl"),
    "qwen2_5_vl_vision": ModelType(VISION2_5, no_cache="image", encoder_heads="window_of_pixels"),
    "qwen3_vl": ModelType(QWEN3_VL, language="text_config", sees=Sight(images.one_frame_of_16)),
    "qwen3_vl_text": ModelType(QWEN3, gguf="qwen3vl"),
    "qwen3_vl_vision": ModelType(VISION3, no_cache="image"),
    "qwen3_vl_moe": ModelType(
        QWEN3_VL_MOE, language="text_config", sees=Sight(images.one_frame_of_16)
    ),
    "qwen3_vl_moe_vision": ModelType(VISION3, no_cache="image"),
    "qwen3_5": ModelType(QWEN3_5, language="text_config", sees=Sight(images.one_frame_of_16)),
    "qwen3_5_vision": ModelType(VISION3_5, no_cache="image"),
    "qwen3_5_moe": ModelType(
        QWEN3_5_MOE, language="text_config", sees=Sight(images.one_frame_of_16)
    ),
    "qwen3_5_moe_vision": ModelType(VISION3_5, no_cache="image"),
    "glm4v": ModelType(GLM4V, language="text_config", sees=Sight(images.two_frames)),
    "glm4v_moe": ModelType(GLM4V_MOE, language="text_config", sees=Sight(images.two_frames)),
    "glm4v_moe_text": ModelType(GLM4_MOE, gguf="glm4moe"),
    "glm4v_moe_vision": ModelType(GLM4V_VISION, no_cache="image"),
    "glm4v_text": ModelType(GLM4V_TEXT, gguf="glm4"),
    "glm4v_vision": ModelType(GLM4V_VISION, no_cache="image"),
    "glm46v": ModelType(GLM46V, language="text_config", sees=Sight(images.two_frames)),
}

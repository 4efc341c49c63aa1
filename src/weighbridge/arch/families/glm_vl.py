"""GLM-4.1V, GLM-4.5V, GLM-4.6V: a tower without biases, folded by a convolution at its end.

    blocks (qkv, proj; gate, up, down; two RMSNorms), convolution D x W x 2 x 2, merger of a
    D x D Linear and a gated MLP

Sources: transformers 5.23 models/{glm4v,glm4v_moe,glm46v}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, conv, embedding, gated_mlp, linear, norm
from weighbridge.arch.compose import Inner, composite, either, text_head
from weighbridge.arch.config import Config
from weighbridge.arch.families.clip import side
from weighbridge.arch.families.glm import FOUR
from weighbridge.arch.families.glm4_moe import GLM4_MOE
from weighbridge.arch.families.llama import LlamaSwitches, decoder
from weighbridge.arch.families.qwen_vl import patch_embed, rotary
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight, TrainingFacts
from weighbridge.arch.modules import Decoder, fused_gated
from weighbridge.arch.rotary import partly_rotary
from weighbridge.arch.vision import layernorm


def block(c: Config, prefix: str) -> Iterator[Param]:
    width, out = c.num("hidden_size"), c.num("out_hidden_size")
    yield from norm(f"{prefix}norm1", width)
    yield from norm(f"{prefix}norm2", width)
    yield from linear(f"{prefix}attn.qkv", 3 * width, width, bias=c.flag("attention_bias"))
    yield from linear(f"{prefix}attn.proj", width, width)
    yield from gated_mlp(f"{prefix}mlp", width, out)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    """A block's MLP is as wide as the output; `intermediate_size` is that of the merger."""
    width, out, fold = c.num("hidden_size"), c.num("out_hidden_size"), c.num("spatial_merge_size")
    yield from embedding(f"{prefix}embeddings.position_embedding", side(c) ** 2, width)
    yield from patch_embed(c, prefix, width, bias=True)
    for i in range(c.layers("depth")):
        yield from block(c, f"{prefix}blocks.{i}.")
    yield from linear(f"{prefix}merger.proj", out, out)
    yield from layernorm(f"{prefix}merger.post_projection_norm", out)
    yield from gated_mlp(f"{prefix}merger", out, c.num("intermediate_size"))
    yield from norm(f"{prefix}post_conv_layernorm", width)
    yield from conv(f"{prefix}downsample", (out, width, fold, fold))
    yield from norm(f"{prefix}post_layernorm", width)


def text(c: Config) -> Decoder:
    return decoder(c, LlamaSwitches(qkv_bias=True, mlp=fused_gated, norms=FOUR))


def family_of(name: str) -> Family:
    language = Inner(
        path="language_model.",
        config="text_config",
        label="language model",
    )
    vision_part = Inner(path="visual.", config="vision_config", label="vision tower")
    return composite(
        language,
        vision_part,
        projectors=("visual.merger.", "visual.downsample."),
        cls=f"{name}ForConditionalGeneration",
        heads={"ForConditionalGeneration": text_head(language)},
        ties=either(language),
    )


GLM4V_TEXT = Family(
    tree=text, cls="Glm4vTextModel", heads=DECODER_HEADS, buffers=partly_rotary(1.0)
)
GLM4V_VISION = Family(
    body=vision, cls="Glm4vVisionModel", buffers=rotary("hidden_size"), blocks=("blocks.*",)
)
GLM4V = family_of("Glm4v")
GLM4V_MOE = family_of("Glm4vMoe")
GLM46V = family_of("Glm46V")

TYPES = {
    "glm4v": ModelType(GLM4V, language="text_config", sees=Sight(images.two_frames)),
    "glm4v_moe": ModelType(
        GLM4V_MOE,
        language="text_config",
        sees=Sight(images.two_frames),
        training=TrainingFacts(experts_were="gate_up"),
    ),
    "glm4v_moe_text": ModelType(GLM4_MOE, gguf="glm4moe"),
    "glm4v_moe_vision": ModelType(GLM4V_VISION, no_cache="image"),
    "glm4v_text": ModelType(GLM4V_TEXT, gguf="glm4"),
    "glm4v_vision": ModelType(GLM4V_VISION, no_cache="image"),
    "glm46v": ModelType(GLM46V, language="text_config", sees=Sight(images.two_frames)),
}

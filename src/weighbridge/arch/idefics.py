"""Idefics 2 and 3, SmolVLM: a SigLIP tower without its head, a connector, a language model.

    Idefics2 resamples each image to n latents (perceiver); the later ones fold s x s patches
    into one and project them with a single Linear

Sources: transformers 5.23 models/{idefics2,idefics3,smolvlm}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, ParamRule, conv, embedding, linear, norm
from weighbridge.arch.clip import layers, patch_kernel, side
from weighbridge.arch.compose import Inner, composite, nested, text_head
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight, TransformersFacts
from weighbridge.arch.vision import layernorm, nothing

TEXT = Inner(path="text_model.", config="text_config", label="language model")
VISION = Inner(path="vision_model.", config="vision_config", label="vision tower")
PERCEIVER = Inner(
    path="connector.perceiver_resampler.", config="perceiver_config", label="projector"
)


def vision(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from conv(f"{at}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{at}embeddings.position_embedding", side(c) ** 2, width)
    yield from layers(c, at)
    yield from layernorm(f"{at}post_layernorm", width)


def mlp(at: str, into: int, inner: int, out: int) -> Iterator[Param]:
    yield from linear(f"{at}.gate_proj", inner, into)
    yield from linear(f"{at}.up_proj", inner, into)
    yield from linear(f"{at}.down_proj", out, inner)


def perceiver_layer(c: Config, at: str, width: int) -> Iterator[Param]:
    size = c.num("resampler_head_dim")
    heads, kv_heads = c.num("resampler_n_heads"), c.num("num_key_value_heads")
    yield from linear(f"{at}self_attn.q_proj", heads * size, width)
    yield from linear(f"{at}self_attn.k_proj", kv_heads * size, width)
    yield from linear(f"{at}self_attn.v_proj", kv_heads * size, width)
    yield from linear(f"{at}self_attn.o_proj", width, heads * size)
    yield from mlp(f"{at}mlp", width, 4 * width, width)
    for name in ("input_latents_norm", "input_context_norm", "post_attention_layernorm"):
        yield from norm(f"{at}{name}", width)


def perceiver(c: Config, at: str, width: int) -> Iterator[Param]:
    yield Param(f"{at}latents", (c.num("resampler_n_latents"), width), "other")
    for i in range(c.layers("resampler_depth")):
        yield from perceiver_layer(c, f"{at}layers.{i}.", width)
    yield from norm(f"{at}norm", width)


def resampled(c: Config, at: str) -> Iterator[Param]:
    """The perceiver has the width of the language model, whatever its own config says."""
    text = nested(c, TEXT)
    width, inner = text.num("hidden_size"), text.num("intermediate_size")
    into = nested(c, VISION).num("hidden_size")
    yield from mlp(f"{at}connector.modality_projection", into, inner, width)
    yield from perceiver(nested(c, PERCEIVER), f"{at}{PERCEIVER.path}", width)


def folded(c: Config, at: str) -> Iterator[Param]:
    into = nested(c, VISION).num("hidden_size") * c.num("scale_factor") ** 2
    out = nested(c, TEXT).num("hidden_size")
    yield from linear(f"{at}connector.modality_projection.proj", out, into)


def family_of(name: str, connector: ParamRule, *blocks: str) -> Family:
    return composite(
        TEXT,
        VISION,
        own=connector,
        projectors=("connector.",),
        cls=f"{name}ForConditionalGeneration",
        own_blocks=blocks,
        heads={"ForConditionalGeneration": text_head(TEXT)},
    )


VISION_TOWER = Family(
    body=vision,
    base="",
    cls="Idefics3VisionTransformer",
    heads={"VisionTransformer": nothing},
    blocks=("encoder.layers.*.self_attn",),
)
IDEFICS2 = family_of(
    "Idefics2", resampled, "connector.modality_projection", "connector.perceiver_resampler.layers.*"
)
IDEFICS3 = family_of("Idefics3", folded)
SMOLVLM = family_of("SmolVLM", folded)

TYPES = {
    "idefics2": ModelType(
        IDEFICS2,
        language="text_config",
        sees=Sight(images.idefics2),
        transformers=TransformersFacts(sdpa=(4, 46)),
    ),
    "idefics2_vision": ModelType(VISION_TOWER, no_cache="image"),
    "idefics3": ModelType(
        IDEFICS3,
        language="text_config",
        sees=Sight(images.idefics3),
        transformers=TransformersFacts(last_logits=(4, 46)),
    ),
    "idefics3_vision": ModelType(VISION_TOWER, no_cache="image"),
    "smolvlm": ModelType(SMOLVLM, language="text_config", sees=Sight(images.idefics3)),
    "smolvlm_vision": ModelType(VISION_TOWER, no_cache="image"),
}

"""IDEFICS, the first, the second and the third, and SmolVLM.

Idefics 2 and 3, SmolVLM: a SigLIP tower without its head, a connector, a language model.

    Idefics2 resamples each image to n latents (perceiver); the later ones fold s x s patches
    into one and project them with a single Linear

Sources: transformers 5.23 models/{idefics2,idefics3,smolvlm}/modeling_*.py.

IDEFICS (the first): a Llama with gated layers in between that look at the images.

    every n-th layer is preceded by cross-attention over the tower's width, behind two gates;
    words that were added have an embedding and a head of their own

Source: transformers 5.23 models/idefics/{modeling_idefics,vision,perceiver}.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    conv,
    embedding,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.models.arch.compose import Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.clip import clip_vision, layers, patch_kernel, side
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import layernorm, nothing

TEXT = Inner(path="text_model.")
VISION = Inner(path="vision_model.", config="vision_config", label="vision tower")
PERCEIVER = Inner(
    path="connector.perceiver_resampler.", config="perceiver_config", label="projector"
)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from conv(f"{prefix}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{prefix}embeddings.position_embedding", side(c) ** 2, width)
    yield from layers(c, prefix)
    yield from layernorm(f"{prefix}post_layernorm", width)


def mlp(prefix: str, into: int, inner: int, out: int) -> Iterator[Param]:
    yield from linear(f"{prefix}.gate_proj", inner, into)
    yield from linear(f"{prefix}.up_proj", inner, into)
    yield from linear(f"{prefix}.down_proj", out, inner)


def perceiver_layer(c: Config, prefix: str, width: int) -> Iterator[Param]:
    size = c.num("resampler_head_dim")
    heads, kv_heads = c.num("resampler_n_heads"), c.num("num_key_value_heads")
    yield from linear(f"{prefix}self_attn.q_proj", heads * size, width)
    yield from linear(f"{prefix}self_attn.k_proj", kv_heads * size, width)
    yield from linear(f"{prefix}self_attn.v_proj", kv_heads * size, width)
    yield from linear(f"{prefix}self_attn.o_proj", width, heads * size)
    yield from mlp(f"{prefix}mlp", width, 4 * width, width)
    for name in ("input_latents_norm", "input_context_norm", "post_attention_layernorm"):
        yield from norm(f"{prefix}{name}", width)


def perceiver(c: Config, prefix: str, width: int) -> Iterator[Param]:
    yield Param(f"{prefix}latents", (c.num("resampler_n_latents"), width), "other")
    for i in range(c.layers("resampler_depth")):
        yield from perceiver_layer(c, f"{prefix}layers.{i}.", width)
    yield from norm(f"{prefix}norm", width)


def resampled(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Idefics2's connector: an MLP and the perceiver, both of the language model's width."""
    text = nested(c, TEXT)
    width, inner = text.num("hidden_size"), text.num("intermediate_size")
    into = nested(c, VISION).num("hidden_size")
    yield from mlp(f"{prefix}connector.modality_projection", into, inner, width)
    yield from perceiver(nested(c, PERCEIVER), f"{prefix}{PERCEIVER.path}", width)


def folded(c: Config, prefix: str) -> Iterator[Param]:
    into = nested(c, VISION).num("hidden_size") * c.num("scale_factor") ** 2
    out = nested(c, TEXT).num("hidden_size")
    yield from linear(f"{prefix}connector.modality_projection.proj", out, into)


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


IDEFICS_POSITIONS = 2048  # default of IdeficsEmbedding, which no config changes


def parts(c: Config) -> tuple[Config, Config]:
    return (
        c.sub("vision_config"),
        c.sub("perceiver_config"),  # so spelt
    )


def attention(c: Config, prefix: str, seen: int, *, norms: bool) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), max(1, c.num("num_attention_heads"))
    yield from linear(f"{prefix}q_proj", width, width)
    yield from linear(f"{prefix}k_proj", width, seen)
    yield from linear(f"{prefix}v_proj", width, seen)
    yield from linear(f"{prefix}o_proj", width, width)
    for name in ("q_layer_norm", "k_layer_norm") if norms else ():
        yield from norm(f"{prefix}{name}", width // heads)


def layer(c: Config, prefix: str, name: str, seen: int) -> Iterator[Param]:
    width = c.num("hidden_size")
    norms = name == "cross_attn" and c.flag("qk_layer_norms")
    yield from attention(c, f"{prefix}{name}.", seen, norms=norms)
    yield from gated_mlp(f"{prefix}mlp", width, c.num("intermediate_size"))
    yield from norm(f"{prefix}input_layernorm", width)
    yield from norm(f"{prefix}post_attention_layernorm", width)


def gates(c: Config, prefix: str) -> Iterator[Param]:
    shape = (
        (1,) if c.word("alpha_type", default="float") == "float" else (1, 1, c.num("hidden_size"))
    )
    yield Param(f"{prefix}alpha_cross_attn", shape, "other")
    yield Param(f"{prefix}alpha_dense", shape, "other")


def resampler(c: Config, prefix: str, width: int) -> Iterator[Param]:
    size = c.num("resampler_head_dim")
    inner = size * c.num("resampler_n_heads")
    yield Param(f"{prefix}latents", (c.num("resampler_n_latents"), width), "other")
    for i in range(c.layers("resampler_depth")):
        path = f"{prefix}blocks.{i}.0."
        yield from layernorm(f"{path}context_layer_norm", width)
        yield from layernorm(f"{path}latents_layer_norm", width)
        for name in ("q_layer_norm", "k_layer_norm") if c.flag("qk_layer_norms_perceiver") else ():
            yield from layernorm(f"{path}{name}", size)
        for name in ("q_proj", "k_proj", "v_proj"):
            yield from linear(f"{path}{name}", inner, width)
        yield from linear(f"{path}output_proj", width, inner)
        yield from layernorm(f"{prefix}blocks.{i}.1.ln", width)
        yield from linear(f"{prefix}blocks.{i}.1.fc", 4 * width, width)
        yield from linear(f"{prefix}blocks.{i}.1.c_proj", width, 4 * width)
    yield from layernorm(f"{prefix}layer_norm", width)


def crossings(c: Config) -> int:
    return c.layers("num_hidden_layers") // max(1, c.num("cross_layer_interval"))


def idefics(c: Config, prefix: str) -> Iterator[Param]:
    vision, perceiver = parts(c)
    width, seen, added = (
        c.num("hidden_size"),
        vision.num("embed_dim"),
        c.num("additional_vocab_size"),
    )
    yield from embedding(f"{prefix}embed_tokens", c.num("vocab_size"), width)
    if added:
        yield from embedding(f"{prefix}embed_tokens.additional_embedding", added, width)
    yield from clip_vision(vision, prefix)
    if c.flag("use_resampler"):
        yield from resampler(perceiver, f"{prefix}perceiver_resampler.", seen)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}layers.{i}.", "self_attn", width)
    for i in range(crossings(c)):
        yield from layer(c, f"{prefix}gated_cross_attn_layers.{i}.", "cross_attn", seen)
        yield from gates(c, f"{prefix}gated_cross_attn_layers.{i}.")
    yield from norm(f"{prefix}norm", width)


def head(c: Config, prefix: str) -> Iterator[Param]:
    width, added = c.num("hidden_size"), c.num("additional_vocab_size")
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), width)
    if added:
        words = f"{prefix}model.embed_tokens.additional_embedding.weight"
        owner = words if c.flag("tie_word_embeddings") else ""
        yield Param(f"{prefix}lm_head.additional_fc.weight", (added, width), tied=owner)


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield rotary frequencies for every attention, and before transformers 5 the cosines and sines
    of all positions (4.57, IdeficsEmbedding)."""
    places = side(parts(c)[0]) ** 2 + 1
    yield Buffer(f"{prefix}vision_model.embeddings.position_ids", (1, places), "int64")
    half = c.num("hidden_size") // max(1, c.num("num_attention_heads")) // 2
    angles = (IDEFICS_POSITIONS, 2 * half)
    paths = [f"layers.{i}.self_attn" for i in range(c.layers("num_hidden_layers"))]
    cross = [f"gated_cross_attn_layers.{i}.cross_attn" for i in range(crossings(c))]
    for path in paths + cross:
        for name in ("inv_freq", "original_inv_freq"):
            yield Buffer(f"{prefix}{path}.rotary_emb.{name}", (half,), "float32")
        for name in ("cos_cached", "sin_cached"):
            yield Buffer(f"{prefix}{path}.rotary_emb.{name}", angles, "", until=5)


IDEFICS = Family(
    body=idefics,
    cls="IdeficsForVisionText2Text",
    heads={"ForVisionText2Text": head},
    buffers=buffers,
    blocks=("layers.*", "gated_cross_attn_layers.*", "vision_model.encoder.layers.*"),
    parts=(("vision_model.", "vision tower"), ("perceiver_resampler.", "projector")),
)


TYPES = {
    "idefics2": ModelType(IDEFICS2, language="text_config", sees=Sight(images.idefics2)),
    "idefics2_vision": ModelType(VISION_TOWER, no_cache="image"),
    "idefics3": ModelType(IDEFICS3, language="text_config", sees=Sight(images.idefics3)),
    "idefics3_vision": ModelType(VISION_TOWER, no_cache="image"),
    "smolvlm": ModelType(SMOLVLM, language="text_config", sees=Sight(images.idefics3)),
    "smolvlm_vision": ModelType(VISION_TOWER, no_cache="image"),
    "idefics": ModelType(IDEFICS, layers="multi_head", sees=Sight(images.perceived)),
}

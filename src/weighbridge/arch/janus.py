"""Janus: a SigLIP tower to understand images, a VQGAN to draw them, one Llama.

    aligner, generation_aligner: Linear to D, then D x D for each further layer
    generation_head: Linear, then over the codes of the VQGAN

Source: transformers 5.23 models/janus/modeling_janus.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, embedding, linear
from weighbridge.arch.clip import patch_kernel, side
from weighbridge.arch.compose import TEXT, Inner, composite, nested, text_head
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight
from weighbridge.arch.vision import layernorm, scaled

VISION = Inner(
    path="vision_model.",
    config="vision_config",
    label="vision tower",
)
VQ = Inner(path="vqmodel.", config="vq_config", label="vision tower")


def layer(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    inner, bias = scaled(c, width, "mlp_ratio"), c.flag("attention_bias", default=True)
    yield from layernorm(f"{at}layer_norm1", width)
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from linear(f"{at}self_attn.{name}", width, width, bias=bias)
    yield from linear(f"{at}self_attn.projection_layer", width, width, bias=True)
    for name in ("q_norm", "k_norm") if c.flag("use_qk_norm") else ():
        yield from layernorm(f"{at}self_attn.{name}", width)
    yield from layernorm(f"{at}layer_norm2", width)
    yield from linear(f"{at}mlp.fc1", inner, width, bias=True)
    yield from linear(f"{at}mlp.fc2", width, inner, bias=True)


def vision(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from conv(f"{at}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{at}embeddings.position_embedding", side(c) ** 2, width)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{at}encoder.layers.{i}.")
    yield from layernorm(f"{at}post_layernorm", width)


def ids(c: Config, at: str) -> Iterator[Buffer]:
    yield Buffer(f"{at}embeddings.position_ids", (1, side(c) ** 2), "int64")


def aligner(at: str, into: int, out: int, depth: int) -> Iterator[Param]:
    yield from linear(f"{at}fc1", out, into, bias=True)
    for i in range(depth - 1):
        yield from linear(f"{at}hidden_layers.{i}", out, out, bias=True)


def own(c: Config, at: str) -> Iterator[Param]:
    tower, vq = nested(c, VISION), nested(c, VQ)
    codes, width, out = vq.num("num_embeddings"), vq.num("embed_dim"), vq.num("projection_dim")
    into = tower.num("hidden_size")
    yield from aligner(f"{at}aligner.", into, tower.num("projection_dim"), tower.layers("depth"))
    yield from embedding(f"{at}generation_embeddings", codes, width)
    depth = vq.layers("num_hidden_layers")
    yield from aligner(f"{at}generation_aligner.", width, out, depth)
    seen = vq.num("image_token_embed_dim")
    yield from linear(f"{at}generation_head.proj_out", out, seen, bias=True)
    yield from linear(f"{at}generation_head.vision_head", codes, out, bias=True)


JANUS_VISION = Family(
    body=vision, cls="JanusVisionModel", buffers=ids, blocks=("encoder.layers.*",)
)
JANUS = composite(
    TEXT,
    VISION,
    VQ,
    own=own,
    projectors=("aligner.", "generation_"),
    cls="JanusForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head()},
)

TYPES = {
    "janus": ModelType(
        JANUS, language="text_config", sees=Sight(images.native, within="vision_model")
    ),
    "janus_vision_model": ModelType(JANUS_VISION, no_cache="image"),
}

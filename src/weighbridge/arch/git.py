"""GIT: a BERT that reads the output of a CLIP tower before its words.

    projection: Linear W x D and LayerNorm; one learned vector for each of several frames

Source: transformers 5.23 models/git/modeling_git.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, linear
from weighbridge.arch.clip import CLIP_VISION, chinese_layer, clip_ids, clip_vision
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight, TransformersFacts
from weighbridge.arch.vision import layernorm


def tower(c: Config) -> Config:
    return c.sub("vision_config")


def git(c: Config, at: str) -> Iterator[Param]:
    vision, width = tower(c), c.num("hidden_size")
    yield from embedding(f"{at}embeddings.word_embeddings", c.num("vocab_size"), width)
    positions = c.num("max_position_embeddings")
    yield from embedding(f"{at}embeddings.position_embeddings", positions, width)
    yield from layernorm(f"{at}embeddings.LayerNorm", width)
    yield from clip_vision(vision, f"{at}image_encoder.")
    for i in range(c.layers("num_hidden_layers")):
        yield from chinese_layer(c, f"{at}encoder.layer.{i}.")
    path = f"{at}visual_projection.visual_projection."
    yield from linear(f"{path}0", width, vision.num("hidden_size"), bias=True)
    yield from layernorm(f"{path}1", width)
    for i in range(c.layers("num_image_with_embedding", default=0)):
        shape = (1, 1, vision.num("hidden_size"))
        yield Param(f"{at}img_temporal_embedding.{i}", shape, "other")


def ids(c: Config, at: str) -> Iterator[Buffer]:
    rows = c.num("max_position_embeddings")
    yield Buffer(f"{at}embeddings.position_ids", (1, rows), "int64")
    yield from clip_ids(tower(c), f"{at}image_encoder.")


def output(c: Config, at: str) -> Iterator[Param]:
    words = "git.embeddings.word_embeddings.weight"
    owner = f"{at}{words}" if c.flag("tie_word_embeddings") else ""
    shape = (c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{at}output.weight", shape, tied=owner)
    yield Param(f"{at}output.bias", shape[:1], "bias")


GIT = Family(
    body=git,
    base="git",
    cls="GitForCausalLM",
    heads={"ForCausalLM": output},
    buffers=ids,
    blocks=(),
    parts=(
        ("image_encoder.", "vision tower"),
        ("visual_projection.", "projector"),
        ("img_temporal_embedding.", "projector"),
    ),
)

TYPES = {
    "git": ModelType(
        GIT,
        layers="attention.multi_head",
        sees=Sight(images.native),
        computes=("not_rotary",),
        transformers=TransformersFacts(caches=(4, 45), last_logits=(5, 0)),
    ),
    "git_vision_model": ModelType(
        CLIP_VISION, no_cache="image", sees=Sight(images.native, tower=""), beside_patches=1
    ),
}

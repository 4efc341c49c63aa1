"""BLIP-2 and InstructBLIP: a tower, a Q-Former that reads it with n queries, a language model.

    Q-Former: BERT layers over the queries, every second one with cross-attention to the tower;
    layers have a second MLP for text where the Q-Former reads any

Sources: transformers 5.23 models/{blip_2,instructblip}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.base.records import replace
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    embedding,
)
from weighbridge.models.arch.compose import Inner, composite, nested
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.blip import attention as text_attention
from weighbridge.models.arch.families.blip import vision
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import layernorm, nothing

TEXT = Inner(
    path="language_model.",
    head="ForCausalLM",
    other_head="ForConditionalGeneration",
)
VISION = Inner(path="vision_model.", config="vision_config", label="vision tower")
QFORMER = Inner(path="qformer.", config="qformer_config", label="projector")


def attention(prefix: str, width: int, seen: int) -> Iterator[Param]:
    for p in text_attention(prefix, width, seen):
        yield p._replace(name=p.name.replace(f"{prefix}self.", f"{prefix}attention."))


def feed_forward(c: Config, prefix: str, ending: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from affine(f"{prefix}intermediate{ending}.dense", inner, width)
    yield from affine(f"{prefix}output{ending}.dense", width, inner)
    yield from layernorm(f"{prefix}output{ending}.LayerNorm", width)


def layers(c: Config, prefix: str, seen: int, *, reads_text: bool) -> Iterator[Param]:
    width, period = c.num("hidden_size"), max(1, c.num("cross_attention_frequency"))
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}encoder.layer.{i}."
        yield from attention(f"{path}attention.", width, width)
        if i % period == 0:
            yield from attention(f"{path}crossattention.", width, seen)
        if reads_text:
            yield from feed_forward(c, path, "")
        yield from feed_forward(c, path, "_query")


def qformer(c: Config, prefix: str, seen: int) -> Iterator[Param]:
    reads_text = c.flag("use_qformer_text_input")
    yield from layernorm(f"{prefix}layernorm", c.num("hidden_size"))
    yield from layers(c, prefix, seen, reads_text=reads_text)


def text_embeddings(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{prefix}embeddings.word_embeddings", c.num("vocab_size"), width)
    positions = c.num("max_position_embeddings")
    yield from embedding(f"{prefix}embeddings.position_embeddings", positions, width)


def instruct_qformer(c: Config, prefix: str, seen: int) -> Iterator[Param]:
    yield from text_embeddings(c, prefix)
    yield from layernorm(f"{prefix}embeddings.layernorm", c.num("hidden_size"))
    yield from layers(c, prefix, seen, reads_text=True)


def alone(c: Config, prefix: str) -> Iterator[Param]:
    """Yield a Q-Former that has a separate config, as in Granite Speech."""
    yield from qformer(c, prefix, c.num("encoder_hidden_size"))


def queries(c: Config, prefix: str) -> Iterator[Param]:
    width = nested(c, QFORMER).num("hidden_size")
    yield Param(f"{prefix}query_tokens", (1, c.num("num_query_tokens"), width), "other")


def seen_width(c: Config) -> int:
    """Return the width of the Q-Former's cross-attention input: the tower's, whatever the
    Q-Former's config states."""
    return nested(c, VISION).num("hidden_size")


def bridge(c: Config, prefix: str) -> Iterator[Param]:
    yield from queries(c, prefix)
    yield from qformer(nested(c, QFORMER), f"{prefix}qformer.", seen_width(c))


def projected(c: Config, prefix: str) -> Iterator[Param]:
    yield from bridge(c, prefix)
    yield from to_language(c, prefix)


def instruct(c: Config, prefix: str) -> Iterator[Param]:
    yield from queries(c, prefix)
    yield from instruct_qformer(nested(c, QFORMER), f"{prefix}qformer.", seen_width(c))
    yield from to_language(c, prefix)


def to_language(c: Config, prefix: str) -> Iterator[Param]:
    into, out = nested(c, QFORMER).num("hidden_size"), nested(c, TEXT).num("hidden_size")
    yield from affine(f"{prefix}language_projection", out, into)


def project(*names: str) -> ParamRule:
    def head(c: Config, prefix: str) -> Iterator[Param]:
        width, out = nested(c, QFORMER).num("hidden_size"), c.num("image_text_hidden_size")
        for name in names:
            yield from affine(f"{prefix}{name}", 2 if name == "itm_head" else out, width)

    return head


def with_text(c: Config, prefix: str) -> Iterator[Param]:
    yield from text_embeddings(nested(c, QFORMER), prefix)
    yield from bridge(c, prefix)


def ids(c: Config, prefix: str) -> Iterator[Buffer]:
    rows = nested(c, QFORMER).num("max_position_embeddings")
    yield Buffer(f"{prefix}embeddings.position_ids", (1, rows), "int64")


def qformer_ids(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from ids(c, f"{prefix}qformer.")


ATTENTION = (
    "qformer.encoder.layer.*.attention.attention",
    "qformer.encoder.layer.*.crossattention.attention",
)
INSTRUCT = ("qformer.embeddings", "qformer.encoder.layer.*")
PROJECTORS = ("query_tokens", "qformer.", "language_projection.", "vision_projection.")
VISION_HEAD, TEXT_HEAD = "VisionModelWithProjection", "TextModelWithProjection"
RETRIEVAL = "ForImageTextRetrieval"
BLIP2_VISION = Family(
    body=vision, cls="Blip2VisionModel", blocks=("embeddings", "encoder.layers.*")
)
BLIP2_QFORMER = Family(body=alone, cls="Blip2QFormerModel", blocks=())
BLIP2 = composite(
    TEXT,
    VISION,
    own=projected,
    own_blocks=ATTENTION,
    projectors=PROJECTORS,
    base="",
    cls="Blip2ForConditionalGeneration",
    heads={"ForConditionalGeneration": nothing},
    classes={
        VISION_HEAD: composite(
            VISION,
            own=bridge,
            own_blocks=ATTENTION,
            projectors=PROJECTORS,
            base="",
            heads={VISION_HEAD: project("vision_projection")},
        ),
        TEXT_HEAD: composite(
            own=with_text,
            own_blocks=("embeddings", *ATTENTION),
            held=ids,
            base="",
            heads={TEXT_HEAD: project("text_projection")},
        ),
        RETRIEVAL: composite(
            VISION,
            own=with_text,
            own_blocks=("embeddings", *ATTENTION),
            held=ids,
            projectors=PROJECTORS,
            base="",
            heads={RETRIEVAL: project("vision_projection", "text_projection", "itm_head")},
        ),
    },
)
INSTRUCT_VISION = Family(body=vision, cls="InstructBlipVisionModel", blocks=("encoder.layers.*",))
INSTRUCTBLIP = composite(
    replace(TEXT, head="", other_head=""),
    VISION,
    own=instruct,
    own_blocks=INSTRUCT,
    held=qformer_ids,
    projectors=PROJECTORS,
    cls="InstructBlipForConditionalGeneration",
    classes={
        "ForConditionalGeneration": composite(
            TEXT,
            VISION,
            own=instruct,
            own_blocks=INSTRUCT,
            held=qformer_ids,
            projectors=PROJECTORS,
            base="",
            heads={"ForConditionalGeneration": nothing},
        )
    },
)

TYPES = {
    "blip-2": ModelType(
        BLIP2, language="text_config", sees=Sight(images.queried), encoder="text_config"
    ),
    "blip_2_qformer": ModelType(BLIP2_QFORMER, no_cache="encoder"),
    "blip_2_vision_model": ModelType(BLIP2_VISION, no_cache="image", beside_patches=1),
    "instructblip": ModelType(
        INSTRUCTBLIP, language="text_config", sees=Sight(images.queried), encoder="text_config"
    ),
    "instructblip_vision_model": ModelType(INSTRUCT_VISION, no_cache="image", beside_patches=1),
}

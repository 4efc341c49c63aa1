"""LayoutLMv3: BERT's layers over words, where these stand on the page, and patches of its image.

    words V x D; x and y tables C wide, height and width tables S wide (2C + 4S in all: D)
    patches D x channels x p x p, (size / p)^2 + 1 positions, a class token
    bias of N x bins by relative position, one for x and one for y, shared by all layers

Source: transformers 5.23 models/layoutlmv3/modeling_layoutlmv3.py.
"""

from collections.abc import Iterator

from weighbridge.arch.bert import encoder, words
from weighbridge.arch.blueprint import Buffer, Family, Param, conv, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.encoder_heads import dense_project, ids, project
from weighbridge.arch.heads import labels
from weighbridge.arch.model_types import ModelType

PLANES = {"x": "coordinate_size", "y": "coordinate_size", "h": "shape_size", "w": "shape_size"}


def patches(c: Config) -> int:
    return (c.num("input_size") // max(1, c.num("patch_size"))) ** 2 + 1  # and the class token


def text(c: Config, at: str) -> Iterator[Param]:
    path, rows = f"{at}embeddings.", c.num("max_2d_position_embeddings")
    yield from words(c, at, c.num("hidden_size"))
    positions = c.num("max_position_embeddings")
    yield from embedding(f"{path}position_embeddings", positions, c.num("hidden_size"))
    for plane, size in PLANES.items():
        yield from embedding(f"{path}{plane}_position_embeddings", rows, c.num(size))


def image(c: Config, at: str) -> Iterator[Param]:
    width, side = c.num("hidden_size"), c.num("patch_size")
    yield Param(f"{at}cls_token", (1, 1, width), "other")
    yield Param(f"{at}pos_embed", (1, patches(c), width), "other")
    yield from conv(f"{at}patch_embed.proj", (width, c.num("num_channels"), side, side))
    yield from norm(f"{at}LayerNorm", width, bias=True)
    yield from norm(f"{at}norm", width, bias=True)


def biases(c: Config, at: str) -> Iterator[Param]:
    heads = c.num("num_attention_heads")
    if c.flag("has_relative_attention_bias"):
        yield from linear(f"{at}encoder.rel_pos_bias", heads, c.num("rel_pos_bins"))
    if c.flag("has_spatial_attention_bias"):
        for axis in "xy":
            yield from linear(f"{at}encoder.rel_pos_{axis}_bias", heads, c.num("rel_2d_pos_bins"))


def layoutlmv3(c: Config, at: str) -> Iterator[Param]:
    if c.flag("text_embed", default=True):
        yield from text(c, at)
    if c.flag("visual_embed", default=True):
        yield from image(c, at)
    yield from encoder(c, at)
    yield from biases(c, at)


def token_classifier(c: Config, at: str) -> Iterator[Param]:
    """One Linear; two from ten labels on."""
    head = project("classifier") if labels(c) < 10 else dense_project("classifier")
    yield from head(c, at)


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    biased = c.flag("has_relative_attention_bias") or c.flag("has_spatial_attention_bias")
    if c.flag("visual_embed", default=True) and biased:
        yield Buffer(f"{at}visual_bbox", (patches(c), 4), "int64")
    if c.flag("text_embed", default=True):
        yield from ids("position_ids")(c, at)


LAYOUTLMV3 = Family(
    body=layoutlmv3,
    base="layoutlmv3",
    cls="LayoutLMv3Model",
    heads={
        "ForSequenceClassification": dense_project("classifier"),
        "ForTokenClassification": token_classifier,
        "ForQuestionAnswering": dense_project("qa_outputs"),
    },
    buffers=buffers,
    blocks=(),
)

TYPES = {
    "layoutlmv3": ModelType(LAYOUTLMV3, no_cache="encoder", positions="after_padding"),
}

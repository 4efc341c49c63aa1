"""RoBERTa and its kin, with LayoutLMv3.

RoBERTa and its relatives: CamemBERT, XLM-RoBERTa (also XL), Longformer, MPNet.

BERT's layer under other heads: `lm_head` with its own dense and norm, a classifier of two Linears
instead of a pooler. XL has its norms before the sublayers; Longformer has a second set of query,
key and value for global attention; MPNet has one table of relative positions for all layers.

Source: transformers 5.23 models/{roberta,xlm_roberta_xl,longformer,mpnet}/modeling_*.py.

LayoutLMv3: BERT's layers over words, where these stand on the page, and patches of its image.

    words V x D; x and y tables C wide, height and width tables S wide (2C + 4S in all: D)
    patches D x channels x p x p, (size / p)^2 + 1 positions, a class token
    bias of N x bins by relative position, one for x and one for y, shared by all layers

Source: transformers 5.23 models/layoutlmv3/modeling_layoutlmv3.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.bert import (
    WORDS,
    attention,
    attention_output,
    crosses,
    embeddings,
    encoder,
    feed_forward,
    positions,
    words,
)
from weighbridge.models.arch.heads import (
    Buffers,
    dense_project,
    ids,
    joined,
    labels,
    pooler,
    project,
    roberta_lm_head,
)
from weighbridge.models.arch.model_types import ModelType

IDS = ids("position_ids", "token_type_ids")
LAYERS = ("encoder.layer.*",)


def xl_attention(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from attention(c, prefix)
    yield from affine(f"{prefix}output.dense", width, width)
    yield from layer_norm(f"{prefix}self_attn_layer_norm", width)


def xl_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from xl_attention(c, f"{prefix}attention.")
    if crosses(c):
        yield from xl_attention(c, f"{prefix}crossattention.")
    yield from affine(f"{prefix}intermediate.dense", inner, width)
    yield from affine(f"{prefix}output.dense", width, inner)
    yield from layer_norm(f"{prefix}LayerNorm", width)


def xl(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    c.skip("num_attention_heads")
    path = f"{prefix}embeddings."
    yield from embedding(f"{path}word_embeddings", c.num("vocab_size"), width)
    yield from embedding(f"{path}token_type_embeddings", c.num("type_vocab_size"), width)
    yield from positions(c, prefix, width)
    for i in range(c.layers("num_hidden_layers")):
        yield from xl_layer(c, f"{prefix}encoder.layer.{i}.")
    yield from layer_norm(f"{prefix}encoder.LayerNorm", width)


def longformer(c: Config, prefix: str) -> Iterator[Param]:
    c.skip("attention_window")
    yield from embeddings(c, prefix)
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}encoder.layer.{i}."
        yield from attention(c, f"{path}attention.")
        yield from attention(c, f"{path}attention.", suffix="_global")
        yield from attention_output(c, f"{path}attention.")
        yield from feed_forward(c, path)


def mpnet_layer(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    for name in "qkvo":
        yield from affine(f"{prefix}attention.attn.{name}", width, width)
    yield from layer_norm(f"{prefix}attention.LayerNorm", width)
    yield from feed_forward(c, prefix)


def mpnet(c: Config, prefix: str) -> Iterator[Param]:
    width, path = c.num("hidden_size"), f"{prefix}embeddings."
    c.skip("type_vocab_size")  # of RoBERTa, whose segments MPNet dropped
    yield from embedding(f"{path}word_embeddings", c.num("vocab_size"), width)
    yield from positions(c, prefix, width)
    yield from layer_norm(f"{path}LayerNorm", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from mpnet_layer(c, f"{prefix}encoder.layer.{i}.")
    buckets, heads = c.num("relative_attention_num_buckets"), c.num("num_attention_heads")
    yield from embedding(f"{prefix}encoder.relative_attention_bias", buckets, heads)


def relatives(
    stack: ParamRule, base: str, cls: str, buffers: Buffers | None, blocks: tuple[str, ...]
) -> Family:
    """Return a family of RoBERTa's kind; only the base and ForMultipleChoice have a pooler."""
    lm = roberta_lm_head(f"{base}.{WORDS}")
    heads = {
        "ForMaskedLM": lm,
        "ForCausalLM": lm,
        "ForSequenceClassification": dense_project("classifier"),
        "ForTokenClassification": project("classifier"),
        "ForQuestionAnswering": project("qa_outputs"),
    }
    bare = Family(body=stack, base=base, heads=heads, buffers=buffers, blocks=blocks)
    return Family(
        body=joined(stack, pooler),
        base=base,
        cls=cls,
        heads={"ForMultipleChoice": project("classifier", 1)},
        classes=dict.fromkeys(heads, bare),
        buffers=buffers,
        blocks=blocks,
    )


BLOCKS = ("embeddings", *LAYERS)
BODY = joined(embeddings, encoder)
ROBERTA = relatives(BODY, base="roberta", cls="RobertaModel", buffers=IDS, blocks=BLOCKS)
CAMEMBERT = relatives(BODY, base="roberta", cls="CamembertModel", buffers=IDS, blocks=BLOCKS)
XLM_ROBERTA = relatives(BODY, base="roberta", cls="XLMRobertaModel", buffers=IDS, blocks=BLOCKS)
XLM_ROBERTA_XL = relatives(xl, base="roberta", cls="XLMRobertaXLModel", buffers=IDS, blocks=BLOCKS)
LONGFORMER = relatives(
    longformer,
    base="longformer",
    cls="LongformerModel",
    buffers=None,
    blocks=("encoder.layer.*.attention.self",),
)
MPNET = relatives(mpnet, base="mpnet", cls="MPNetModel", buffers=ids("position_ids"), blocks=())


PLANES = {"x": "coordinate_size", "y": "coordinate_size", "h": "shape_size", "w": "shape_size"}


def patches(c: Config) -> int:
    return (c.num("input_size") // max(1, c.num("patch_size"))) ** 2 + 1  # and the class token


def text(c: Config, prefix: str) -> Iterator[Param]:
    path, rows = f"{prefix}embeddings.", c.num("max_2d_position_embeddings")
    yield from words(c, prefix, c.num("hidden_size"))
    positions = c.num("max_position_embeddings")
    yield from embedding(f"{path}position_embeddings", positions, c.num("hidden_size"))
    for plane, size in PLANES.items():
        yield from embedding(f"{path}{plane}_position_embeddings", rows, c.num(size))


def image(c: Config, prefix: str) -> Iterator[Param]:
    width, side = c.num("hidden_size"), c.num("patch_size")
    yield Param(f"{prefix}cls_token", (1, 1, width), "other")
    yield Param(f"{prefix}pos_embed", (1, patches(c), width), "other")
    yield from conv(f"{prefix}patch_embed.proj", (width, c.num("num_channels"), side, side))
    yield from layer_norm(f"{prefix}LayerNorm", width)
    yield from layer_norm(f"{prefix}norm", width)


def biases(c: Config, prefix: str) -> Iterator[Param]:
    heads = c.num("num_attention_heads")
    if c.flag("has_relative_attention_bias"):
        yield from linear(f"{prefix}encoder.rel_pos_bias", heads, c.num("rel_pos_bins"))
    if c.flag("has_spatial_attention_bias"):
        for axis in "xy":
            yield from linear(
                f"{prefix}encoder.rel_pos_{axis}_bias", heads, c.num("rel_2d_pos_bins")
            )


def layoutlmv3(c: Config, prefix: str) -> Iterator[Param]:
    if c.enabled("text_embed"):
        yield from text(c, prefix)
    if c.enabled("visual_embed"):
        yield from image(c, prefix)
    yield from encoder(c, prefix)
    yield from biases(c, prefix)


def token_classifier(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the token classifier: one Linear, or two from ten labels on."""
    head = project("classifier") if labels(c) < 10 else dense_project("classifier")
    yield from head(c, prefix)


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    biased = c.flag("has_relative_attention_bias") or c.flag("has_spatial_attention_bias")
    if c.enabled("visual_embed") and biased:
        yield Buffer(f"{prefix}visual_bbox", (patches(c), 4), "int64")
    if c.enabled("text_embed"):
        yield from ids("position_ids")(c, prefix)


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


_reads = partial(
    ModelType,
    no_cache="encoder",
    positions="after_padding",
    decodes=True,
    computes=("not_rotary", "norms_behind", "own_softmax"),
)
TYPES = {
    "roberta": _reads(ROBERTA, gguf="bert"),
    "camembert": _reads(CAMEMBERT, gguf="bert"),
    "xlm-roberta": _reads(XLM_ROBERTA, gguf="bert"),
    "xlm-roberta-xl": ModelType(
        XLM_ROBERTA_XL,
        no_cache="encoder",
        positions="after_padding",
        computes=("not_rotary", "own_softmax"),
    ),
    "longformer": ModelType(
        LONGFORMER,
        no_cache="encoder",
        encoder_heads="window_by_layer",
        positions="after_padding",
        gguf="none",
    ),
    "mpnet": ModelType(
        MPNET,
        no_cache="encoder",
        positions="after_padding",
        computes=("not_rotary", "norms_behind", "own_softmax", "kept_scores"),
        gguf="none",
    ),
    "layoutlmv3": ModelType(LAYOUTLMV3, no_cache="encoder", positions="after_padding"),
}

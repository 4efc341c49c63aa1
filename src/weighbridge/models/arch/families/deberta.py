"""DeBERTa and DeBERTa-v2/v3: content and position attended to apart.

    v1  in_proj 3D x D without bias, q_bias, v_bias; relative: pos_proj, pos_q_proj in each layer
    v2  query, key, value with bias; relative: the same projections unless share_att_key

Relative attention has one table for all layers, 2 x span rows: span is `position_buckets` (v2),
else `max_relative_positions`, else the number of positions; what is not positive is unset.

Source: transformers 5.23 models/{deberta,deberta_v2}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import (
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
from weighbridge.models.arch.families.bert import WORDS, attention_output, feed_forward
from weighbridge.models.arch.heads import ids, labels, prediction_head, project
from weighbridge.models.arch.model_types import ModelType


def embedding_size(c: Config) -> int:
    return c.num("embedding_size", default=c.num("hidden_size"))


def positive(c: Config, name: str) -> int:
    """Return a size of the config; 0 if it is missing or -1, which means unset."""
    return 0 if c.get(name) in (None, -1) else c.num(name)


def span(c: Config, *names: str) -> int:
    sizes = (positive(c, name) for name in names)
    return next((size for size in sizes if size), c.num("max_position_embeddings"))


def position_kinds(c: Config) -> set[str]:
    """Return the kinds of relative attention ("c2p", "p2c"), from a list or from "c2p|p2c"; empty
    without relative attention."""
    kinds = c.get("pos_att_type") or []
    if isinstance(kinds, str):
        kinds = kinds.lower().split("|")
    return {str(kind).strip() for kind in kinds} if c.flag("relative_attention") else set()


def embeddings(c: Config, prefix: str) -> Iterator[Param]:
    path, width = f"{prefix}embeddings.", embedding_size(c)
    c.skip("num_attention_heads", "pooler_hidden_size")
    yield from embedding(f"{path}word_embeddings", c.num("vocab_size"), width)
    if c.enabled("position_biased_input"):
        yield from embedding(f"{path}position_embeddings", c.num("max_position_embeddings"), width)
    if segments := c.num("type_vocab_size", default=0):
        yield from embedding(f"{path}token_type_embeddings", segments, width)
    if width != c.num("hidden_size"):
        yield from linear(f"{path}embed_proj", c.num("hidden_size"), width)
    yield from layer_norm(f"{path}LayerNorm", c.num("hidden_size"))


def attention_v1(c: Config, prefix: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), c.num("num_attention_heads")
    yield from linear(f"{prefix}in_proj", 3 * width, width)
    yield Param(f"{prefix}q_bias", (width,), "bias")
    yield Param(f"{prefix}v_bias", (width,), "bias")
    if c.flag("talking_head"):
        yield from linear(f"{prefix}head_logits_proj", heads, heads)
        yield from linear(f"{prefix}head_weights_proj", heads, heads)
    kinds = position_kinds(c)
    if "c2p" in kinds:
        yield from linear(f"{prefix}pos_proj", width, width)
    if "p2c" in kinds:
        yield from affine(f"{prefix}pos_q_proj", width, width)


def attention_v2(c: Config, prefix: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), c.num("num_attention_heads")
    inner = heads * c.num("attention_head_size", default=width // max(1, heads))
    for name in ("query_proj", "key_proj", "value_proj"):
        yield from affine(f"{prefix}{name}", inner, width)
    kinds = set() if c.flag("share_att_key") else position_kinds(c)
    if "c2p" in kinds:
        yield from affine(f"{prefix}pos_key_proj", inner, width)
    if "p2c" in kinds:
        yield from affine(f"{prefix}pos_query_proj", inner, width)


def layers(c: Config, prefix: str, attention: ParamRule) -> Iterator[Param]:
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}encoder.layer.{i}."
        yield from attention(c, f"{path}attention.self.")
        yield from attention_output(c, f"{path}attention.")
        yield from feed_forward(c, path)


def relative_table(c: Config, prefix: str, *names: str) -> Iterator[Param]:
    if c.flag("relative_attention"):
        rows = 2 * span(c, *names)
        yield from embedding(f"{prefix}encoder.rel_embeddings", rows, c.num("hidden_size"))


def deberta(c: Config, prefix: str) -> Iterator[Param]:
    yield from embeddings(c, prefix)
    yield from layers(c, prefix, attention_v1)
    yield from relative_table(c, prefix, "max_relative_positions")


def convolution(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the convolution next to the first layer, which only v2-xlarge has."""
    if kernel := c.num("conv_kernel_size", default=0):
        width = c.num("hidden_size")
        groups = max(1, c.num("conv_groups", default=1))
        yield from conv(f"{prefix}encoder.conv.conv", (width, width // groups, kernel))
        yield from layer_norm(f"{prefix}encoder.conv.LayerNorm", width)


def deberta_v2(c: Config, prefix: str) -> Iterator[Param]:
    yield from embeddings(c, prefix)
    yield from layers(c, prefix, attention_v2)
    yield from relative_table(c, prefix, "position_buckets", "max_relative_positions")
    if "layer_norm" in c.word("norm_rel_ebd", default="none").lower().split("|"):
        yield from layer_norm(f"{prefix}encoder.LayerNorm", c.num("hidden_size"))
    yield from convolution(c, prefix)


def masked_lm(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the masked-language head: with `legacy` BERT's, else one whose output matrix is the
    embedding."""
    if c.enabled("legacy"):
        owner = f"{prefix}deberta.{WORDS}"
        yield from prediction_head(c, f"{prefix}cls.predictions.", owner, width=embedding_size(c))
        return
    width, path = c.num("hidden_size"), f"{prefix}lm_predictions.lm_head."
    yield from affine(f"{path}dense", width, width)
    yield from layer_norm(f"{path}LayerNorm", width)
    yield Param(f"{path}bias", (c.num("vocab_size"),), "bias")


def pooled(outputs: int | None = None) -> ParamRule:
    """Return a rule for ContextPooler and a classifier with `outputs`, else one per label."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        width = c.num("pooler_hidden_size", default=c.num("hidden_size"))
        yield from affine(f"{prefix}pooler.dense", width, width)
        yield from affine(f"{prefix}classifier", outputs or labels(c), width)

    return body


HEADS = {
    "ForMaskedLM": masked_lm,
    "ForSequenceClassification": pooled(),
    "ForTokenClassification": project("classifier"),
    "ForQuestionAnswering": project("qa_outputs"),
}
IDS = ids("position_ids")
DEBERTA = Family(
    body=deberta, base="deberta", cls="DebertaModel", heads=HEADS, buffers=IDS, blocks=()
)
DEBERTA_V2 = Family(
    body=deberta_v2,
    base="deberta",
    cls="DebertaV2Model",
    heads={**HEADS, "ForMultipleChoice": pooled(1)},
    buffers=IDS,
    blocks=(),
)

TYPES = {
    "deberta": ModelType(
        DEBERTA,
        no_cache="encoder",
        computes=("not_rotary", "norms_behind", "relative_scores", "own_softmax"),
        gguf="none",
    ),
    "deberta-v2": ModelType(
        DEBERTA_V2,
        no_cache="encoder",
        computes=("not_rotary", "norms_behind", "relative_scores", "own_softmax"),
        gguf="none",
    ),
}

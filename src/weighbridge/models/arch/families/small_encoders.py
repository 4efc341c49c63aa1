"""Encoders that made BERT smaller: DistilBERT, ALBERT, MobileBERT, SqueezeBERT.

    DistilBERT   BERT's layer under other names, no segments, no pooler
    ALBERT       one group of layers, applied `num_hidden_layers` times: stored once
    MobileBERT   a bottleneck of width B around each layer, several feed-forwards inside
    SqueezeBERT  BERT with every projection a grouped convolution of kernel 1

Source: transformers 5.23 models/{distilbert,albert,mobilebert,squeezebert}/modeling_*.py.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

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
from weighbridge.models.arch.families.bert import WORDS, big_bird_pooler
from weighbridge.models.arch.heads import (
    decoder,
    ids,
    joined,
    pooler,
    prediction_head,
    project,
    tied,
)
from weighbridge.models.arch.model_types import ModelType

if TYPE_CHECKING:
    from weighbridge.models.arch.parts import Attention

IDS = ids("position_ids")


def distilbert_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("hidden_dim")
    for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
        yield from affine(f"{prefix}attention.{name}", width, width)
    yield from layer_norm(f"{prefix}sa_layer_norm", width)
    yield from affine(f"{prefix}ffn.lin1", inner, width)
    yield from affine(f"{prefix}ffn.lin2", width, inner)
    yield from layer_norm(f"{prefix}output_layer_norm", width)


def distilbert(c: Config, prefix: str) -> Iterator[Param]:
    width, path = c.num("hidden_size"), f"{prefix}embeddings."
    c.skip("n_heads", "num_attention_heads", "hidden_dim")
    yield from embedding(f"{path}word_embeddings", c.num("vocab_size"), width)
    yield from embedding(f"{path}position_embeddings", c.num("max_position_embeddings"), width)
    yield from layer_norm(f"{path}LayerNorm", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from distilbert_layer(c, f"{prefix}transformer.layer.{i}.")


def distilbert_lm(c: Config, prefix: str) -> Iterator[Param]:
    width, head = c.num("hidden_size"), f"{prefix}vocab_projector"
    yield from affine(f"{prefix}vocab_transform", width, width)
    yield from layer_norm(f"{prefix}vocab_layer_norm", width)
    params = affine(head, c.num("vocab_size"), width)
    yield from tied(c, params, {f"{head}.weight": f"{prefix}distilbert.{WORDS}"})


def distilbert_pooled(outputs: int | None = None) -> ParamRule:
    def pre_classifier(c: Config, prefix: str) -> Iterator[Param]:
        yield from affine(f"{prefix}pre_classifier", c.num("dim"), c.num("dim"))

    return joined(pre_classifier, project("classifier", outputs))


def bert_embeddings(c: Config, prefix: str, width: int) -> Iterator[Param]:
    """Yield the word, position and segment embeddings, each `width` wide, without their norm."""
    path = f"{prefix}embeddings."
    c.skip("num_attention_heads")
    yield from embedding(f"{path}word_embeddings", c.num("vocab_size"), width)
    yield from embedding(f"{path}position_embeddings", c.num("max_position_embeddings"), width)
    yield from embedding(f"{path}token_type_embeddings", c.num("type_vocab_size"), width)


def albert_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("query", "key", "value", "dense"):
        yield from affine(f"{prefix}attention.{name}", width, width)
    yield from layer_norm(f"{prefix}attention.LayerNorm", width)
    yield from affine(f"{prefix}ffn", inner, width)
    yield from affine(f"{prefix}ffn_output", width, inner)
    yield from layer_norm(f"{prefix}full_layer_layer_norm", width)


def albert(c: Config, prefix: str) -> Iterator[Param]:
    width, narrow = c.num("hidden_size"), c.num("embedding_size")
    c.layers("num_hidden_layers")  # how often the groups are applied: no tensors
    yield from bert_embeddings(c, prefix, narrow)
    yield from layer_norm(f"{prefix}embeddings.LayerNorm", narrow)
    yield from affine(f"{prefix}encoder.embedding_hidden_mapping_in", width, narrow)
    for group in range(c.layers("num_hidden_groups")):
        for i in range(c.layers("inner_group_num")):
            path = f"{prefix}encoder.albert_layer_groups.{group}.albert_layers.{i}."
            yield from albert_layer(c, path)


def albert_lm(c: Config, prefix: str) -> Iterator[Param]:
    narrow, path = c.num("embedding_size"), f"{prefix}predictions."
    yield Param(f"{path}bias", (c.num("vocab_size"),), "bias")
    yield from layer_norm(f"{path}LayerNorm", narrow)
    yield from affine(f"{path}dense", narrow, c.num("hidden_size"))
    yield from decoder(c, path, f"{prefix}albert.{WORDS}", narrow)


def inner_width(c: Config) -> int:
    """Return the width inside MobileBERT's layers: the bottleneck's, if there is one
    (`true_hidden_size`)."""
    name = "intra_bottleneck_size" if c.flag("use_bottleneck") else "hidden_size"
    return c.num(name)


def normed(path: str, outputs: int, inputs: int) -> Iterator[Param]:
    """Yield a Linear called `dense`, and the LayerNorm after it."""
    yield from affine(f"{path}dense", outputs, inputs)
    yield from layer_norm(f"{path}LayerNorm", outputs)


def mobilebert_ffn(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = inner_width(c), c.num("intermediate_size")
    yield from affine(f"{prefix}intermediate.dense", inner, width)
    yield from normed(f"{prefix}output.", width, inner)


def mobilebert_layer(c: Config, prefix: str) -> Iterator[Param]:
    outer, width = c.num("hidden_size"), inner_width(c)
    values = width if c.flag("use_bottleneck_attention") else outer
    for name, inputs in (("query", width), ("key", width), ("value", values)):
        yield from affine(f"{prefix}attention.self.{name}", width, inputs)
    yield from normed(f"{prefix}attention.output.", width, width)
    yield from mobilebert_ffn(c, prefix)
    for i in range(max(1, c.layers("num_feedforward_networks")) - 1):
        yield from mobilebert_ffn(c, f"{prefix}ffn.{i}.")
    if c.flag("use_bottleneck"):
        yield from normed(f"{prefix}output.bottleneck.", outer, width)
        yield from normed(f"{prefix}bottleneck.input.", width, outer)
        if c.flag("key_query_shared_bottleneck"):
            yield from normed(f"{prefix}bottleneck.attention.", width, outer)


def mobilebert(c: Config, prefix: str) -> Iterator[Param]:
    outer, narrow, path = c.num("hidden_size"), c.num("embedding_size"), f"{prefix}embeddings."
    c.skip("num_attention_heads", "intra_bottleneck_size")
    yield from embedding(f"{path}word_embeddings", c.num("vocab_size"), narrow)
    yield from embedding(f"{path}position_embeddings", c.num("max_position_embeddings"), outer)
    yield from embedding(f"{path}token_type_embeddings", c.num("type_vocab_size"), outer)
    seen = narrow * (3 if c.flag("trigram_input") else 1)  # a word with its two neighbours
    yield from affine(f"{path}embedding_transformation", outer, seen)
    yield from layer_norm(f"{path}LayerNorm", outer)
    for i in range(c.layers("num_hidden_layers")):
        yield from mobilebert_layer(c, f"{prefix}encoder.layer.{i}.")


def mobilebert_pooler(c: Config, prefix: str) -> Iterator[Param]:
    if c.flag("classifier_activation"):
        yield from pooler(c, prefix)


def mobilebert_lm(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the masked-language head: the output matrix is the embedding, and `dense` for the width
    beyond it."""
    width, narrow, path = c.num("hidden_size"), c.num("embedding_size"), f"{prefix}cls.predictions."
    yield Param(f"{path}bias", (c.num("vocab_size"),), "bias")
    yield from normed(f"{path}transform.", width, width)
    yield from linear(f"{path}dense", width - narrow, c.num("vocab_size"))
    yield from decoder(c, path, f"{prefix}mobilebert.{WORDS}", narrow)


def grouped(path: str, outputs: int, inputs: int, groups: int) -> Iterator[Param]:
    yield from conv(path, (outputs, inputs // max(1, groups), 1))


def squeezebert_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name, groups in (("query", "q_groups"), ("key", "k_groups"), ("value", "v_groups")):
        yield from grouped(f"{prefix}attention.{name}", width, width, c.num(groups))
    yield from grouped(
        f"{prefix}post_attention.conv1d", width, width, c.num("post_attention_groups")
    )
    yield from layer_norm(f"{prefix}post_attention.layernorm", width)
    yield from grouped(f"{prefix}intermediate.conv1d", inner, width, c.num("intermediate_groups"))
    yield from grouped(f"{prefix}output.conv1d", width, inner, c.num("output_groups", default=4))
    yield from layer_norm(f"{prefix}output.layernorm", width)


def squeezebert(c: Config, prefix: str) -> Iterator[Param]:
    yield from bert_embeddings(c, prefix, c.num("embedding_size"))
    yield from layer_norm(f"{prefix}embeddings.LayerNorm", c.num("hidden_size"))
    for i in range(c.layers("num_hidden_layers")):
        yield from squeezebert_layer(c, f"{prefix}encoder.layers.{i}.")
    yield from pooler(c, prefix)


def squeezebert_lm(c: Config, prefix: str) -> Iterator[Param]:
    yield from prediction_head(c, f"{prefix}cls.predictions.", f"{prefix}transformer.{WORDS}")


CHOICE, LABELS, SPANS = project("classifier", 1), project("classifier"), project("qa_outputs")
RELATION = project("cls.seq_relationship", 2)
DISTILBERT = Family(
    body=distilbert,
    base="distilbert",
    cls="DistilBertModel",
    heads={
        "ForMaskedLM": distilbert_lm,
        "ForMultipleChoice": distilbert_pooled(1),
        "ForSequenceClassification": distilbert_pooled(),
        "ForTokenClassification": LABELS,
        "ForQuestionAnswering": SPANS,
    },
    buffers=IDS,
    blocks=(),
)
ALBERT_IDS = ids("position_ids", "token_type_ids")
_ALBERT_BARE = Family(
    body=albert,
    base="albert",
    heads={
        "ForMaskedLM": albert_lm,
        "ForTokenClassification": LABELS,
        "ForQuestionAnswering": SPANS,
    },
    buffers=ALBERT_IDS,
    blocks=(),
)
ALBERT = Family(
    body=joined(albert, big_bird_pooler),
    base="albert",
    cls="AlbertModel",
    heads={
        "ForPreTraining": joined(albert_lm, project("sop_classifier.classifier")),
        "ForMultipleChoice": CHOICE,
        "ForSequenceClassification": LABELS,
    },
    classes=dict.fromkeys(_ALBERT_BARE.heads, _ALBERT_BARE),
    buffers=ALBERT_IDS,
    blocks=(),
)
_MOBILE_BARE = Family(
    body=mobilebert,
    base="mobilebert",
    heads={
        "ForMaskedLM": mobilebert_lm,
        "ForTokenClassification": LABELS,
        "ForQuestionAnswering": SPANS,
    },
    buffers=IDS,
    blocks=(),
)
MOBILEBERT = Family(
    body=joined(mobilebert, mobilebert_pooler),
    base="mobilebert",
    cls="MobileBertModel",
    heads={
        "ForPreTraining": joined(mobilebert_lm, RELATION),
        "ForNextSentencePrediction": RELATION,
        "ForMultipleChoice": CHOICE,
        "ForSequenceClassification": LABELS,
    },
    classes=dict.fromkeys(_MOBILE_BARE.heads, _MOBILE_BARE),
    buffers=IDS,
    blocks=(),
)
SQUEEZEBERT = Family(
    body=squeezebert,
    base="transformer",
    cls="SqueezeBertModel",
    heads={
        "ForMaskedLM": squeezebert_lm,
        "ForMultipleChoice": CHOICE,
        "ForSequenceClassification": LABELS,
        "ForTokenClassification": LABELS,
        "ForQuestionAnswering": SPANS,
    },
    buffers=IDS,
    blocks=(),
)


def heads_of_mobilebert(c: Config, count: int) -> "Sequence[Attention]":
    """Return the attention of each of `count` layers, on the narrow state between bottlenecks."""
    from weighbridge.models.arch import encoders

    narrow, heads = c.enabled("use_bottleneck"), c.num(*encoders.HEADS)
    width = c.num("intra_bottleneck_size" if narrow else "hidden_size")
    return (encoders.one(heads, width // max(1, heads)),) * count


TYPES = {
    "distilbert": ModelType(
        DISTILBERT,
        no_cache="encoder",
        computes=("not_rotary", "norms_behind", "own_softmax"),
        gguf="bert",
    ),
    "albert": ModelType(
        ALBERT,
        no_cache="encoder",
        computes=(
            "not_rotary",
            "norms_behind",
            "one_layer_for_all",
            "buffered_positions",
            "own_softmax",
        ),
        gguf="none",
    ),
    "mobilebert": ModelType(
        MOBILEBERT,
        no_cache="encoder",
        encoder_heads=heads_of_mobilebert,
        computes=("norms_behind", "own_softmax"),
    ),
    "squeezebert": ModelType(SQUEEZEBERT, no_cache="encoder"),
}

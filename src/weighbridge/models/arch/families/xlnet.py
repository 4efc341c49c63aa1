"""XLNet, Funnel and XLM.

XLNet and Funnel Transformer: relative attention whose projections are bare N x H tensors.

    XLNet   q, k, v, o, r  D x N x H; three biases and two segment vectors a layer
    Funnel  r_kernel alone is bare; blocks of layers, then a decoder that only some classes have

Source: transformers 5.23 models/{xlnet,funnel}/modeling_*.py.

XLM: a BERT whose modules are lists side by side (attentions.i, ffns.i), and languages embedded.

    embeddings V x D, positions P x D, languages (where there are several); F is always 4D

Source: transformers 5.23 models/xlm/modeling_xlm.py.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import (
    Family,
    Param,
    ParamRule,
    affine,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import (
    at_path,
    dense_project,
    ids,
    joined,
    labels,
    project,
    summary,
    tied,
)
from weighbridge.models.arch.model_types import ModelType

if TYPE_CHECKING:
    from weighbridge.models.arch.parts import Attention


RELATIVE_BIASES = ("r_r_bias", "r_s_bias", "r_w_bias")


def relative_biases(prefix: str, heads: int, size: int) -> Iterator[Param]:
    for name in RELATIVE_BIASES:
        yield Param(f"{prefix}{name}", (heads, size), "other")
    yield Param(f"{prefix}seg_embed", (2, heads, size), "other")


def xlnet_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, heads = c.num("d_model"), c.num("n_head")
    size = c.num("d_head", default=width // max(1, heads))
    for name in "qkvor":
        yield Param(f"{prefix}rel_attn.{name}", (width, heads, size), "other")
    yield from relative_biases(f"{prefix}rel_attn.", heads, size)
    yield from layer_norm(f"{prefix}rel_attn.layer_norm", width)
    yield from layer_norm(f"{prefix}ff.layer_norm", width)
    yield from affine(f"{prefix}ff.layer_1", c.num("d_inner"), width)
    yield from affine(f"{prefix}ff.layer_2", width, c.num("d_inner"))


def xlnet(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("d_model")
    yield Param(f"{prefix}mask_emb", (1, 1, width), "other")
    yield from embedding(f"{prefix}word_embedding", c.num("vocab_size"), width)
    for i in range(c.layers("n_layer")):
        yield from xlnet_layer(c, f"{prefix}layer.{i}.")


def tied_linear(path: str, words: str) -> ParamRule:
    """Return a rule for a biased projection to the vocabulary, tied to the embedding `words`."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        params = affine(f"{prefix}{path}", c.num("vocab_size"), c.num("hidden_size"))
        yield from tied(c, params, {f"{prefix}{path}.weight": f"{prefix}{words}"})

    return body


def answer_spans(c: Config, prefix: str) -> Iterator[Param]:
    """Yield SQuAD 2's heads: where the answer starts, where it ends given the start, and whether
    there is one."""
    width = c.num("hidden_size")
    yield from affine(f"{prefix}start_logits.dense", 1, width)
    yield from affine(f"{prefix}end_logits.dense_0", width, 2 * width)
    yield from layer_norm(f"{prefix}end_logits.LayerNorm", width)
    yield from affine(f"{prefix}end_logits.dense_1", 1, width)
    yield from affine(f"{prefix}answer_class.dense_0", width, 2 * width)
    yield from linear(f"{prefix}answer_class.dense_1", 1, width)


def funnel_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, heads, size = c.num("d_model"), c.num("n_head"), c.num("d_head")
    path = f"{prefix}attention."
    yield from relative_biases(path, heads, size)
    yield Param(f"{path}r_kernel", (width, heads, size), "other")
    yield from linear(f"{path}q_head", heads * size, width)
    yield from affine(f"{path}k_head", heads * size, width)
    yield from affine(f"{path}v_head", heads * size, width)
    yield from affine(f"{path}post_proj", width, heads * size)
    yield from layer_norm(f"{path}layer_norm", width)
    yield from affine(f"{prefix}ffn.linear_1", c.num("d_inner"), width)
    yield from affine(f"{prefix}ffn.linear_2", width, c.num("d_inner"))
    yield from layer_norm(f"{prefix}ffn.layer_norm", width)


def funnel_base(c: Config, prefix: str) -> Iterator[Param]:
    c.skip("num_decoder_layers")
    yield from embedding(
        f"{prefix}embeddings.word_embeddings", c.num("vocab_size"), c.num("d_model")
    )
    yield from layer_norm(f"{prefix}embeddings.layer_norm", c.num("d_model"))
    for block, size in enumerate(c.nums("block_sizes")):
        for i in range(size):
            yield from funnel_layer(c, f"{prefix}encoder.blocks.{block}.{i}.")


def funnel(c: Config, prefix: str) -> Iterator[Param]:
    yield from funnel_base(c, prefix)
    for i in range(c.layers("num_decoder_layers")):
        yield from funnel_layer(c, f"{prefix}decoder.layers.{i}.")


LABELS, SPANS = project("classifier"), project("qa_outputs")
XLNET = Family(
    body=xlnet,
    base="transformer",
    cls="XLNetModel",
    heads={
        "LMHeadModel": tied_linear("lm_loss", "transformer.word_embedding.weight"),
        "ForMultipleChoice": joined(summary, project("logits_proj", 1)),
        "ForSequenceClassification": joined(summary, project("logits_proj")),
        "ForTokenClassification": LABELS,
        "ForQuestionAnsweringSimple": SPANS,
        "ForQuestionAnswering": answer_spans,
    },
    blocks=(),
)
_FUNNEL_BASE = Family(
    body=funnel_base,
    base="funnel",
    heads={
        "ForMultipleChoice": dense_project("classifier", ("linear_hidden", "linear_out"), 1),
        "ForSequenceClassification": dense_project("classifier", ("linear_hidden", "linear_out")),
    },
    blocks=(),
)
FUNNEL = Family(
    body=funnel,
    base="funnel",
    cls="FunnelModel",
    heads={
        "ForPreTraining": dense_project(
            "discriminator_predictions", ("dense", "dense_prediction"), 1
        ),
        "ForMaskedLM": tied_linear("lm_head", "funnel.embeddings.word_embeddings.weight"),
        "ForTokenClassification": LABELS,
        "ForQuestionAnswering": SPANS,
    },
    classes={**dict.fromkeys(_FUNNEL_BASE.heads, _FUNNEL_BASE), "BaseModel": _FUNNEL_BASE},
    blocks=(),
)


def heads_of_funnel(c: Config, count: int) -> "Sequence[Attention]":
    """Return the attention of each of `count` layers, with the head size in the config."""
    from weighbridge.models.arch import encoders

    return (encoders.one(c.num("n_head"), c.num("d_head")),) * count


def xlm(c: Config, prefix: str) -> Iterator[Param]:
    width, languages = c.num("emb_dim"), c.num("n_langs")
    c.skip("n_heads")
    yield from embedding(f"{prefix}embeddings", c.num("vocab_size"), width)
    yield from embedding(f"{prefix}position_embeddings", c.num("max_position_embeddings"), width)
    if languages > 1 and c.flag("use_lang_emb"):
        yield from embedding(f"{prefix}lang_embeddings", languages, width)
    yield from layer_norm(f"{prefix}layer_norm_emb", width)
    for i in range(c.layers("n_layers")):
        yield from layer(prefix, i, width)


def layer(prefix: str, i: int, width: int) -> Iterator[Param]:
    for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
        yield from affine(f"{prefix}attentions.{i}.{name}", width, width)
    yield from layer_norm(f"{prefix}layer_norm1.{i}", width)
    yield from affine(f"{prefix}ffns.{i}.lin1", 4 * width, width)
    yield from affine(f"{prefix}ffns.{i}.lin2", width, 4 * width)
    yield from layer_norm(f"{prefix}layer_norm2.{i}", width)


def lm_head(c: Config, prefix: str) -> Iterator[Param]:
    if c.flag("asm"):
        raise UnsupportedError(sentence("adaptive_softmax"), where=c.where)
    yield from tied_linear("pred_layer.proj", "transformer.embeddings.weight")(c, prefix)


def choice(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the multiple-choice head: one output, from a summary as wide as the labels."""
    yield from affine(f"{prefix}logits_proj", 1, labels(c))


XLM = Family(
    body=xlm,
    base="transformer",
    cls="XLMModel",
    heads={
        "LMHeadModel": lm_head,
        "ForMultipleChoice": joined(summary, choice),
        "ForSequenceClassification": summary,
        "ForTokenClassification": project("classifier"),
        "ForQuestionAnsweringSimple": project("qa_outputs"),
        "ForQuestionAnswering": at_path("qa_outputs.", answer_spans),
    },
    buffers=ids("position_ids", below=""),
    blocks=(),
)


TYPES = {
    "xlnet": ModelType(
        XLNET, no_cache="without", positions="endless", computes=("relative_scores",), gguf="none"
    ),
    "funnel": ModelType(FUNNEL, no_cache="encoder", encoder_heads=heads_of_funnel, gguf="none"),
    "xlm": ModelType(XLM, no_cache="without", computes=("norms_behind",), gguf="none"),
}

"""XLM: a BERT whose modules are lists side by side (attentions.i, ffns.i), and languages embedded.

    embeddings V x D, positions P x D, languages (where there are several); F is always 4D

Source: transformers 5.23 models/xlm/modeling_xlm.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.encoder_heads import at_path, ids, joined, project, summary
from weighbridge.arch.heads import labels
from weighbridge.arch.model_types import NEVER, ModelType, TransformersFacts
from weighbridge.arch.xlnet import answer_spans, tied_linear
from weighbridge.errors import UnsupportedError


def xlm(c: Config, at: str) -> Iterator[Param]:
    width, languages = c.num("emb_dim"), c.num("n_langs")
    c.skip("n_heads")
    yield from embedding(f"{at}embeddings", c.num("vocab_size"), width)
    yield from embedding(f"{at}position_embeddings", c.num("max_position_embeddings"), width)
    if languages > 1 and c.flag("use_lang_emb"):
        yield from embedding(f"{at}lang_embeddings", languages, width)
    yield from norm(f"{at}layer_norm_emb", width, bias=True)
    for i in range(c.layers("n_layers")):
        yield from layer(at, i, width)


def layer(at: str, i: int, width: int) -> Iterator[Param]:
    for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
        yield from linear(f"{at}attentions.{i}.{name}", width, width, bias=True)
    yield from norm(f"{at}layer_norm1.{i}", width, bias=True)
    yield from linear(f"{at}ffns.{i}.lin1", 4 * width, width, bias=True)
    yield from linear(f"{at}ffns.{i}.lin2", width, 4 * width, bias=True)
    yield from norm(f"{at}layer_norm2.{i}", width, bias=True)


def lm_head(c: Config, at: str) -> Iterator[Param]:
    if c.flag("asm"):
        raise UnsupportedError(f"{c.where}: asm (adaptive softmax) is not in our tables")
    yield from tied_linear("pred_layer.proj", "transformer.embeddings.weight")(c, at)


def choice(c: Config, at: str) -> Iterator[Param]:
    """Yield the head for multiple choice: one output, read from a summary as wide as the labels."""
    yield from linear(f"{at}logits_proj", 1, labels(c), bias=True)


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
    "xlm": ModelType(
        XLM,
        no_cache="without",
        computes=("norms_behind",),
        gguf="none",
        transformers=TransformersFacts(last_logits=(5, 0), sdpa=NEVER),
    ),
}

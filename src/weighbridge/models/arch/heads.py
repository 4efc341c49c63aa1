"""The modules next to a base model: heads of decoders, and heads and poolers of encoders.

Each function takes the config and the path of the head's parent ("" for a plain class,
"language_model." inside a larger one), as families do. The families of BERT share masked-language
heads, poolers and classifiers:

    cls.predictions     D x E transform, its norm, a bias of V; the decoder is the word embedding
    lm_head (RoBERTa)   the same under other names

Tied parameters are yielded with their owner's name, so that they count if a config unties them.

Source: transformers 5.23 models/{bert,roberta,electra,xlm}/modeling_*.py.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config


def causal_lm(c: Config, prefix: str) -> Iterator[Param]:
    """Yield `lm_head`, without bias; the builder decides whether it is tied."""
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), c.num("hidden_size"))


def lm_called(name: str, embedding: str) -> ParamRule:
    """Return a rule for a language-model head called `name`, tied to `embedding` if the config ties
    it."""

    def head(c: Config, prefix: str) -> Iterator[Param]:
        owner = f"{prefix}{embedding}.weight" if c.flag("tie_word_embeddings") else ""
        for p in linear(f"{prefix}{name}", c.num("vocab_size"), c.num("hidden_size")):
            yield p._replace(tied=owner)

    return head


def labels(c: Config) -> int:
    """Return the number of outputs of a classifier: id2label, else num_labels, else 2
    (PreTrainedConfig)."""
    names = c.get("id2label")
    return len(names) if isinstance(names, dict) else c.num("num_labels", default=2)


def score(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the head of GenericForSequenceClassification: one Linear without bias."""
    yield from linear(f"{prefix}score", labels(c), c.num("hidden_size"))


def token_score(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the head of GenericForTokenClassification: one Linear with bias."""
    yield from affine(f"{prefix}score", labels(c), c.num("hidden_size"))


def classifier(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the token classifier of classes with their own code: one Linear called `classifier`."""
    yield from affine(f"{prefix}classifier", labels(c), c.num("hidden_size"))


def qa_outputs(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the head of GenericForQuestionAnswering: one Linear to a span's start and end."""
    yield from affine(f"{prefix}qa_outputs", 2, c.num("hidden_size"))


DECODER_HEADS = {
    "ForCausalLM": causal_lm,
    "LMHeadModel": causal_lm,
    "ForSequenceClassification": score,
    "ForTokenClassification": token_score,
    "ForQuestionAnswering": qa_outputs,
}

DecoderFamily = partial(Family, heads=DECODER_HEADS)

# Falcon, BLOOM, MPT, the GPTs: their token classifier has another name.
LEGACY_HEADS = {**DECODER_HEADS, "ForTokenClassification": classifier}


# Beside text encoders

Buffers = Callable[[Config, str], Iterable[Buffer]]


def joined(*parts: ParamRule) -> ParamRule:
    """Return a rule that yields the tensors of all `parts`."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        for part in parts:
            yield from part(c, prefix)

    return body


def at_path(path: str, part: ParamRule) -> ParamRule:
    """Return the rule `part` below the path `path` ("bert.", dot included)."""
    return lambda c, prefix: part(c, f"{prefix}{path}")


def tied(c: Config, params: Iterable[Param], owners: dict[str, str]) -> Iterator[Param]:
    """Yield `params`; those in `owners` are tied unless the config unties the embedding."""
    ties = c.enabled("tie_word_embeddings")
    for p in params:
        yield p._replace(tied=owners[p.name]) if ties and p.name in owners else p


def project(path: str, outputs: int | None = None) -> ParamRule:
    """Return a rule for one biased Linear from the hidden size to `outputs`, or the labels."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        size = labels(c) if outputs is None else outputs
        yield from affine(f"{prefix}{path}", size, c.num("hidden_size"))

    return body


def dense_project(
    path: str, names: tuple[str, str] = ("dense", "out_proj"), size: int = 0
) -> ParamRule:
    """Return a rule for two Linears: hidden to hidden, then to `size` or the labels' number."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        width = c.num("hidden_size")
        yield from affine(f"{prefix}{path}.{names[0]}", width, width)
        yield from affine(f"{prefix}{path}.{names[1]}", size or labels(c), width)

    return body


def predictions(
    words: str, *, path: str = "cls.predictions.", norm_name: str = "LayerNorm"
) -> ParamRule:
    """Return a rule for BertLMPredictionHead; its decoder is tied to the embedding `words`."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        yield from prediction_head(c, f"{prefix}{path}", f"{prefix}{words}", norm_name=norm_name)

    return body


def prediction_head(
    c: Config, prefix: str, words: str, *, width: int = 0, norm_name: str = "LayerNorm"
) -> Iterator[Param]:
    hidden, vocabulary = c.num("hidden_size"), c.num("vocab_size")
    width = width or hidden
    yield Param(f"{prefix}bias", (vocabulary,), "bias")
    yield from affine(f"{prefix}transform.dense", width, hidden)
    yield from layer_norm(f"{prefix}transform.{norm_name}", width)
    yield from decoder(c, prefix, words, width)


def decoder(c: Config, prefix: str, words: str, width: int) -> Iterator[Param]:
    """Yield the output layer, tied to the embedding `words` and to `bias` unless the config unties
    it."""
    path = f"{prefix}decoder"
    params = affine(path, c.num("vocab_size"), width)
    yield from tied(c, params, {f"{path}.weight": words, f"{path}.bias": f"{prefix}bias"})


def roberta_lm_head(words: str) -> ParamRule:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        width = c.num("hidden_size")
        yield Param(f"{prefix}lm_head.bias", (c.num("vocab_size"),), "bias")
        yield from affine(f"{prefix}lm_head.dense", width, width)
        yield from layer_norm(f"{prefix}lm_head.layer_norm", width)
        yield from decoder(c, f"{prefix}lm_head.", f"{prefix}{words}", width)

    return body


def pooler(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}pooler.dense", c.num("hidden_size"), c.num("hidden_size"))


def summary_size(c: Config) -> int:
    """Return SequenceSummary's output width: labels, hidden size, or 0 without a projection."""
    if not c.flag("summary_use_proj"):
        return 0
    return labels(c) if c.flag("summary_proj_to_labels") else c.num("hidden_size")


def summary(c: Config, prefix: str) -> Iterator[Param]:
    if size := summary_size(c):
        yield from affine(f"{prefix}sequence_summary.summary", size, c.num("hidden_size"))


def ids(*names: str, below: str = "embeddings.") -> Buffers:
    """Return a rule for int64 buffers of one row of positions: position_ids, token_type_ids."""

    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        shape = (1, c.num("max_position_embeddings"))
        for name in names:
            yield Buffer(f"{prefix}{below}{name}", shape, "int64")

    return buffers

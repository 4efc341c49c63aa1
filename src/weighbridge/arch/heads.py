"""The modules beside a base model: language-model heads, classifiers, span predictors.

Each takes the config and the path of the head's parent ("" for a plain class, "language_model."
inside a larger one), as families do.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Param, ParamRule, linear
from weighbridge.arch.config import Config


def causal_lm(c: Config, prefix: str) -> Iterator[Param]:
    """`lm_head`, without bias; whether it is tied is decided by the builder."""
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), c.num("hidden_size"))


def lm_called(name: str, embedding: str) -> ParamRule:
    """A language-model head under a name of its own, and the embedding that it may be tied to."""

    def head(c: Config, prefix: str) -> Iterator[Param]:
        owner = f"{prefix}{embedding}.weight" if c.flag("tie_word_embeddings") else ""
        for p in linear(f"{prefix}{name}", c.num("vocab_size"), c.num("hidden_size")):
            yield p._replace(tied=owner)

    return head


def labels(c: Config) -> int:
    """The size of a classifier: id2label, else num_labels, else 2 (PreTrainedConfig)."""
    names = c.get("id2label")
    return len(names) if isinstance(names, dict) else c.num("num_labels", default=2)


def score(c: Config, prefix: str) -> Iterator[Param]:
    """GenericForSequenceClassification: one Linear without bias."""
    yield from linear(f"{prefix}score", labels(c), c.num("hidden_size"))


def token_score(c: Config, prefix: str) -> Iterator[Param]:
    """GenericForTokenClassification: the same with bias."""
    yield from linear(f"{prefix}score", labels(c), c.num("hidden_size"), bias=True)


def classifier(c: Config, prefix: str) -> Iterator[Param]:
    """The token classifier of the classes that were written out by hand."""
    yield from linear(f"{prefix}classifier", labels(c), c.num("hidden_size"), bias=True)


def qa_outputs(c: Config, prefix: str) -> Iterator[Param]:
    """GenericForQuestionAnswering: start and end of the span."""
    yield from linear(f"{prefix}qa_outputs", 2, c.num("hidden_size"), bias=True)


DECODER_HEADS = {
    "ForCausalLM": causal_lm,
    "LMHeadModel": causal_lm,
    "ForSequenceClassification": score,
    "ForTokenClassification": token_score,
    "ForQuestionAnswering": qa_outputs,
}

# Falcon, BLOOM, MPT, the GPTs: their token classifier has a name of its own.
LEGACY_HEADS = {**DECODER_HEADS, "ForTokenClassification": classifier}

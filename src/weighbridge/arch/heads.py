"""The modules beside a base model: language-model heads, classifiers, span predictors.

Each takes the config and the path of the head's parent ("" for a plain class, "language_model."
inside a larger one), as families do.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Param, linear
from weighbridge.arch.config import Config


def causal_lm(c: Config, at: str) -> Iterator[Param]:
    """`lm_head`, without bias; whether it is tied is decided by the builder."""
    yield from linear(f"{at}lm_head", c.num("vocab_size"), c.num("hidden_size"))


def labels(c: Config) -> int:
    """The size of a classifier: id2label, else num_labels, else 2 (PreTrainedConfig)."""
    names = c.get("id2label")
    return len(names) if isinstance(names, dict) else c.num("num_labels", default=2)


def score(c: Config, at: str) -> Iterator[Param]:
    """GenericForSequenceClassification: one Linear without bias."""
    yield from linear(f"{at}score", labels(c), c.num("hidden_size"))


def token_score(c: Config, at: str) -> Iterator[Param]:
    """GenericForTokenClassification: the same with bias."""
    yield from linear(f"{at}score", labels(c), c.num("hidden_size"), bias=True)


def qa_outputs(c: Config, at: str) -> Iterator[Param]:
    """GenericForQuestionAnswering: start and end of the span."""
    yield from linear(f"{at}qa_outputs", 2, c.num("hidden_size"), bias=True)


DECODER_HEADS = {
    "ForCausalLM": causal_lm,
    "LMHeadModel": causal_lm,
    "ForSequenceClassification": score,
    "ForTokenClassification": token_score,
    "ForQuestionAnswering": qa_outputs,
}

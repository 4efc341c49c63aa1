"""Models besides the policy: a tree with one output instead of the vocabulary, as in reward models
and critics.

AutoModelForSequenceClassification with num_labels=1 is a base model and `score`, a Linear without
bias of [1, hidden]; there is no lm_head, and if the head was the embedding, only that stays.
`score` has the dtype of the model, and is trained whole, with adapters too (PEFT, SEQ_CLS).

Source: transformers 5.23 modeling_layers.py (GenericForSequenceClassification); trl 1.16
trainer/reward_trainer.py; peft 0.20 peft_model.py (PeftModelForSequenceClassification).
"""

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Blueprint, CountedParams, Param
from weighbridge.models.arch.builder import stem
from weighbridge.models.arch.roles import role_of
from weighbridge.training.forward.losses import SCORE

ENDING = "ForSequenceClassification"


def with_one_output(plan: Blueprint) -> Blueprint:
    """Return the tree of a decoder whose head is one output, a weight of [1, hidden] named
    `score.weight`; `plan` if it has one already. Raises UnsupportedError if no embedding gives its
    width."""
    if any(p.name == SCORE for p in plan.counted):
        return plan
    words = next((p for p in plan.counted if p.kind == "embedding"), None)
    if words is None:
        raise UnsupportedError(sentence("class_unlisted", cls=plan.cls, known=ENDING))
    base = [p for p in plan.counted if role_of(p) != "head"]
    score = Param(SCORE, (1, _width(base, words)))
    return replace(plan, cls=f"{stem(plan.cls)}{ENDING}", params=CountedParams((*base, score)))


def _width(base: list[Param], words: Param) -> int:
    """Return the width of hidden states after the layers: the last norm's, which may differ from
    the embedding's."""
    norms = (p.shape[0] for p in reversed(base) if p.kind == "norm" and len(p.shape) == 1)
    return next(norms, words.shape[-1])

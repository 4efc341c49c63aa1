"""Log-probabilities of the generated tokens, as frameworks compute them from the logits.

A head is two programs: one with gradients, which ends in the loss, and a quiet one without.
heads.txt has what each release of each framework does, in the words of scoring.py, with the file
that was read; "read" if no function of it was run beside ours, and "graph" if the reference's pass
runs while the policy's graph lives.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.models.arch.model_types import NEVER
from weighbridge.training.forward.losses import Loss
from weighbridge.training.forward.scoring import (
    WITH_GRADIENTS,
    Scoring,
    one_output,
    one_output_quiet,
    quiet_pass,
    update,
)
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Tensor

Quiet = Callable[[TrainingStep, Tensor], None]


@frozen_record
class Head:
    """How logits become log-probabilities of the generated tokens, with gradients and without.

    update        (step, hidden) -> (loss, logits that the loop still holds, or None)
    quiet         the same pass without gradients; its output is small, and freed
    answer        logits only of the answer's tokens (`TrainingStep.answer` per row, and one more if
                  the source takes one); else of all
    under_graph   the reference's pass runs while the policy's graph lives
    rows          sequences per forward for each one of the batch: 2 for pairs
    known         False: only read by hand, to be widened
    """

    update: Loss
    quiet: Quiet
    answer: bool = False
    under_graph: bool = False
    rows: int = 1
    known: bool = True
    source: str = ""


class TableRow(NamedTuple):
    """A row of heads.txt: the framework, methods and releases it covers, and its scoring."""

    framework: str
    methods: frozenset[str]
    since: tuple[int, ...]
    words: frozenset[str]
    scoring: Scoring
    source: str


def head(
    method: str,
    framework: str,
    release: tuple[int, ...] | None,
    *,
    fused: bool = False,
    liger: bool = False,
    entropy: bool = False,
) -> Head:
    """Return the head of a method (dpo, grpo, ...) in a framework's release; None is the newest.
    `fused`: verl's own kernels; `liger`: those of Liger; `entropy`: in the loss, with gradients.
    Without a row it is TRL's newest, as not `known`. Source: heads.txt."""
    if method == "reward":
        return Head(update=one_output, quiet=one_output_quiet, rows=2, source=REWARD)
    row = _row(method, framework, release or NEVER)
    scoring = _with_kernels(row.scoring, framework, fused=fused, liger=liger, entropy=entropy)
    answer = scoring.scored == "answer"
    sure = row.framework == framework and not ({"read"} & row.words or liger)
    return Head(
        update=partial(update, scoring),
        quiet=partial(quiet_pass, row.scoring if liger and answer else scoring),
        answer=answer,
        under_graph="graph" in row.words,
        rows=2 if method in PAIRS else 1,
        known=sure and scoring.entropy not in WITH_GRADIENTS,
        source=row.source,
    )


def _with_kernels(
    scoring: Scoring, framework: str, *, fused: bool, liger: bool, entropy: bool
) -> Scoring:
    """Return the scoring with kernels that never make all logits, or with entropy gradients: some
    frameworks compile the entropy, and no gradient is written over logits that it reads."""
    if liger:
        return replace(scoring, score="liger")
    if fused and framework in ("verl", "easyr1"):
        return replace(scoring, score="verl")
    if not entropy or scoring.entropy in WITH_GRADIENTS:
        return scoring
    score = "kernel" if scoring.score == "over" else scoring.score
    form = "compiled" if framework in COMPILED else "whole"
    return replace(scoring, score=score, entropy=form)


COMPILED = ("verl", "easyr1", "openrlhf")  # torch.compile computes their entropy
REWARD = "trl 1.16 trainer/reward_trainer.py: AutoModelForSequenceClassification, num_labels 1"
PAIRS = ("dpo", "ipo", "orpo", "cpo", "simpo", "reward")
ALIKE = dict.fromkeys(("gspo", "dapo", "cispo", "reinforce", "ppo"), "grpo")  # the same logits


def _row(method: str, framework: str, release: tuple[int, ...]) -> TableRow:
    """Return the newest row that is not newer than `release`; TRL's newest row if the framework has
    none."""
    for asked, when in ((framework, release), ("trl", NEVER)):
        for name in (method, ALIKE.get(method, method)):
            rows = [x for x in table() if x.framework == asked and name in x.methods]
            if rows:
                return max((x for x in rows if x.since <= when), key=lambda x: x.since)
    raise KeyError(method)


def another(method: str, framework: str) -> str | None:
    """Return an older release that treats logits differently than the newest, for users who set
    none: the first of the newest major release, else the one before; None without one."""
    names = {method, ALIKE.get(method, method)}
    rows = sorted(x.since for x in table() if x.framework == framework and names & x.methods)
    if len(rows) < 2:
        return None
    *_, last, newest = rows
    first = (newest[0], 0) if newest[0] else last
    return ".".join(map(str, first)) if first < newest else None


@cache
def table() -> tuple[TableRow, ...]:
    """Return the rows of heads.txt."""
    return tuple(map(_read, lines_beside(__file__, "heads.txt")))


FLAGS = ("whole", "copied", "likelihood", "picked", "lasts", "outputs", "narrow", "flat")


def _read(line: str) -> TableRow:
    row, source = line.split(" | ")
    framework, methods, since, scored, wide, *others = row.split()
    words = frozenset(x for x in others if "=" not in x)
    values: dict[str, Any] = dict(x.split("=") for x in others if "=" in x)
    values |= {name: True for name in FLAGS if name in words}
    values["cuts"] = int(values.get("cuts", 0))
    scoring = Scoring(scored=scored, wide=wide, **values)
    number = tuple(map(int, since.split(".")))
    return TableRow(framework, frozenset(methods.split(",")), number, words, scoring, source)

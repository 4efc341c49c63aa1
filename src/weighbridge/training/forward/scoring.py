"""Log-probabilities from logits, put together from the steps of a source, in their order:

    scored        log-probabilities only of the answer's tokens, or of all
    whole         logits of all tokens are made, and the answer's cut out
    wide          float32: "trainer", if accelerate casts autocast's output; "always"; "never"
    cuts          slices of the logits, [:, :-1] and [:, -k:]: each makes zeros of the whole in
                  backward. If two are cut, logits of one token more are computed
    temperature   "new": a copy; "view": in place through a view, whose gradient is copied twice
    score         operator from logits to log-probabilities (ops/probabilities.py)
    entropy       "chunks": to be logged, 128 tokens at a time; "whole": with gradients;
                  "compiled": with gradients, in one kernel each way
    copied        the slice is copied contiguously
    likelihood    cross entropy of the chosen half in addition
    picked        logits of chosen answers, then of rejected ones, are copied for their mean; if
                  entropies are logged, too, not in the quiet pass
    lasts         copied logits live until they are scored
    outputs       the loop's variables hold the logits until the loss is computed
    narrow        they hold those before the cast
    flat          the quiet pass cuts before it casts
    graph         the reference's pass runs while the policy's graph lives

Heads that never have whole logits are tiles: a few tokens at a time, with some bytes per element.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.models.arch.model_types import facts
from weighbridge.training.forward import losses
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, record
from weighbridge.training.forward.ops import probabilities
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    clamp,
    mul,
    of_result,
    scale,
    scale_,
    softmax,
    sub,
    total,
)
from weighbridge.training.forward.ops.shaping import copied, part
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Shape, Tensor

Score = Callable[[Machine, Tensor, Tensor], Tensor]


@frozen_record
class Scoring:
    """A row of heads.txt: how a source turns logits into log-probabilities."""

    score: str
    scored: str = "all"
    whole: bool = False
    wide: str = "trainer"
    cuts: int = 0
    temperature: str = ""
    entropy: str = ""
    copied: bool = False
    likelihood: bool = False
    picked: bool = False
    lasts: bool = False
    outputs: bool = False
    narrow: bool = False
    flat: bool = False

    @property
    def gaps(self) -> bool:
        """Return whether the scored rows are not contiguous in memory, if there are several."""
        return bool(self.cuts) and not self.copied and self.temperature != "new"

    def tokens(self, answer: int, length: int) -> int:
        """Return how many tokens per row get log-probabilities, if `length` tokens have logits."""
        if self.scored == "answer" and answer:
            return min(answer, length - 1)
        return length - min(self.cuts, 1)


class Tiles(NamedTuple):
    """Logits computed for some tokens at a time. `forward`, `backward`: peak bytes per element of a
    tile; `wide`: a float32 copy of the head is made."""

    tokens: Callable[[int], int]  # outputs -> tokens per tile
    forward: int
    backward: int
    wide: bool = False


FEW = 512  # tokens per tile in verl (FusedLinearForPPO, chunk_size)
LIGER = (2048, 4096)  # tokens, outputs: liger_kernel 0.8.5 chunked_loss/fused_linear_ppo.py
LIGER_BYTES = 16  # logits, the subtrahend, probabilities and their gradients, in float32
WORKSPACE = 256 << 20  # agilerl 2.58 core/base.py, _resolve_fused_chunk_rows: bytes of float32
TILED: Mapping[str, Tiles] = {
    "verl": Tiles(lambda _: FEW, 12, 20),
    # compiled: logits in 16 bits, then their gradient; since 2.9 both in float32, as is the head
    "agilerl-16": Tiles(lambda v: min(max(WORKSPACE // (4 * v), 128), 4096), 2, 4),
    "agilerl": Tiles(lambda v: min(max(WORKSPACE // (4 * v), 128), 4096), 4, 8, wide=True),
    "least": Tiles(lambda _: 2, 8, 8),  # unsloth fills the free memory: at least 2 tokens
}


# ---- with whole logits


def update(scoring: Scoring, s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    m = s.m
    with m.making("logits"):
        if scoring.score in UNWHOLE:
            return _loss(m, UNWHOLE[scoring.score](s, _answer_states(s, scoring, hidden))), None
        if scoring.score == "divergence":
            return _jensen_shannon_loss(s, scoring, hidden)
        scored = _scored(s, scoring, hidden)
        loss = _loss(m, scored.scores, scored.entropy)
        return loss if scored.loss is None else add(m, loss, scored.loss), scored.logits


def quiet_pass(scoring: Scoring, s: TrainingStep, hidden: Tensor) -> None:
    with s.m.making("logits"), s.m.no_grad():
        if scoring.score in UNWHOLE:
            UNWHOLE[scoring.score](s, _answer_states(s, scoring, hidden))
        elif scoring.score == "divergence":
            _logits(s, scoring, hidden)
        else:
            picked = scoring.picked and not scoring.entropy
            cuts = 0 if scoring.flat else scoring.cuts
            _scored(s, replace(scoring, entropy="", picked=picked, cuts=cuts), hidden)
            s.outputs.clear()


def _answer_states(s: TrainingStep, scoring: Scoring, hidden: Tensor, more: int = 0) -> Tensor:
    """Return the hidden states of the answer's tokens and `more` besides; those of all tokens if
    all are scored."""
    if scoring.scored == "all" or scoring.whole or scoring.score == "tiles" or not s.answer:
        return hidden
    count = min(s.answer + more, s.length)
    x = part(s.m, hidden, s.batch, count, hidden.shape[-1])
    return copied(s.m, x) if s.batch > 1 else x


def _logits(s: TrainingStep, scoring: Scoring, hidden: Tensor) -> Tensor:
    m = s.m
    logits = losses.head(s, _answer_states(s, scoring, hidden, more=1))
    old = s.transformers < facts(s.built.kind.removesuffix("_text")).transformers.wide_loss
    if scoring.wide == "never" or (scoring.wide == "trainer" and m.autocast is None):
        return cast(m, logits, FLOAT32) if old else logits
    m.casts.clear()  # autocast ends with the model's forward
    if scoring.narrow:
        s.outputs.append(logits)
    return cast(m, logits, FLOAT32)


class Scored(NamedTuple):
    """Log-probabilities [batch, tokens], and the other tensors that stay alive: entropies with
    gradients, an additional loss, logits that the loop holds."""

    scores: Tensor
    entropy: Tensor | None = None
    loss: Tensor | None = None
    logits: Tensor | None = None


def _scored(s: TrainingStep, scoring: Scoring, hidden: Tensor) -> Scored:
    m, logits = s.m, _logits(s, scoring, hidden)
    batch, length, vocab = logits.shape
    tokens = scoring.tokens(s.answer, length)
    index = m.new((batch, tokens), INT64)
    loss = _chosen_cross_entropy(m, logits) if scoring.likelihood and m.grad else None
    if scoring.temperature == "view":
        logits = probabilities.scaled_view(m, logits, (batch, tokens, vocab))
    lasting = logits if scoring.outputs or scoring.lasts else None
    logits = _cut(m, scoring, logits, (batch, tokens, vocab))
    scorer = WITH_GRADIENTS.get(scoring.entropy)
    entropy = scorer(m, logits) if scorer is not None else None
    without_gaps = _without_gaps(m, scoring, logits)
    scores = SCORES[scoring.score](m, logits, index)
    del without_gaps
    _logged(m, scoring, logits, batch // 2 * min(s.answer or tokens, tokens))
    return Scored(scores, entropy, loss, lasting if scoring.outputs else None)


def _cut(m: Machine, scoring: Scoring, logits: Tensor, shape: Shape) -> Tensor:
    """Return the logits sliced to `shape`, copied if the source copies them."""
    for _ in range(scoring.cuts):
        logits = part(m, logits, *shape)
    if scoring.temperature == "new":
        logits = scale(m, logits)
    return copied(m, logits) if scoring.copied and shape[0] > 1 else logits


def _without_gaps(m: Machine, scoring: Scoring, logits: Tensor) -> Tensor | None:
    """Return the contiguous copy that log_softmax makes, None if it makes none."""
    gaps = scoring.score == "whole" and scoring.gaps and logits.shape[0] > 1
    return m.new(logits.shape, logits.dtype) if gaps else None


def _logged(m: Machine, scoring: Scoring, logits: Tensor, chosen: int) -> None:
    """Allocate the temporaries of logged metrics: logits of `chosen` tokens, and entropies."""
    if scoring.picked:
        m.hidden(logits.dtype.size(chosen * logits.shape[-1]), name="logits")
    if scoring.entropy == "chunks":
        dense = not scoring.gaps or logits.shape[0] == 1
        probabilities.entropies(m, logits, dense=dense)


def _compiled_entropy(m: Machine, x: Tensor) -> Tensor:
    """Return entropies of the logits `x`, computed by one compiled kernel each way; backward reads
    the logits again."""
    out, sums = m.new(x.shape[:-1], FLOAT32), m.new(x.shape[:-1], FLOAT32)
    record(m, _of_saved, [x], [x, sums], out)
    return out


def _of_saved(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
    return [m.new(saved[0].shape, saved[0].dtype)]


def _parallel(m: Machine, x: Tensor, index: Tensor) -> Tensor:
    """Return log-probabilities from a tensor-parallel softmax that is saved, and overwritten by its
    gradient."""
    soft = m.new(x.shape, x.dtype)
    out = m.new(x.shape[:-1], x.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [saved[0]]

    record(m, back, [x], [soft, m.new(x.shape[:-1], BOOL), index], out)
    return out


SCORES: Mapping[str, Score] = {
    "selective": probabilities.selective,
    "by_rows": probabilities.by_rows,
    "whole": probabilities.whole,
    "kernel": partial(probabilities.kernel, over=False),
    "over": partial(probabilities.kernel, over=True),
    "parallel": _parallel,
}
WITH_GRADIENTS: Mapping[str, Callable[[Machine, Tensor], Tensor]] = {
    "whole": probabilities.entropy_of_all,
    "compiled": _compiled_entropy,
}


def _loss(m: Machine, scores: Tensor, entropy: Tensor | None = None) -> Tensor:
    """Return the policy loss: the mean of clamped ratios times advantages, each [batch, tokens] in
    float32."""
    ratio = of_result(m, sub(m, scores, scores.detach()))
    advantage = m.new((scores.shape[0], 1), FLOAT32)
    terms = add(m, mul(m, ratio, advantage), mul(m, clamp(m, ratio), advantage))
    if entropy is not None:
        terms = add(m, terms, entropy)
    return _mean(m, terms)


def _mean(m: Machine, terms: Tensor) -> Tensor:
    return total(m, terms.view(1, terms.numel)).view()


def _chosen_cross_entropy(m: Machine, logits: Tensor) -> Tensor:
    """Return the cross entropy of the batch's chosen half, from a copy of its logits without the
    last token's."""
    batch, length, vocab = logits.shape
    half = batch // 2
    x = part(m, part(m, logits, half, length, vocab), half, length - 1, vocab)
    x = copied(m, x).view(half * (length - 1), vocab)
    return losses.cross_entropy(m, x, m.new((half, length - 1), INT64))


def _jensen_shannon_loss(
    s: TrainingStep, scoring: Scoring, hidden: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return (generalized Jensen-Shannon divergence of student and teacher, logits kept). The
    teacher's logits are made after the student's; both are divided by a temperature, and mixed in a
    stack of two."""
    m, logits = s.m, _logits(s, scoring, hidden)
    batch, length, vocab = logits.shape
    shape = batch, length - 1, vocab
    with m.no_grad():
        teacher = cast(m, m.new(logits.shape, s.computing), logits.dtype)
    student = scale(m, part(m, logits, *shape))
    with m.no_grad():
        of_teacher = scale(m, part(m, teacher, *shape))
    first = softmax(m, student)
    with m.no_grad():
        second = softmax(m, of_teacher)
    weighted = [scale(m, first), m.new(shape, first.dtype)]
    pair = probabilities.stacked(m, weighted)
    del weighted
    mixture = probabilities.log_of_sum(m, pair, shape)
    del pair
    parts = [mul(m, of_result(m, x), sub(m, x, mixture)) for x in (second, first)]
    loss = _mean(m, copied(m, add(m, scale(m, parts[0]), scale(m, parts[1]))))
    del parts, mixture, student, of_teacher, teacher
    return loss, None


# ---- never whole


def _trl_scores(s: TrainingStep, x: Tensor) -> Tensor:
    """Return the log-probabilities of the scored tokens by TRL's tiles (losses.tiled): all but a
    row's last, or those of the answer, picked by a mask."""
    tokens = s.answer or s.length - 1
    x = part(s.m, x, s.batch, s.length - 1, x.shape[-1])
    return losses.tiled(s, x, s.batch * tokens, (s.batch, tokens))


def _tiled_scores(tiles: Tiles, s: TrainingStep, x: Tensor) -> Tensor:
    """Return log-probabilities as one graph node: each tile's logits are computed in forward, and
    again in backward."""
    m, weight = s.m, losses.weight_of(s)
    outputs = weight.numel // x.shape[-1]
    size = min(tiles.tokens(outputs), x.rows) * outputs
    with m.no_grad():
        states, used = lower(m, x), lower(m, weight)
        wide = cast(m, used, FLOAT32) if tiles.wide else None
        scores, sums = m.new(x.shape[:-1], FLOAT32), m.new(x.shape[:-1], FLOAT32)
        m.product()
        m.hidden(tiles.forward * size, name="logits")
        del wide
    forms = [(states.shape, states.dtype), (weight.shape, used.dtype)]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradients = [
            m.new(*form) if needed else None for form, needed in zip(forms, needs, strict=True)
        ]
        wide = m.new(forms[1][0], FLOAT32) if tiles.wide else None
        piece = m.new(*forms[1]) if needs[1] else None  # of the tile before, of the head
        m.hidden(tiles.backward * size, name="logits")
        del wide, piece
        return gradients

    record(m, back, [x, weight], [states.detach(), used.detach(), sums], scores)
    return scores


def _liger_scores(s: TrainingStep, x: Tensor) -> Tensor:
    """Return Liger's log-probabilities. Gradients are made with the loss, row by row: those of the
    head in float32 for each row, and added."""
    m, weight = s.m, losses.weight_of(s)
    width = x.shape[-1]
    tokens, outputs = min(LIGER[0], x.shape[1]), min(LIGER[1], weight.numel // width)
    of_head = m.new(weight.shape, weight.dtype) if weight.trainable else None
    rows = [m.new((1, *x.shape[1:]), x.dtype) for _ in range(x.shape[0])]
    piece = m.new(weight.shape, FLOAT32) if weight.trainable else None
    m.product()
    sizes = x.shape[1] * width, outputs * width, outputs * width
    m.hidden(LIGER_BYTES * tokens * outputs, *(FLOAT32.size(n) for n in sizes), name="logits")
    if weight.trainable and weight.dtype != FLOAT32:
        m.hidden(weight.nbytes, name="logits")
    del piece
    of_states = m.new(x.shape, x.dtype)
    del rows
    scores = m.new((x.shape[0], 1), FLOAT32)
    return losses.in_forward(m, (x, weight), (of_states, of_head), scores)


UNWHOLE: Mapping[str, Callable[[TrainingStep, Tensor], Tensor]] = {
    "tiles": _trl_scores,
    "liger": _liger_scores,
    **{name: partial(_tiled_scores, tiles) for name, tiles in TILED.items()},
}


# ---- one output


def one_output(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return a reward model's loss on pairs: one score per token, of which one per sequence
    counts."""
    m = s.m
    with m.making("logits"):
        scores = losses.head(s, hidden)
        if m.autocast is not None:
            scores = cast(m, scores, FLOAT32)
        picked = part(m, scores, s.batch, 1)
        return _mean(m, of_result(m, scale_(m, copied(m, picked)))), None


def one_output_quiet(s: TrainingStep, hidden: Tensor) -> None:
    with s.m.no_grad():
        one_output(s, hidden)

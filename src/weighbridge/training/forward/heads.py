"""Log-probabilities of the tokens that were written, as frameworks make them of the logits.

A head is two programs: one with gradients, that ends in the loss, and a quiet one without. Both are
put together from what a source does, one after the other (heads.txt, by framework and release):

    scored        log-probabilities of the answer's tokens alone, or of all
    whole         logits of all tokens are made, and the answer's cut out
    wide          float32: "trainer", where accelerate casts what autocast gave; "always"; "never"
    cuts          slices of the logits, [:, :-1] and [:, -k:]: each makes zeros of the whole in
                  backward. Where two are cut, logits are asked for with one token more
    temperature   "new": a copy; "view": in place through a view, whose gradient is copied twice
    score         what makes log-probabilities of the logits (ops/probabilities.py)
    entropy       "chunks": to be logged, 128 tokens at a time; "whole": with gradients;
                  "compiled": with gradients, in one kernel each way
    copied        what was cut is copied in one piece
    likelihood    cross entropy of the chosen half besides
    picked        logits of chosen answers, then of rejected ones, are copied for their mean; where
                  entropies are logged, too, not in the quiet pass
    lasts         logits that were copied live until they are scored
    outputs       the loop's variables have the logits until the loss is there
    narrow        they have those that were not cast yet
    flat          the quiet pass cuts before it casts
    graph         the reference's pass runs while the policy's graph lives
    pairs         two sequences for each of the batch

Heads that never have whole logits are tiles: of some tokens at a time, with so many bytes a number.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple, dataclass, replace
from weighbridge.models.arch.model_types import NEVER, facts
from weighbridge.training.forward import losses
from weighbridge.training.forward.losses import Loss
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
    sub,
    total,
)
from weighbridge.training.forward.ops.shaping import copied, part
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Tensor

Quiet = Callable[[TrainingStep, Tensor], None]
Score = Callable[[Machine, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How logits become log-probabilities of the tokens that were written: with gradients, and
    without.

    update        (step, hidden) -> (loss, logits that the loop still has, or None)
    quiet         the same pass without gradients; what it leaves is small, and freed
    answer        logits are of the answer's tokens alone (`TrainingStep.answer` of each row, and one
                  more where the source takes one); else of all
    under_graph   the reference's pass runs while the policy's graph lives
    rows          sequences of a forward for each of the batch: 2 for pairs
    known         False: read by hand alone, to be widened
    """

    update: Loss
    quiet: Quiet
    answer: bool = False
    under_graph: bool = False
    rows: int = 1
    known: bool = True
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """One row of heads.txt."""

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


class TableRow(NamedTuple):
    """A row of the table, with whom it is about."""

    framework: str
    methods: frozenset[str]
    since: tuple[int, ...]
    words: frozenset[str]
    scoring: Scoring
    source: str


class Tiles(NamedTuple):
    """Logits of some tokens at a time. `forward`, `backward`: bytes a number of a tile at most;
    `gradient`: whether that of the head is summed in float32; `piece`: whether a tile makes one of
    its own; `wide`: a copy of the head in float32."""

    tokens: Callable[[int], int]  # of a tile, by the outputs
    outputs: int  # of a tile at most
    forward: int
    backward: int
    gradient: bool = False
    piece: bool = False
    wide: bool = False


FEW = 512  # tokens of verl's tiles (FusedLinearForPPO, chunk_size)
LIGER = (2048, 4096)  # tokens, outputs: liger_kernel 0.8.5 chunked_loss/fused_linear_ppo.py
LIGER_BYTES = 16  # logits, what is subtracted, probabilities and their gradients, in float32
WORKSPACE = 256 << 20  # agilerl 2.58 core/base.py, _resolve_fused_chunk_rows: bytes of float32
TILED: Mapping[str, Tiles] = {
    # logits in 16 bits and float32, softmax, their product; twice as much for the entropy's
    "verl": Tiles(lambda _: FEW, 1 << 30, 12, 20, piece=True),
    "agilerl": Tiles(
        lambda v: min(max(WORKSPACE // (4 * v), 128), 4096), 1 << 30, 8, 16, piece=True, wide=True
    ),
    "least": Tiles(lambda _: 2, 1 << 30, 8, 8),  # unsloth fills what is free: at least 2 tokens
}


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
    `fused`: verl's own kernels; `liger`: those of Liger; `entropy`: of the loss, with gradients.
    What has no row is TRL's newest, not known. Source: heads.txt."""
    if method == "reward":
        return Head(update=_one_output, quiet=_one_output_quiet, rows=2, source=REWARD)
    row = _row(method, framework, release or NEVER)
    own = row.framework == framework
    scoring, words = row.scoring, row.words
    quiet = scoring
    if liger or (fused and framework in ("verl", "easyr1")):
        scoring = replace(scoring, score="liger" if liger else "verl")
        quiet = quiet if liger and scoring.scored == "answer" else scoring
    elif entropy and not scoring.entropy:
        compiled = framework in COMPILED
        score = "kernel" if scoring.score == "over" else scoring.score
        quiet = scoring = replace(
            scoring, score=score, entropy="compiled" if compiled else "whole"
        )
    return Head(
        update=partial(_update, scoring),
        quiet=partial(_quiet, quiet),
        answer=scoring.scored == "answer",
        under_graph="graph" in words,
        rows=2 if "pairs" in words else 1,
        known=own and "read" not in words and not liger and scoring.entropy != "compiled",
        source=row.source,
    )


COMPILED = ("verl", "easyr1", "openrlhf")  # torch.compile of their entropy
REWARD = "trl 1.16 trainer/reward_trainer.py: AutoModelForSequenceClassification, num_labels 1"
ALIKE = {
    "gspo": "grpo",
    "dapo": "grpo",
    "cispo": "grpo",
    "reinforce": "grpo",
    "ppo": "grpo",
    "ipo": "dpo",
}


def _row(method: str, framework: str, release: tuple[int, ...]) -> TableRow:
    """Find the youngest row that is not younger than the release."""
    for name in dict.fromkeys((method, ALIKE.get(method, method))):
        for asked in (framework, "trl"):
            rows = [
                x for x in table() if x.framework == asked and ({name, "*"} & x.methods)
            ]
            when = release if asked == framework else NEVER
            if rows:
                return max((x for x in rows if x.since <= when), key=lambda x: x.since)
    raise KeyError(method)


@cache
def table() -> tuple[TableRow, ...]:
    """Read heads.txt."""
    return tuple(map(_read, lines_beside(__file__, "heads.txt")))


FLAGS = ("whole", "copied", "likelihood", "picked", "lasts", "outputs", "narrow", "flat")


def _read(line: str) -> TableRow:
    row, source = line.split(" | ")
    framework, methods, since, scored, wide, *rest = row.split()
    words = frozenset(x for x in rest if "=" not in x)
    values: dict[str, Any] = dict(x.split("=") for x in rest if "=" in x)
    values |= {name: True for name in FLAGS if name in words}
    values["cuts"] = int(values.get("cuts", 0))
    scoring = Scoring(scored=scored, wide=wide, **values)
    number = tuple(map(int, since.split(".")))
    return TableRow(framework, frozenset(methods.split(",")), number, words, scoring, source)


# ---- with whole logits


def _update(scoring: Scoring, s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    m = s.m
    with m.making("logits"):
        if scoring.score in UNWHOLE:
            return _loss(m, UNWHOLE[scoring.score](s, _of_answer(s, scoring, hidden))), None
        if scoring.score == "divergence":
            return _divergence(s, scoring, hidden)
        scored = _scored(s, scoring, hidden)
        loss = _loss(m, scored.scores, scored.entropy)
        return loss if scored.loss is None else add(m, loss, scored.loss), scored.logits


def _quiet(scoring: Scoring, s: TrainingStep, hidden: Tensor) -> None:
    with s.m.making("logits"), s.m.no_grad():
        if scoring.score in UNWHOLE:
            UNWHOLE[scoring.score](s, _of_answer(s, scoring, hidden))
        elif scoring.score == "divergence":
            _logits(s, scoring, hidden)
        else:
            picked = scoring.picked and not scoring.entropy
            cuts = 0 if scoring.flat else scoring.cuts
            _scored(s, replace(scoring, entropy="", picked=picked, cuts=cuts), hidden)
            s.outputs.clear()


def _of_answer(s: TrainingStep, scoring: Scoring, hidden: Tensor, more: int = 0) -> Tensor:
    """Cut out the states of the answer's tokens, and of `more`."""
    if scoring.scored == "all" or scoring.whole or not s.answer:
        return hidden
    count = min(s.answer + more, s.length)
    x = part(s.m, hidden, s.batch, count, hidden.shape[-1])
    return copied(s.m, x) if s.batch > 1 else x


def _logits(s: TrainingStep, scoring: Scoring, hidden: Tensor) -> Tensor:
    m = s.m
    logits = losses.head(s, _of_answer(s, scoring, hidden, more=1))
    old = s.transformers < facts(s.built.kind.removesuffix("_text")).transformers.wide_loss
    if scoring.wide == "never" or (scoring.wide == "trainer" and m.autocast is None):
        return cast(m, logits, FLOAT32) if old else logits
    m.casts.clear()  # autocast ends with the forward of the model
    if scoring.narrow:
        s.outputs.append(logits)
    return cast(m, logits, FLOAT32)


class Scored(NamedTuple):
    """Log-probabilities of tokens, [batch, tokens], and what is there besides: entropies with
    gradients, a loss of its own, logits that the loop has."""

    scores: Tensor
    entropy: Tensor | None = None
    loss: Tensor | None = None
    logits: Tensor | None = None


def _scored(s: TrainingStep, scoring: Scoring, hidden: Tensor) -> Scored:
    m, logits = s.m, _logits(s, scoring, hidden)
    batch, tokens, vocab = logits.shape
    answer = scoring.scored == "answer" and s.answer
    tokens = min(s.answer, tokens - 1) if answer else tokens - min(scoring.cuts, 1)
    index = m.new((batch, tokens), INT64)
    loss = entropy = None
    if scoring.likelihood and m.grad:
        loss = _likelihood(m, logits)
    if scoring.temperature == "view":
        logits = probabilities.scaled_view(m, logits, (batch, tokens, vocab))
    lasting = logits if scoring.outputs or scoring.lasts else None
    for _ in range(scoring.cuts):
        logits = part(m, logits, batch, tokens, vocab)
    if scoring.temperature == "new":
        logits = scale(m, logits)
    if scoring.copied and batch > 1:
        logits = copied(m, logits)
    dense = batch == 1 or not scoring.cuts or scoring.copied or scoring.temperature == "new"
    if scoring.entropy in WITH_GRADIENTS:
        entropy = WITH_GRADIENTS[scoring.entropy](m, logits)
    gaps = scoring.score == "whole" and not dense
    dense_copy = m.new(logits.shape, logits.dtype) if gaps else None
    scores = SCORES[scoring.score](m, logits, index)
    del dense_copy
    if scoring.picked:
        chosen = batch // 2 * min(s.answer or tokens, tokens) * vocab
        m.hidden(logits.dtype.size(chosen), name="logits")
    if scoring.entropy == "chunks":
        probabilities.entropies(m, logits, dense=dense)
    return Scored(scores, entropy, loss, lasting if scoring.outputs else None)


def _compiled(m: Machine, x: Tensor) -> Tensor:
    """Entropies in one kernel each way, which reads the logits again."""
    out, sums = m.new(x.shape[:-1], FLOAT32), m.new(x.shape[:-1], FLOAT32)
    record(m, _of_saved, [x], [x, sums], out)
    return out


def _of_saved(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
    return [m.new(saved[0].shape, saved[0].dtype)]


def _parallel(m: Machine, x: Tensor, index: Tensor) -> Tensor:
    """A softmax that is saved, and written over with the gradient."""
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
    "compiled": _compiled,
}


def _loss(m: Machine, scores: Tensor, entropy: Tensor | None = None) -> Tensor:
    """A ratio to what the scores were, clamped, times an advantage: [batch, tokens] in float32."""
    ratio = of_result(m, sub(m, scores, scores.detach()))
    advantage = m.new((scores.shape[0], 1), FLOAT32)
    terms = add(m, mul(m, ratio, advantage), mul(m, clamp(m, ratio), advantage))
    if entropy is not None:
        terms = add(m, terms, entropy)
    return _mean(m, terms)


def _mean(m: Machine, terms: Tensor) -> Tensor:
    return total(m, terms.view(1, terms.numel)).view()


def _likelihood(m: Machine, logits: Tensor) -> Tensor:
    """Cross entropy of the chosen half, whose logits are copied without their last token."""
    batch, length, vocab = logits.shape
    half = batch // 2
    x = part(m, part(m, logits, half, length, vocab), half, length - 1, vocab)
    x = copied(m, x).view(half * (length - 1), vocab)
    return losses.cross_entropy(m, x, m.new((half, length - 1), INT64))


def _divergence(
    s: TrainingStep, scoring: Scoring, hidden: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The generalized Jensen-Shannon divergence of student and teacher, whose logits are made when
    the student's are there. Both are divided by a temperature, and mixed in a stack of two."""
    m, logits = s.m, _logits(s, scoring, hidden)
    batch, length, vocab = logits.shape
    shape = batch, length - 1, vocab
    with m.no_grad():
        teacher = cast(m, m.new(logits.shape, s.computing), logits.dtype)
    student = scale(m, part(m, logits, *shape))
    with m.no_grad():
        of_teacher = scale(m, part(m, teacher, *shape))
    first = probabilities.softmax(m, student)
    with m.no_grad():
        second = probabilities.softmax(m, of_teacher)
    weighted = [scale(m, first), m.new(shape, first.dtype)]
    pair = probabilities.stacked(m, weighted)
    del weighted
    mixture = probabilities.log_of_sum(m, pair, shape)
    del pair
    parts = [_kl(m, mixture, x) for x in (second, first)]
    loss = _mean(m, copied(m, add(m, scale(m, parts[0]), scale(m, parts[1]))))
    del parts, mixture, student, of_teacher, teacher
    return loss, None


def _kl(m: Machine, x: Tensor, target: Tensor) -> Tensor:
    """exp(target) * (target - x)"""
    return mul(m, of_result(m, target), sub(m, target, x))


# ---- never whole


def _trl(s: TrainingStep, x: Tensor) -> Tensor:
    """TRL's tiles (losses.tiled), of the tokens that are scored."""
    tokens = s.answer or s.length - 1
    return losses.tiled(s, x, s.batch * tokens, (s.batch, tokens))


def _tiled(tiles: Tiles, s: TrainingStep, x: Tensor) -> Tensor:
    """One node: logits of a tile at a time in forward, and again in backward."""
    m, weight = s.m, losses.weight_of(s)
    outputs = weight.numel // x.shape[-1]
    size = min(tiles.tokens(outputs), x.rows) * min(tiles.outputs, outputs)
    with m.no_grad():
        states, used = lower(m, x), lower(m, weight)
        wide = cast(m, used, FLOAT32) if tiles.wide else None
        scores, sums = m.new(x.shape[:-1], FLOAT32), m.new(x.shape[:-1], FLOAT32)
        m.product()
        m.hidden(tiles.forward * size, name="logits")
        del wide
    forms = [(states.shape, states.dtype), (weight.shape, used.dtype)]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        made = [
            m.new(form, FLOAT32 if tiles.gradient else dtype) if needed else None
            for (form, dtype), needed in zip(forms, needs, strict=True)
        ]
        wide = m.new(forms[1][0], FLOAT32) if tiles.wide else None
        piece = m.new(*forms[1]) if tiles.piece and needs[1] else None
        m.hidden(tiles.backward * size, name="logits")
        del wide, piece
        return [
            g if g is None or g.dtype == dtype else m.new(form, dtype)
            for g, (form, dtype) in zip(made, forms, strict=True)
        ]

    record(m, back, [x, weight], [states.detach(), used.detach(), sums], scores)
    return scores


def _liger(s: TrainingStep, x: Tensor) -> Tensor:
    """Gradients are made with the loss, a row after the other: those of the head in float32 for each
    row, and added."""
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
    "tiles": _trl,
    "liger": _liger,
    **{name: partial(_tiled, tiles) for name, tiles in TILED.items()},
}


# ---- one output


def _one_output(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """A number for each token, of which one of each sequence is picked; pairs are compared."""
    m = s.m
    with m.making("logits"):
        scores = losses.head(s, hidden)
        if m.autocast is not None:
            scores = cast(m, scores, FLOAT32)
        picked = part(m, scores, s.batch, 1)
        return _mean(m, of_result(m, scale_(m, copied(m, picked)))), None


def _one_output_quiet(s: TrainingStep, hidden: Tensor) -> None:
    with s.m.no_grad():
        _one_output(s, hidden)

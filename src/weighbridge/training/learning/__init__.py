"""Learning from rewards and preferences, as frameworks have it: one file a framework.

    run(asked, cards) -> LearningRun       roles, rows, lengths and what goes away, by release

trl.py        TRL, and those that train by its classes: ms-swift, LLaMA-Factory, axolotl, Unsloth
agilerl.py    AgileRL, by transformers and PEFT
verl.py       verl and EasyR1, by FSDP                openrlhf.py   OpenRLHF, by DeepSpeed
nemo_rl.py    NeMo-RL, by FSDP2                       megatron.py   their Megatron backends, slime
words.py      what all of them call our settings

A step asks two questions that exist: what serving takes, of the engine that writes, and what
training takes, of each model that learns. What differs is which of them is there at which instant.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from math import gcd

from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import Sentence, clauses, sentence
from weighbridge.base.versions import numbers
from weighbridge.engines.engine import written
from weighbridge.models.arch.model_types import NEVER
from weighbridge.settings.ranks import SIZES, Ranks
from weighbridge.settings.setting import fields
from weighbridge.training.learning import megatron, record
from weighbridge.training.learning.record import LearningRun, Rollout
from weighbridge.workload import Train
from weighbridge.workload.train import RolloutSettings

USUAL = "trl"  # if the user names no framework
TOGETHER = (
    0,
    20,
    1,
)  # vLLM, whose CuMem pool turns expandable segments off itself (pull request 40812)
EVER: tuple[int, ...] = (*NEVER, 1)
OF_ENGINE = [*fields(RolloutSettings)][1:]  # rollout settings without the engine's name
PAIRS = 21  # neighbouring releases whose laws were compared (answers/estimate/learning_roles.py)
# A framework -> the file of its rules, its title, its releases and traits (programs.txt)
ROWS = {row.split()[0]: row.split()[1:] for row in lines_beside(__file__, "programs.txt")}
FILES: Mapping[str, str] = {name: row[0] for name, row in ROWS.items()}
TITLES: Mapping[str, str] = {name: row[1] for name, row in ROWS.items()}


class Lack(NamedTuple):
    """Methods that a framework lacks in a range of releases, with the source (lacks.txt). With
    `split`, only its Megatron backend lacks them."""

    framework: str
    since: tuple[int, ...]
    until: tuple[int, ...]
    methods: tuple[str, ...]
    split: bool
    seen: str


def _lack(line: str) -> Lack:
    facts, seen = line.split(" | ")
    name, since, until, methods, *split = facts.split()
    ended = EVER if until == "-" else numbers(until) or ()
    return Lack(name, numbers(since) or (), ended, tuple(methods.split(",")), bool(split), seen)


LACKS = tuple(map(_lack, lines_beside(__file__, "lacks.txt")))

__all__ = ["FILES", "TITLES", "USUAL", "LearningRun", "Rollout", "run"]


def run(asked: Train, cards: int) -> LearningRun:
    """Return the run's roles and settings. Raises UnsupportedError if the framework's rules for the
    method are unknown, UsageError if settings contradict each other."""
    name = asked.framework or USUAL
    if name not in FILES:
        known = ", ".join(FILES)
        raise UnsupportedError(sentence("learning.framework", framework=name, known=known))
    _refuse(asked, name)
    stored = asked.dtype or (None if asked.framework else record.sixteen(asked))
    one = _rules(name)(asked.but(framework=name, dtype=stored), cards)
    _refuse_misfits(one, asked, cards)
    lines = (*_idle(one, asked), *_counted(one, asked, cards))
    return replace(one, notes=lines, outside=outside(asked))


def outside(asked: Train) -> str:
    """Return "earlier" or "newer" if the framework's release is outside those whose rules are
    known, else "", also if the user names no release."""
    release = numbers(asked.framework_version)
    oldest, newest = map(numbers, ROWS[asked.framework or USUAL][2:4])
    if release is None:
        return ""
    if newest is not None and release[: len(newest)] > newest:
        return "newer"
    return "earlier" if release < (oldest or ()) else ""


def fine_tuned(asked: Train) -> Train:
    """Return the settings of plain fine-tuning in a framework that also trains on rewards."""
    return _rules(asked.framework or USUAL)(asked, counted(asked)).trained


def counted(asked: Train) -> int:
    """Return the number of GPUs of a run: of `--gpu` if it is set, else as many as there are
    ranks."""
    budget = asked.budget()
    return Ranks.of(asked.said).cards if budget is None else budget.choice.count


def _rules(name: str) -> Callable[[Train, int], LearningRun]:
    rules: Callable[[Train, int], LearningRun] = import_module(f"{__name__}.{FILES[name]}").run
    return rules


def _refuse(asked: Train, name: str) -> None:
    """Raise UsageError if the framework does not have the method."""
    release = numbers(asked.framework_version) or NEVER
    for row in LACKS:
        there = row.since <= release < row.until and (not row.split or megatron.split(asked))
        if name == row.framework and asked.learns in row.methods and there:
            raise TriedError(_lacking(row, asked.learns), seen=row.seen)
    _refuse_answers(asked, name, release)


def _refuse_answers(asked: Train, name: str, release: tuple[int, ...]) -> None:
    """Raise UsageError if the framework cannot limit tokens per forward, or cannot generate answers
    with this engine or in this number."""
    title, counts, traits = TITLES[name], ROWS[name][4], ROWS[name][5:]
    if asked.max_tokens_per_gpu and release < (EVER if counts == "-" else numbers(counts) or ()):
        raise UsageError(sentence("learning.no_tokens", framework=title))
    if asked.rollout_engine == "none" and "engine" in traits:
        raise UnsupportedError(sentence("learning.no_generate", framework=title))
    if asked.num_generations == 1 and "compares" in traits and asked.learns != "ppo":
        raise TriedError(
            sentence("learning.one_answer", framework=title),
            seen="trl 0.20 trainer/grpo_config.py: GRPO requires at least 2 generations per prompt "
            "to calculate the advantages.",
        )


def _lacking(row: Lack, method: str) -> Sentence:
    """Return the message that a framework does not have a method, with the frameworks that do and
    since which release."""
    title, newest = TITLES[row.framework], (r for r in LACKS if r.until > NEVER)
    without = {r.framework for r in newest if method in r.methods}
    if row.until <= NEVER:
        until = written(row.until)
        return sentence("learning.lacks_until", framework=title, method=method.upper(), until=until)
    known = f"--framework {', '.join(name for name in FILES if name not in without)}"
    values = {"framework": title, "method": method.upper(), "known": known}
    if not row.since:
        return sentence("learning.lacks", **values)
    return sentence("learning.lacks_since", since=written(row.since), **values)


def own_cards(rollout: Rollout) -> int:
    """Return the number of GPUs that only the engine uses; 0 if it shares the trainer's. A GPU
    named without a count means one per rank."""
    ranks = rollout.infer.tensor_parallel_size or 1
    budget = Train(gpu=rollout.cards).budget() if rollout.cards else None
    if budget is None:
        return 0
    count = budget.choice.count
    return ranks if count == 1 and ":" not in rollout.cards else count


def _divides(rollout: Rollout, ranks: int) -> None:
    """Raise UsageError if the engine's own GPUs are not a multiple of its tensor-parallel
    `ranks`."""
    cards = own_cards(rollout)
    if cards % ranks:
        values = {"ranks": ranks, "gpu": rollout.cards, "fewer": gcd(ranks, cards)}
        raise UsageError(sentence("learning.own_ranks", **values))


def _refuse_short_forwards(one: LearningRun, asked: Train) -> None:
    """Raise UsageError if verl's token limit per forward, times context-parallel ranks, is below
    the longest row."""
    tokens, ranks = record.tokens_of(asked)
    row = int(one.effective.get("seq_len") or one.trained.seq_len or 0)
    if one.effective["framework"] == "verl" and 0 < tokens < row:
        values = {"tokens": tokens, "row": row, "most": -(-row // ranks)}
        raise TriedError(
            sentence("learning.tokens", **values),
            seen="verl 0.3 to 0.7 utils/seqlen_balancing.py (rearrange_micro_batches): assert "
            "max_token_len >= max_seq_len",
        )


def _refuse_misfits(one: LearningRun, asked: Train, cards: int) -> None:
    """Raise UsageError if rows are longer than a forward's token limit, or the engine does not fit
    its GPUs' number or cannot sleep there."""
    _refuse_short_forwards(one, asked)
    rollout = one.rollout
    if rollout is None or rollout.generates:
        return
    ranks = rollout.infer.tensor_parallel_size or 1
    if not rollout.cards and cards % ranks:
        raise UsageError(sentence("learning.ranks", ranks=ranks, cards=cards))
    _divides(rollout, ranks)
    engine = numbers(rollout.infer.engine_version) or NEVER
    if rollout.sleep and asked.expandable_segments and engine < TOGETHER:
        raise TriedError(
            sentence("learning.segments", version=rollout.infer.engine_version),
            seen="vllm 0.8 to 0.20.0 device_allocator/cumem.py: Expandable segments are not "
            "compatible with memory pool (before 0.8 nothing was freed)",
        )


# ---- notes on an answer


def _idle(one: LearningRun, asked: Train) -> Iterator[Sentence]:
    """Yield notes on settings that change nothing, and on memory that is counted without effect."""
    written = one.rollout is not None and one.rollout.generates
    named = [name for name in OF_ENGINE if written and getattr(asked, name) not in (None, False)]
    if named:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in named)
        yield sentence("learning.no_engine", flags=flags)
    counted = asked.reference in ("copy", "host", "precomputed")
    if asked.kl_beta == 0 and counted and asked.learns != "ppo":
        yield sentence("learning.no_distance", reference=asked.reference)
    if asked.learns == "gkd":  # no setting for it
        yield sentence("learning.teacher")


def _counted(one: LearningRun, asked: Train, cards: int) -> Iterator[Sentence]:
    """Yield notes on settings that are replaced: a known release, whole groups of answers, or fewer
    GPUs."""
    name = str(one.effective["framework"])
    side = outside(asked)
    if side:
        read = ROWS[name][2 + (side == "newer")]
        values = {"library": name, "version": asked.framework_version, "last": read}
        yield clauses(sentence(side, **values), sentence("learning.unread", pairs=PAIRS))
    rows, taken = asked.batch_size, one.effective["batch_size"]
    if name == "unsloth" and rows is not None and rows != taken:
        yield sentence("rewards.groups", rows=rows, answers=taken)
    ranks = Ranks.of({name: getattr(asked, name) for name in SIZES.values()})
    if ranks.data > 1 and ranks.cards < cards:
        most = cards * ranks.data // ranks.cards
        yield sentence("learning.idle", ranks=ranks.cards, cards=cards, most=most)

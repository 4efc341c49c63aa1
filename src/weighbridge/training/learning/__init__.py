"""Learning from rewards and preferences, as frameworks have it: one file a framework.

    run(asked, cards) -> LearningRun       roles, rows, lengths and what goes away, by release

trl.py        TRL, and those that train by its classes: ms-swift, LLaMA-Factory, axolotl, Unsloth
agilerl.py    AgileRL, by transformers and PEFT
verl.py       verl and EasyR1, by FSDP                openrlhf.py   OpenRLHF, by DeepSpeed
nemo_rl.py    NeMo-RL, by FSDP2                       megatron.py   their Megatron backends, slime

A step asks two questions that exist: what serving takes, of the engine that writes, and what
training takes, of each model that learns. What differs is which of them is there at which instant.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from math import gcd
from typing import Any

from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import numbers
from weighbridge.models.arch.model_types import NEVER
from weighbridge.training.learning import record
from weighbridge.training.learning.record import LearningRun, Rollout
from weighbridge.workload import Train
from weighbridge.workload.train import REWARDS

FILES: Mapping[str, str] = {  # a framework -> the file of its rules
    **dict.fromkeys(("trl", "ms-swift", "llama-factory", "axolotl", "unsloth"), "trl"),
    "agilerl": "agilerl",
    **dict.fromkeys(("verl", "easyr1"), "verl"),
    "openrlhf": "openrlhf",
    "nemo-rl": "nemo_rl",
    **dict.fromkeys(("slime", "megatron"), "megatron"),
}
USUAL = "trl"  # where nobody names a framework
TITLES: Mapping[str, str] = {  # as people write them
    **{name: name for name in ("axolotl", "slime", "verl")},
    "trl": "TRL",
    "ms-swift": "ms-swift",
    "llama-factory": "LLaMA-Factory",
    "agilerl": "AgileRL",
    "unsloth": "Unsloth",
    "easyr1": "EasyR1",
    "openrlhf": "OpenRLHF",
    "nemo-rl": "NeMo-RL",
    "megatron": "Megatron",
}
UNSAID = "-"  # a setting that follows from others there
TOGETHER = (0, 20)  # vLLM, whose pool turns growing segments off by itself (pull request 40812)


class Lack(NamedTuple):
    """Methods that a framework has not, from a release on, and where that was seen."""

    framework: str
    since: tuple[int, ...]
    methods: tuple[str, ...]
    seen: str


LACKS = (
    Lack("trl", (1, 16), ("ppo",), "trl 1.16 trainer/ and experimental/ have no PPO trainer"),
    Lack(
        "llama-factory",
        (),
        tuple(method for method in REWARDS if method != "ppo"),
        "llamafactory 0.9.5 hparams/finetuning_args.py: stage is pt, sft, rm, ppo, dpo or kto",
    ),
    Lack(
        "axolotl",
        (),
        ("ppo", "rloo", "cpo", "gkd", "reinforce"),
        "axolotl 0.19 utils/schemas/enums.py: RLType is dpo, gdpo, grpo, ipo, orpo, kto, simpo, "
        "ebft",
    ),
)

__all__ = ["FILES", "TITLES", "USUAL", "LearningRun", "Rollout", "run"]


def run(asked: Train, cards: int) -> LearningRun:
    """Return the roles of a run and their settings. Raises UnsupportedError for a framework whose
    rules are not known for the method, UsageError where settings contradict each other."""
    name = asked.framework or USUAL
    if name not in FILES:
        known = ", ".join(FILES)
        raise UnsupportedError(sentence("learning.framework", framework=name, known=known))
    file = import_module(f"{__name__}.{FILES[name]}")
    rules: Callable[[Train, int], LearningRun] = file.run
    _refuse(asked, name)
    stored = asked.dtype or (None if asked.framework else record.sixteen(asked))
    one = rules(asked.but(framework=name, dtype=stored), cards)
    _meet(one, asked, cards)
    return one


@cache
def spellings() -> Mapping[tuple[str, str], str]:
    """Read words.txt: (framework, setting or setting=value) -> text."""
    rows = (line.split(None, 2) for line in lines_beside(__file__, "words.txt"))
    return {(framework, setting): text for framework, setting, text in rows}


def spelled(framework: str, change: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Write a change in a framework's own words; the second value names the settings that it has
    none for."""
    texts, others = list[str](), list[str]()
    for name, value in change.items():
        text = spellings().get((framework, f"{name}={value}")) or spellings().get((framework, name))
        if text is None:
            others.append(name)
        elif text != UNSAID:
            texts.append(text.replace("{}", str(value)))
    return " ".join(texts), tuple(others)


def _refuse(asked: Train, name: str) -> None:
    """Raise UsageError where the framework has no such method."""
    release = numbers(asked.framework_version) or NEVER
    for row in LACKS:
        if name == row.framework and asked.learns in row.methods and release >= row.since:
            lacks = sentence("learning.lacks", framework=TITLES[name], method=asked.learns)
            raise TriedError(lacks, seen=row.seen)


def own_cards(rollout: Rollout) -> int:
    """Count the cards that an engine has alone: those that were named, as many as it has ranks where
    a card was named without a count; 0 where it has none."""
    ranks = rollout.infer.tensor_parallel_size or 1
    budget = Train(gpu=rollout.cards).budget() if rollout.cards else None
    if budget is None:
        return 0
    count = budget.choice.count
    return ranks if count == 1 and ":" not in rollout.cards else count


def _forwards(one: LearningRun, asked: Train) -> None:
    """Raise UsageError where verl has no forward for the longest row, whose ranks of a sequence share
    one."""
    most, ranks = asked.max_tokens_per_gpu, asked.context_parallel_size or 1
    row = int(one.effective.get("seq_len") or one.trained.seq_len or 0)
    if one.effective["framework"] == "verl" and most and most * ranks < row:
        values = {"tokens": most * ranks, "row": row, "most": -(-row // ranks)}
        raise TriedError(
            sentence("learning.tokens", **values),
            seen="verl 0.3 to 0.7 utils/seqlen_balancing.py (rearrange_micro_batches): assert "
            "max_token_len >= max_seq_len",
        )


def _meet(one: LearningRun, asked: Train, cards: int) -> None:
    """Raise UsageError where rows are longer than a forward, or the engine cannot be on the cards
    that it is given, or cannot sleep there."""
    _forwards(one, asked)
    rollout = one.rollout
    if rollout is None or rollout.generates:
        return
    ranks = rollout.infer.tensor_parallel_size or 1
    if not rollout.cards and cards % ranks:
        raise UsageError(sentence("learning.ranks", ranks=ranks, cards=cards))
    if own_cards(rollout) % ranks:
        own = {"gpu": rollout.cards, "fewer": gcd(ranks, own_cards(rollout))}
        raise UsageError(sentence("learning.own_ranks", ranks=ranks, **own))
    engine = numbers(rollout.infer.engine_version) or NEVER
    if rollout.sleep and asked.expandable_segments and engine < TOGETHER:
        raise TriedError(
            sentence("learning.segments", version=rollout.infer.engine_version),
            seen="vllm 0.8 to 0.19 device_allocator/cumem.py: Expandable segments are not "
            "compatible with memory pool (before 0.8 nothing was freed)",
        )

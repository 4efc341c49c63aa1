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
from typing import Any

from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import numbers
from weighbridge.models.arch.model_types import NEVER
from weighbridge.training.learning import megatron
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
TOGETHER = (0, 20, 1)  # vLLM, whose pool turns growing segments off by itself (pull request 40812)


class Lack(NamedTuple):
    """Methods that a framework has not, from a release on and before another, and where that was
    seen; by Megatron's backend alone where it is `split`."""

    framework: str
    since: tuple[int, ...]
    methods: tuple[str, ...]
    seen: str
    until: tuple[int, ...] = (*NEVER, 1)
    split: bool = False


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
    Lack(
        "ms-swift",
        (),
        ("ppo", "orpo", "cpo", "simpo"),
        "ms-swift 4.5 megatron/arguments/rlhf_args.py: rlhf_type is dpo, kto, grpo, gkd or rm",
        split=True,
    ),
    Lack("nemo-rl", (), ("ppo",), "NVIDIA-NeMo/RL 0.6 nemo_rl/algorithms has no ppo.py", (0, 7)),
    Lack("slime", (), ("ppo",), "slime 0.1 utils/arguments.py has no use_critic", (0, 2)),
    Lack("megatron", (), ("ppo",), "Megatron-LM train_rl.py and megatron/rl have GRPO alone"),
    Lack("agilerl", (), ("ppo",), "agilerl 2.6 algorithms has no ppo_llm.py", (2, 7)),
)

COUNTS: Mapping[str, tuple[int, ...]] = {  # tokens of a forward, since a release
    **dict.fromkeys(("verl", "nemo-rl", "slime"), ()),
    "openrlhf": (0, 8, 6),
}

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
    one = rules(asked.but(framework=name), cards)
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
    """Raise UsageError where the framework has no such method, or counts no tokens."""
    release = numbers(asked.framework_version) or NEVER
    for row in LACKS:
        there = row.since <= release < row.until and (not row.split or megatron.split(asked))
        if name == row.framework and asked.learns in row.methods and there:
            lacks = sentence("learning.lacks", framework=TITLES[name], method=asked.learns)
            raise TriedError(lacks, seen=row.seen)
    if asked.max_tokens_per_gpu and release < COUNTS.get(name, (*NEVER, 1)):
        option = "--max-tokens-per-gpu"
        raise UsageError(sentence("learning.lacks", framework=TITLES[name], method=option))


def _meet(one: LearningRun, asked: Train, cards: int) -> None:
    """Raise UsageError where the engine cannot be on the trainer's cards, or cannot sleep there."""
    rollout = one.rollout
    if rollout is None or rollout.generates:
        return
    ranks = rollout.infer.tensor_parallel_size or 1
    if not rollout.cards and cards % ranks:
        raise UsageError(sentence("learning.ranks", ranks=ranks, cards=cards))
    engine = numbers(rollout.infer.engine_version) or NEVER
    if rollout.sleep and asked.expandable_segments and engine < TOGETHER:
        raise TriedError(
            sentence("learning.segments", version=rollout.infer.engine_version),
            seen="vllm 0.8 to 0.20.0 device_allocator/cumem.py: Expandable segments are not "
            "compatible with memory pool (before 0.8 nothing was freed)",
        )

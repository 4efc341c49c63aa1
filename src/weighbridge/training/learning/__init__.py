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
from importlib import import_module

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.training.learning.record import LearningRun, Rollout
from weighbridge.workload import Train

FILES: Mapping[str, str] = {  # a framework -> the file of its rules
    **dict.fromkeys(("trl", "ms-swift", "llama-factory", "axolotl", "unsloth"), "trl"),
    "agilerl": "agilerl",
    **dict.fromkeys(("verl", "easyr1"), "verl"),
    "openrlhf": "openrlhf",
    "nemo-rl": "nemo_rl",
    **dict.fromkeys(("slime", "megatron"), "megatron"),
}
USUAL = "trl"  # where nobody names a framework

__all__ = ["FILES", "USUAL", "LearningRun", "Rollout", "run"]


def run(asked: Train, cards: int) -> LearningRun:
    """Return the roles of a run and their settings. Raises UnsupportedError for a framework whose
    rules are not known for the method, UsageError where settings contradict each other."""
    name = asked.framework or USUAL
    if name not in FILES:
        known = ", ".join(FILES)
        raise UnsupportedError(sentence("learning.framework", framework=name, known=known))
    file = import_module(f"{__name__}.{FILES[name]}")
    rules: Callable[[Train, int], LearningRun] = file.run
    return rules(asked.but(framework=name), cards)

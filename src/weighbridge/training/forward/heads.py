"""STUB for development: replaced by rl-heads."""

from collections.abc import Callable

from weighbridge.base.records import dataclass
from weighbridge.training.forward.losses import LOSSES, Loss
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Tensor

Quiet = Callable[[TrainingStep, Tensor], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    update: Loss
    quiet: Quiet
    answer: bool = False
    under_graph: bool = False
    rows: int = 1
    known: bool = True
    source: str = ""


def head(method, framework, release, *, fused=False, liger=False, entropy=False):
    pairs = method in ("dpo", "ipo", "orpo", "cpo", "simpo", "reward")
    return Head(
        update=LOSSES["trl"],
        quiet=LOSSES["trl"],
        rows=2 if pairs else 1,
        under_graph=method in ("dpo", "ipo", "kto"),
        answer=not pairs,
    )

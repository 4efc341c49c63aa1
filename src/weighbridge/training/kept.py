"""Runs that were made, for the next card: what a run takes does not depend on who sells the memory.

A run asks a card what its kernels and cuBLAS take, and nothing else. So a second card of which they
say the same has the run of the first, whatever it holds and costs: a search among cards, a list of
models for a card and a page whose card was changed replay nothing.
"""

from collections.abc import Hashable
from threading import Lock

from weighbridge.training.plan import TrainingPlan
from weighbridge.training.run import StageRuns, runs_of

MOST = 64  # questions about one model
# Cards of other kernels to each: the catalogue's are 49 of full training, which sums in parts that
# processors share out, and 4 of LoRA
CLASSES = 64
Stages = tuple[StageRuns, ...]


class KeptRuns:
    """The runs of one model, by what was asked beside the card."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[Stages]] = {}
        self._turn = Lock()

    def of(self, asked: Hashable, plan: TrainingPlan) -> Stages:
        """Return a run for each stage of the plan: those of a card whose kernels take the same, or
        new ones, of which none has been run yet. `asked` tells the plan but for its card."""
        with self._turn:
            kept = self._kept.pop(asked, [])
            self._kept[asked] = kept  # the last in order: asked for just now
            if len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
            stages = _known(kept, plan)
            kept.append(stages)
            del kept[:-CLASSES]
            return stages


def _known(kept: list[Stages], plan: TrainingPlan) -> Stages:
    """Take the stages that hold for the plan out of those that are kept, or make new ones."""
    for number, stages in enumerate(kept):
        on_card = [run.on(plan) for run in stages]
        known = tuple(run for run in on_card if run is not None)
        if len(known) == len(stages):
            del kept[number]
            return known
    return runs_of(plan)

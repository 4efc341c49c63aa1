"""Runs that were made, for the next card: what a run takes does not depend on who sells the memory.

A run asks a card what its kernels and cuBLAS take, and nothing else. So a second card of which they
say the same has the run of the first, whatever it holds and costs: a search among cards, a list of
models for a card and a page whose card was changed replay nothing.
"""

from collections.abc import Callable, Hashable
from threading import Lock

from weighbridge.training.plan import TrainingPlan
from weighbridge.training.run import StageRuns, runs_of

MOST = 64  # questions about one model
# Cards of other kernels to each: the catalogue's are 49 of full training, which sums in parts that
# processors share out, and 4 of LoRA
CLASSES = 64
WALKS = 2  # questions, asked for last, whose walks are kept: megabytes each
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
            for old in list(self._kept.values())[:-WALKS]:
                for run in (run for stages in old for run in stages):
                    run.forget()
            stages = _known(kept, plan)
            kept.append(stages)
            del kept[:-CLASSES]
            return stages


def _known(kept: list[Stages], plan: TrainingPlan) -> Stages:
    """Take the stages that hold for the plan out of those that are kept, or make new ones: of what
    was walked for a card that is asked for the same, or of nothing."""
    for number, stages in enumerate(kept):
        known = _each(stages, lambda run: run.on(plan))
        if known is not None:
            del kept[number]
            return known
    walked = (_each(stages, lambda run: run.walked(plan)) for stages in kept)
    return next((stages for stages in walked if stages is not None), None) or runs_of(plan)


def _each(stages: Stages, taken: Callable[[StageRuns], StageRuns | None]) -> Stages | None:
    """Return what is taken of each stage; None where one has nothing."""
    found = tuple(run for run in map(taken, stages) if run is not None)
    return found if len(found) == len(stages) else None

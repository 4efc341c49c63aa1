"""Cache of runs, for the next card: a run's memory depends on a card only through its kernels.

A run takes from a card only the bytes of its kernels and of cuBLAS. A second card with equal ones
has the run of the first, whatever its memory and price: a search among cards, a list of models for
a card and a page whose card was changed replay nothing.
"""

from collections.abc import Callable, Hashable
from threading import Lock

from weighbridge.training.plan import TrainingPlan
from weighbridge.training.run import StageRuns, runs_of

MOST = 64  # questions kept per model
# Sets of kernel bytes kept per question: the catalogue's cards have 49 for full training, whose
# sums are split over processors, and 4 for LoRA
CLASSES = 64
WALKS = 2  # latest questions whose traced runs are kept: megabytes each
Stages = tuple[StageRuns, ...]


class KeptRuns:
    """Cached runs of one model, by the question without its card."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[Stages]] = {}
        self._turn = Lock()

    def of(self, asked: Hashable, plan: TrainingPlan) -> Stages:
        """Return a run for each stage of the plan, cached from a card with equal kernels, or new
        and not run yet. `asked` identifies the plan without its card."""
        with self._turn:
            kept = self._kept.pop(asked, [])
            self._kept[asked] = kept  # the last in order: the latest question
            if len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
            for old in list(self._kept.values())[:-WALKS]:
                for run in (run for stages in old for run in stages):
                    run.forget()
            stages = _matching_stages(kept, plan)
            kept.append(stages)
            del kept[:-CLASSES]
            return stages


def _matching_stages(kept: list[Stages], plan: TrainingPlan) -> Stages:
    """Return cached stages that hold for the plan, removed from `kept`; else stages that replay the
    trace of another card, or new ones."""
    for number, stages in enumerate(kept):
        known = _for_each_stage(stages, lambda run: run.on(plan))
        if known is not None:
            del kept[number]
            return known
    walked = (_for_each_stage(stages, lambda run: run.walked(plan)) for stages in kept)
    return next((stages for stages in walked if stages is not None), None) or runs_of(plan)


def _for_each_stage(
    stages: Stages, taken: Callable[[StageRuns], StageRuns | None]
) -> Stages | None:
    """Return the results of `taken` for each stage, None if one of them is None."""
    found = tuple(run for run in map(taken, stages) if run is not None)
    return found if len(found) == len(stages) else None

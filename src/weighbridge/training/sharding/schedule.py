"""The order in which a pipeline stage runs micro-batches: how many it keeps at once. There are p
stages, of which i is counted from 0, and m micro-batches of a step.

    gpipe         all forwards, then all backwards: m
    1f1b          p - i forwards first, then one backward and one forward in turn: min(m, p - i)
    interleaved   a stage has two parts of the model, which take turns over p micro-batches: it
                  begins with 2 (p - i - 1) + p forwards of a part, and keeps one more. Half of
                  that, rounded up: at most one micro-batch too many
    zero-bubble   as 1f1b; backward stops at the inputs, and the gradients of weights are computed
                  while the stage would wait: i micro-batches more, of which the inputs of products
                  are kept (ZB-H1). ZB-V keeps p at most in every stage, too

What waits for gradients of weights is 32 / 34 of what a micro-batch keeps in the paper's layers;
the upper bound is all of it. With checkpoints it is what was recomputed: that is not counted.

Source: torch 2.13 distributed/pipelining/schedules.py (ScheduleGPipe, Schedule1F1B,
ScheduleInterleaved1F1B); torchtitan v0.2.2 distributed/pipeline_parallel.py (two stages per rank if
the schedule is looped; 1F1B by default, as DeepSpeed's runtime/pipe/schedule.py TrainSchedule is);
Qi et al., Zero Bubble Pipeline Parallelism (arXiv 2401.10241), tables 1 and 2: (p - i) M_B + i M_W.
"""

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.workload import Train

USUAL, GPIPE, INTERLEAVED, ZERO_BUBBLE = "1f1b", "gpipe", "interleaved", "zero-bubble"
PARTS = 2  # parts of the model per stage, in interleaved schedules
FOR_WEIGHTS = 32, 34  # of what a micro-batch keeps: M_W / M_B
WAITS = {INTERLEAVED: 1 / PARTS, ZERO_BUBBLE: 1 / 3}  # of 1F1B's: a third of a step is for weights


def schedule(w: Train, sharding: Sharding, layers: int, checkpointing: str) -> str:
    """Return the pipeline schedule; "" for one stage. Raises UsageError for one that is impossible,
    or not supported."""
    asked = w.pipeline_schedule
    if sharding.pipeline == 1:
        if asked:
            raise UsageError(sentence("schedule.alone", asked=asked))
        return ""
    if asked == INTERLEAVED and layers < PARTS * sharding.pipeline:
        raise UsageError(
            sentence("schedule.interleaved", layers=layers, parts=PARTS, stages=sharding.pipeline)
        )
    if asked == ZERO_BUBBLE and checkpointing != "none":
        raise UsageError(sentence("schedule.zero_bubble", checkpointing=checkpointing))
    return asked or USUAL


def in_flight(sharding: Sharding, batches: int, stage: int) -> int:
    """Return the micro-batches in flight: those whose activations `stage` keeps for backward at
    once."""
    left = sharding.pipeline - stage
    if sharding.schedule == GPIPE:
        return batches
    if sharding.schedule == INTERLEAVED:
        first = PARTS * (left - 1) + (PARTS - 1) * sharding.pipeline
        return min(batches, ceil_div(first + 1, PARTS))
    return min(batches, left)


def waiting(sharding: Sharding, batches: int, stage: int) -> int:
    """Return the number of micro-batches that still lack only their weight gradients; 0 unless the
    schedule is zero-bubble."""
    if sharding.schedule != ZERO_BUBBLE:
        return 0
    return min(batches, sharding.pipeline) - in_flight(sharding, batches, stage)

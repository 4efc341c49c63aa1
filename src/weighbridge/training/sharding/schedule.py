"""The order in which a stage of a pipeline runs micro-batches: how many it keeps at once. There are
p stages, of which i is counted from 0, and m micro-batches of a step.

    gpipe         all forwards, then all backwards: m
    1f1b          p - i forwards first, then one backward and one forward in turn: min(m, p - i)
    interleaved   a stage has two parts of the model, which take turns over p micro-batches: it
                  begins with 2 (p - i - 1) + p forwards of a part, and keeps one more. Half of
                  that, rounded up: at most one micro-batch too many
    zero-bubble   as 1f1b; backward stops at the inputs, and the gradients of weights are made where
                  the stage would wait: i micro-batches more, of which what products need for them
                  is kept (ZB-H1). ZB-V keeps p at most in every stage, too

Layers of a stage are equal parts, of which the first have what is left over. torchtitan counts the
embedding and the head as a layer each since 2025-07-30 (3c84ce09); before, the middle parts had
what was left over. Where parts take turns, a stage has the sum of its two.

What waits for gradients of weights is 32 / 34 of what a micro-batch keeps in the paper's layers;
up to all of it is counted. Beside checkpoints it is what was computed again: that is not counted.

Source: torch 2.13 distributed/pipelining/schedules.py (ScheduleGPipe, Schedule1F1B,
ScheduleInterleaved1F1B); torchtitan v0.2.2 distributed/pipeline_parallel.py (two stages a rank
where the schedule is looped, generate_llm_fqn_per_model_part; 1F1B by default, as DeepSpeed's
runtime/pipe/schedule.py TrainSchedule is), 9dec370 parallelisms/pipelining_utils.py
(generate_split_points); Qi et al., Zero Bubble Pipeline Parallelism (arXiv 2401.10241), tables 1
and 2: (p - i) M_B + i M_W.
"""

from weighbridge.errors import UsageError
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.units import ceil_div
from weighbridge.versions import since
from weighbridge.workload import Train

USUAL, GPIPE, INTERLEAVED, ZERO_BUBBLE = "1f1b", "gpipe", "interleaved", "zero-bubble"
PARTS = 2  # of the model that a stage has, where they take turns
FOR_WEIGHTS = 32, 34  # of what a micro-batch keeps: M_W / M_B
WEIGHED = (2025, 7, 30)  # torchtitan: embedding and head count as layers
WAITS = {INTERLEAVED: 1 / PARTS, ZERO_BUBBLE: 1 / 3}  # of 1F1B's: a third of a step is for weights


def schedule(w: Train, sharding: Sharding, layers: int, checkpointing: str) -> str:
    """Name the order in which stages run micro-batches; "" where there is one stage. Raises
    UsageError for one that there cannot be, or that is not counted."""
    asked = w.pipeline_schedule
    if sharding.pipeline == 1:
        if asked:
            raise UsageError(
                f"--pipeline-schedule {asked}: there is one stage; add --pipeline-parallel-size"
            )
        return ""
    if asked == INTERLEAVED and layers < PARTS * sharding.pipeline:
        raise UsageError(
            f"--pipeline-schedule interleaved: {layers} layers are fewer than {PARTS} of each of "
            f"{sharding.pipeline} stages; use 1f1b"
        )
    if asked == ZERO_BUBBLE and checkpointing != "none":
        raise UsageError(
            f"--pipeline-schedule zero-bubble with --checkpointing {checkpointing}: what is "
            "computed again waits for gradients of weights, which is not counted; use "
            "--checkpointing none, or 1f1b"
        )
    return asked or USUAL


def torchtitans(sharding: Sharding, count: int, date: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the layers of each stage in torchtitan; () where there is one. Raises UsageError where
    a stage would have none. Of two parts one may have the embedding or the head alone."""
    stages = sharding.pipeline
    if stages == 1:
        return ()
    looped = sharding.schedule in (INTERLEAVED, ZERO_BUBBLE)
    total = stages * (PARTS if looped else 1)
    each = _weighed(count, total) if since(date, WEIGHED) else _middle(count, total)
    if looped:
        ends = each[stages:]
        ends = ends[::-1] if sharding.schedule == ZERO_BUBBLE else ends
        each = tuple(a + b for a, b in zip(each, ends, strict=False))
    if min(each) < 1:
        raise UsageError(
            f"--pipeline-parallel-size {stages}: of {count} layers torchtitan leaves a stage none; "
            "use fewer stages"
        )
    return each


def _weighed(count: int, parts: int) -> tuple[int, ...]:
    """Deal out the layers, and one more for what comes before them and one for what comes after;
    the first parts have what is left over."""
    each, more = divmod(count + 2, parts)
    whole = [each + (i < more) for i in range(parts)]
    whole[0] -= 1
    whole[-1] -= 1
    return tuple(whole)


def _middle(count: int, parts: int) -> tuple[int, ...]:
    """Deal out the layers; parts from the second on have what is left over, the last all of it that
    there still is."""
    each, more = divmod(count, parts)
    inner = [each + (i < more) for i in range(parts - 2)]
    return (each, *inner, count - each - sum(inner))


def in_flight(sharding: Sharding, batches: int, stage: int) -> int:
    """Count the micro-batches of which a stage keeps all that backward needs."""
    left = sharding.pipeline - stage
    if sharding.schedule == GPIPE:
        return batches
    if sharding.schedule == INTERLEAVED:
        first = PARTS * (left - 1) + (PARTS - 1) * sharding.pipeline
        return min(batches, ceil_div(first + 1, PARTS))
    return min(batches, left)


def waiting(sharding: Sharding, batches: int, stage: int) -> int:
    """Count the micro-batches that wait for the gradients of weights alone."""
    if sharding.schedule != ZERO_BUBBLE:
        return 0
    return min(batches, sharding.pipeline) - in_flight(sharding, batches, stage)

"""The peaks of loading, training and inference in one run, for a chart with one bar per task.

load     before a module is called        train    forward with gradients, loss, backward, step
infer    forward without gradients; all of it where backward never ran
"""

from collections.abc import Iterator

from weighbridge.faces.charts.tasks import TASKS, TaskPeak
from weighbridge_lab.trace.report import roles
from weighbridge_lab.trace.tape import Tape

LOADING, EVALUATING = "load", "eval"  # phases


def peaks(tape: Tape) -> Iterator[TaskPeak]:
    """Yield the peak of each task that ran, in the order of TASKS."""
    trained = any(s.phase == "backward" for s in tape.storages)
    fullest: dict[str, int] = {}
    most: dict[str, int] = {}
    for event, signed in enumerate(tape.events):
        if signed < 0:
            continue
        name = _task(tape.storages[signed - 1].phase, trained=trained)
        fullest[name] = max(fullest.get(name, event), event, key=tape.levels.__getitem__)
        most[name] = max(most.get(name, 0), tape.reserves[event])
    for name in TASKS:
        if name in fullest:
            event = fullest[name]
            allocated = tape.levels[event]
            yield TaskPeak(name, allocated, most[name], roles(tape.alive(event), allocated))


def _task(phase: str, *, trained: bool) -> str:
    if phase == LOADING:
        return "load"
    return "train" if trained and phase != EVALUATING else "infer"

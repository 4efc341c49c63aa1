"""The real class of transformers, from its config, does the asked work on a simulated GPU.

    beside()       phases of a traced course beside those of the closed form
    build.py       the class: its config, dtype and attention; refusals; what a request of it holds
    inference.py   the requests: a prompt, its answer, a forward alone; which storages are caches
    training.py    the steps of a run

`weighbridge.answers.estimate.exact` asks it. All modules but this one import torch.

    allocated    the fullest moment of a phase, and what was alive then
    reserved     the most that the allocator held in the phase; what is beyond is fragmentation
    driver       with the context of the closed form, which no trace has

Of a cache that is being joined, what is beyond the cache at the end of the phase is temporary.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from weighbridge.base.memory import LEVEL_OF, Component, Device, Exact, Instant, exactly
from weighbridge.base.records import replace
from weighbridge.engines.interface import EngineAnswer
from weighbridge.training.answer import TrainingAnswer as Trained

if TYPE_CHECKING:
    from weighbridge_lab.exact.inference import TracedCourse
    from weighbridge_lab.trace.tape import TracedStorage

A = TypeVar("A", EngineAnswer, Trained)


class ComponentNamer(Protocol):
    """Returns the component that a storage belongs to."""

    def component(self, number: int, storage: "TracedStorage") -> str: ...


def beside(closed: A, course: "TracedCourse", namer: ComponentNamer) -> A:
    """Return the closed form with its first device replaced by the trace, which keeps both. A
    course on this machine's real card has no trace and changes nothing."""
    if not course.tape.events:
        return closed
    first = closed.devices[0]
    pairs = tuple(
        (phase, _phase(course, namer, phase))
        for phase in first.phases
        if any(end > start for start, end in course.spans.get(phase.name, ()))
    )
    device = Device(
        index=first.index,
        kind=first.kind,
        phases=tuple(traced for _, traced in pairs),
        exact=Exact(phases=pairs, source=course.source),
    )
    return replace(
        closed,
        devices=(device, *closed.devices[1:]),
        warnings=(*closed.warnings, *course.notes),
    )


def _phase(course: "TracedCourse", namer: ComponentNamer, closed: Instant) -> Instant:
    """Return a phase of the closed form as traced: what was live at its peak."""
    tape = course.tape
    moments = [e for start, end in course.spans[closed.name] for e in range(start, end)]
    fullest = max(moments, key=lambda event: tape.levels[event])
    live = _live(course, namer, fullest)
    beyond = live["kv_cache"] - _live(course, namer, moments[-1])["kv_cache"]
    if beyond > 0:
        live["kv_cache"] -= beyond
        live["temporaries"] += beyond
    live["rounding"] = tape.levels[fullest] - live.total()
    live["fragmentation"] = max(tape.reserves[e] for e in moments) - tape.levels[fullest]
    cause = tape.storages[abs(tape.events[fullest]) - 1]
    formula = f"{course.extent(closed.name)}; most at {cause.op}"
    if cause.module:
        formula += f" of {cause.module}"
    return Instant(
        closed.name,
        (
            *_components(live, formula, course.source),
            *(c for c in closed.components if c.level == "driver"),
        ),
    )


def _live(course: "TracedCourse", namer: ComponentNamer, event: int) -> Counter[str]:
    """Return the live bytes by component right after an event."""
    nbytes = Counter[str]()
    for number, storage in enumerate(course.tape.storages):
        if storage.born <= event and (storage.died is None or storage.died > event):
            nbytes[namer.component(number, storage)] += storage.nbytes
    return nbytes


def _components(live: Counter[str], formula: str, source: str) -> Iterator[Component]:
    for name in LEVEL_OF:
        if live[name]:
            yield Component(
                name=name,
                bytes=exactly(live[name]),
                basis="traced",
                formula=formula,
                source=source,
            )

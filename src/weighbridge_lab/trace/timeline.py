"""Memory over time by role, and the same run for PyTorch's memory viewer.

A timeline counts events, not seconds: nothing is computed, so nothing takes time. Of each of at
most POINTS equal stretches it has the fullest moment, so that no peak is lost (schema
`weighbridge.timeline/1`).
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from weighbridge.base.records import frozen_record
from weighbridge.base.units import ceil_div
from weighbridge.base.wording import safe_json
from weighbridge.machines.allocator.snapshot import RequestOrigin, pickled
from weighbridge_lab.trace.report import TraceReport
from weighbridge_lab.trace.tape import Tape

SCHEMA = "weighbridge.timeline/1"
POINTS = 2000
ROUNDING = "rounding"
PLACE = "{{timeline}}"  # placeholder of the data in the page


@frozen_record
class PhaseBand:
    """A phase of the run, from one event to another."""

    phase: str
    first: int
    last: int


@frozen_record
class RefusedMoment:
    """A request that the card could not serve: the bytes held before it, and its own."""

    event: int
    reserved: int
    requested: int
    place: str


@frozen_record
class DeviceTimeline:
    """The course of one device: all lists have one entry per entry of `events`, and the roles add
    up to `allocated`."""

    index: int
    length: int  # events in all
    events: list[int]
    allocated: list[int]
    reserved: list[int]
    roles: dict[str, list[int]]
    modules: list[str]  # that made the allocation of each moment
    bands: list[PhaseBand]
    refused: list[RefusedMoment]


def timeline(report: TraceReport, tapes: Sequence[Tape]) -> dict[str, Any]:
    """Return a run's timeline as plain values, for JSON and for the page."""
    program, gpu = report.program, report.gpu
    return {
        "schema": SCHEMA,
        "program": " ".join([program.script, *program.arguments]),
        "gpu": gpu.name,
        "memory": gpu.memory if gpu.limited else None,
        "devices": [asdict(lines(index, tape)) for index, tape in enumerate(tapes)],
    }


def lines(index: int, tape: Tape) -> DeviceTimeline:
    chosen = list(_fullest(tape))
    sums: Counter[str] = Counter()
    names = list(dict.fromkeys(s.role for s in tape.storages))
    roles: dict[str, list[int]] = {name: [] for name in (*names, ROUNDING)}
    wanted = set(chosen)
    for event, signed in enumerate(tape.events):
        storage = tape.storages[abs(signed) - 1]
        sums[storage.role] += storage.nbytes if signed > 0 else -storage.nbytes
        if event in wanted:
            for name in names:
                roles[name].append(sums[name])
            roles[ROUNDING].append(tape.levels[event] - sums.total())
    return DeviceTimeline(
        index=index,
        length=len(tape.events),
        events=chosen,
        allocated=[tape.levels[event] for event in chosen],
        reserved=[tape.reserves[event] for event in chosen],
        roles=roles,
        modules=[_place(tape, event) for event in chosen],
        bands=list(_bands(tape)),
        refused=[
            RefusedMoment(
                event=min(r.event, len(tape.events) - 1),
                reserved=r.report.reserved,
                requested=r.storage.nbytes,
                place=str(r.storage.line or r.storage.phase),
            )
            for r in tape.refused
        ],
    )


def _fullest(tape: Tape) -> Iterator[int]:
    """Yield the event with the most allocated bytes in each stretch, and the last event of all."""
    count = len(tape.events)
    width = max(1, ceil_div(count, POINTS))
    for first in range(0, count, width):
        yield max(range(first, min(count, first + width)), key=tape.levels.__getitem__)
    if count and width > 1 and tape.levels[-1] != max(tape.levels[-width:]):
        yield count - 1


def _place(tape: Tape, event: int) -> str:
    storage = tape.storages[abs(tape.events[event]) - 1]
    return f"{storage.module or storage.phase}: {storage.op}"


def _bands(tape: Tape) -> Iterator[PhaseBand]:
    """Yield the phases in order; a release counts for the phase in which it happens."""
    name, first = "", 0
    for event, signed in enumerate(tape.events):
        storage = tape.storages[abs(signed) - 1]
        phase = storage.phase if signed > 0 else storage.freed_in
        if phase != name:
            if event:
                yield PhaseBand(phase=name, first=first, last=event - 1)
            name, first = phase, event
    if tape.events:
        yield PhaseBand(phase=name, first=first, last=len(tape.events) - 1)


def as_json(timeline: Mapping[str, Any]) -> str:
    """Return a timeline as JSON."""
    return safe_json(json.dumps(timeline, ensure_ascii=False)) + "\n"


def html(timeline: Mapping[str, Any]) -> str:
    """Return a timeline as one self-contained page. Names come from strangers' code, and none may
    end the script element that holds them."""
    path = os.path.join(os.path.dirname(__file__), "timeline.html")
    with open(path, encoding="utf-8") as file:
        page = file.read()
    data = json.dumps(timeline, ensure_ascii=True).replace("<", "\\u003c")
    return page.replace(PLACE, data)


FORMS = {".html": html, ".json": as_json}


def snapshot(tape: Tape) -> bytes:
    """Return a `snapshot.pickle` for pytorch.org/memory_viz. Needs FakeGPU(history=True)."""
    return pickled(tape.allocator, dict(_origins(tape)))


def _origins(tape: Tape) -> Iterator[tuple[int, RequestOrigin]]:
    """Yield (number, origin) of each request. Requests are numbered in order, including the refused
    ones."""
    refused = {r.report.request: r.storage for r in tape.refused}
    storages = (tape.storages[signed - 1] for signed in tape.events if signed > 0)
    for number in range(tape.allocator.requests):
        storage = refused.get(number) or next(storages)
        path = storage.module.split(".") if storage.module else []
        outward = (".".join(path[:n]) for n in range(len(path), 0, -1))
        frames = (storage.op, *outward, storage.phase)
        yield number, RequestOrigin(frames, storage.role, storage.line)

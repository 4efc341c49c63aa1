"""Reasons why one moment holds more than another: bytes of each kind of tensor in both.

    changes(before, after)    tensors of two moments, of one run or of two
    rises(tape)               steps whose peak is above that of all before, and what is new in them
    against(path, report)     a stored report compared with this one

A step begins where forward follows the step before. Torch-free.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from weighbridge.base.errors import BadFileError, NotFoundError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB
from weighbridge_lab.trace.tape import Tape, TracedStorage

SCHEMA = "weighbridge.trace/1"
LEAST = MIB  # bytes: smaller rises are not reported
MOST = 5  # changes per rise
STEPS = 20  # rises that are reported


@frozen_record
class Tensors:
    """Storages of one kind; `*` in a module's path stands for every number."""

    role: str
    module: str
    op: str
    phase: str  # in which they were allocated
    count: int
    nbytes: int  # of all of them
    line: str = ""  # of the script, for large ones: train.py:31

    @property
    def kind(self) -> tuple[str, ...]:
        """Return the key by which two runs are compared; without lines, which move when a script is
        edited."""
        return self.role, self.module, self.op, self.phase


@frozen_record
class TensorChange:
    """One kind of tensor at two moments, with its bytes at each."""

    role: str
    module: str
    op: str
    line: str
    before: int  # bytes
    after: int


@frozen_record
class StepRise:
    """A step whose peak is above all before it. Steps count from 1."""

    step: int
    before: int  # the highest peak until then, in bytes
    allocated: int
    because: tuple[TensorChange, ...]


@frozen_record
class RunComparison:
    """The devices with most memory of two runs, at the peaks of what they allocated."""

    file: str
    before: int
    after: int
    changes: tuple[TensorChange, ...]


def changes(before: Iterable[Tensors], after: Iterable[Tensors]) -> tuple[TensorChange, ...]:
    """Return the kinds whose bytes differ between two moments, largest difference first."""
    lines: dict[tuple[str, ...], str] = {}
    sums: list[dict[tuple[str, ...], int]] = [{}, {}]
    for total, tensors in zip(sums, (before, after), strict=True):
        for same in tensors:
            total[same.kind] = total.get(same.kind, 0) + same.nbytes
            if same.line:
                lines[same.kind] = same.line
    kinds = dict.fromkeys((*sums[1], *sums[0]))
    pairs = (
        TensorChange(
            role=kind[0],
            module=kind[1],
            op=kind[2],
            line=lines.get(kind, ""),
            before=sums[0].get(kind, 0),
            after=sums[1].get(kind, 0),
        )
        for kind in kinds
    )
    differing = [one for one in pairs if one.before != one.after]
    return tuple(sorted(differing, key=lambda one: -abs(one.after - one.before)))


def rises(
    tape: Tape, summed: Callable[[Iterable[TracedStorage]], Sequence[Tensors]]
) -> Iterator[StepRise]:
    """Yield the steps after the first whose peak is above all before. `summed` groups storages by
    kind."""
    highest: int | None = None  # an event
    count = 0
    for step, (first, last) in enumerate(_steps(tape), start=1):
        top = max(range(first, last), key=tape.levels.__getitem__)
        if highest is not None:
            before, now = tape.levels[highest], tape.levels[top]
            if now < before + LEAST:
                continue
            changed = changes(summed(tape.alive(highest)), summed(tape.alive(top)))
            more = tuple(one for one in changed if one.after > one.before)[:MOST]
            count += 1
            yield StepRise(step=step, before=before, allocated=now, because=more)
        highest = top
        if count == STEPS:
            return


def settled(tape: Tape) -> int:
    """Return the number of whole steps after the one with the peak."""
    peak = max(tape.allocated.event, tape.reserved.event)
    return sum(first > peak for first, _ in list(_steps(tape))[:-1])


def _steps(tape: Tape) -> Iterator[tuple[int, int]]:
    """Yield (first event, end) of each step; nothing if no gradient was allocated."""
    if not any(s.phase == "backward" for s in tape.storages):
        return
    first, stepped = 0, False
    for event, signed in enumerate(tape.events):
        phase = tape.storages[signed - 1].phase if signed > 0 else ""
        if phase == "forward" and stepped:
            yield first, event
            first, stepped = event, False
        stepped |= phase == "step"
    if first < len(tape.events):
        yield first, len(tape.events)


def against(path: str, after: int, tensors: Sequence[Tensors]) -> RunComparison:
    """Return the comparison with the report in a file (`trace --json`)."""
    device = max(_devices(path), key=lambda d: int(d["driver"]["expected"]))
    top = device["allocated"]
    names = [field.name for field in fields(Tensors)]
    before = [Tensors(**{n: t.get(n, "") for n in names}) for t in top["tensors"]]
    return RunComparison(
        file=path,
        before=int(top["allocated"]),
        after=after,
        changes=changes(before, tensors),
    )


def _devices(path: str) -> Sequence[Mapping[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except FileNotFoundError:
        raise NotFoundError(sentence("path.none"), where=path) from None
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: {error}") from None
    if not isinstance(report, dict) or report.get("schema") != SCHEMA or not report.get("devices"):
        raise BadFileError(sentence("trace.no_report"), where=path)
    devices: Sequence[Mapping[str, Any]] = report["devices"]
    return devices

"""A trace as one frozen record (schema `weighbridge.trace/1`): the peaks of each
device, the moment of each and the tensors that make it, and whether it fits.

    driver = reserved + context         an interval: levels.py
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from weighbridge.answers.bounds import RunForm
from weighbridge.base._version import __version__
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.units import human
from weighbridge.machines.kernels import workspaces
from weighbridge.memory.components.device import CONTEXT
from weighbridge.memory.report.verdict import Answer, fits
from weighbridge_lab.trace import levels, tries
from weighbridge_lab.trace.cards import CardClass
from weighbridge_lab.trace.differences import SCHEMA, RunComparison, StepRise, Tensors, rises
from weighbridge_lab.trace.places import ValueQuestion
from weighbridge_lab.trace.steady import LeftLoop
from weighbridge_lab.trace.tape import Refused, Tape, TracedStorage
from weighbridge_lab.trace.trainers import TrainingAdvice
from weighbridge_lab.trace.unseen import bounds, untrained

NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a step of a path: layers.3.mlp
Ending = Literal["finished", "exit", "exception", "interrupted", "time is up", "out of memory"]
STOPPED = ("interrupted", "time is up")
SETTLED = 4  # steps without a new peak: enough to know the needs of a run that was stopped


@frozen_record
class TracedProgram:
    """A program that ran, and how it ended. `error`: the exception's last line; `place`: the
    script's line that raised it. If the card was too small, it may have `went_on` as on a larger
    one, to that end. `settled`: the number of whole steps after its peak, if it was stopped."""

    script: str
    function: str | None = None
    arguments: tuple[str, ...] = ()
    ending: Ending = "finished"
    exit_code: int = 0
    error: str = ""
    place: str = ""  # train.py:31
    went_on: Ending | None = None
    settled: int = 0
    advice: str = ""  # how to go on, if it stopped
    loss: str = ""  # which was taken of a net without a script

    @property
    def ended(self) -> bool:
        """Return whether the program came to its own end, on this card or a larger one, or was
        stopped after its peak had settled."""
        ending = self.went_on or self.ending
        through = ending == "finished" or (ending == "exit" and not self.exit_code)
        return through or self.settled >= SETTLED


@frozen_record
class TraceMoment:
    """A device right after one event. The bytes of roles and `rounding` add up to `allocated`."""

    event: int
    phase: str
    module: str
    op: str
    allocated: int
    reserved: int
    roles: Mapping[str, int]
    tensors: tuple[Tensors, ...]  # the largest first


@frozen_record
class PhasePeak:
    name: str
    allocated: int
    reserved: int


@frozen_record
class Refusal:
    """A request that did not fit; the program may have gone on."""

    event: int
    phase: str
    module: str
    op: str
    requested: int
    message: str
    allocated: int
    reserved: int
    roles: Mapping[str, int]
    tensors: tuple[Tensors, ...]
    driver: Bytes  # the driver level if it had been granted
    place: str = ""  # the script's line


@frozen_record
class DeviceTrace:
    """A card of a trace. `driver`: the peak of reserved memory plus the context, with the margin of
    published programs."""

    index: int
    allocated: TraceMoment
    reserved: TraceMoment
    driver: Bytes
    phases: tuple[PhasePeak, ...]
    allocations: int
    left: int  # allocated at the end
    refusals: tuple[Refusal, ...]
    rises: tuple[StepRise, ...] = ()
    processes: int = 1  # processes with the same use of the card: `driver` is their sum


@frozen_record
class Gpu:
    """The fake card. `limited` is False if its memory has no end."""

    id: str
    name: str
    count: int
    memory: int
    limited: bool


@frozen_record
class TraceVerdict:
    accelerator: str
    count: int
    usable_bytes: int
    fits: Answer
    margin_bytes: int  # usable less what the fullest device is expected to hold
    reason: str


@frozen_record
class TraceReport:
    program: TracedProgram
    gpu: Gpu
    torch_version: str  # the one that ran
    rules: str  # version whose workspaces, allocator and kernels apply
    devices: tuple[DeviceTrace, ...]
    alloc_conf: str = ""
    verdict: TraceVerdict | None = None
    warnings: tuple[str, ...] = ()
    looks: tuple[ValueQuestion, ...] = ()
    at_most: tuple[str, ...] = ()  # places where a size is an upper bound: train.py:31
    compiled: Bytes | None = None  # from its lower bound to what eager code took
    loops: tuple[LeftLoop, ...] = ()
    against: RunComparison | None = None
    advice: TrainingAdvice | None = None
    cards: tuple[CardClass, ...] = ()  # all of the catalogue, by their sizes

    @property
    def fullest(self) -> DeviceTrace:
        return max(self.devices, key=lambda d: d.driver.expected)

    @property
    def open(self) -> bool:
        """Return whether code that trains more never ran, so that nobody can say that it fits."""
        known = self.verdict is None or self.verdict.fits == "unknown"
        return known and bool(untrained(self.loops))

    @property
    def used(self) -> bool:
        """Return whether anything was put on a card."""
        return any(d.allocations or d.refusals for d in self.devices)

    @property
    def refusal(self) -> Refusal | None:
        """Return the last request that did not fit, None without one."""
        return last_refusal(self.devices)

    @property
    def peak(self) -> Bytes:
        """Return the driver-level peak of the device with most memory; if a refusal ended the run,
        with the refused request."""
        return needed(self.devices, self.program)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON report (docs/trace.md): bytes are integers."""
        plain = asdict(self)
        for plain_device, device in zip(plain["devices"], self.devices, strict=True):
            plain_device["driver"] = device.driver._asdict()
            for one, refused in zip(plain_device["refusals"], device.refusals, strict=True):
                one["driver"] = refused.driver._asdict()
        plain["eager"] = self.compiled is not None
        if self.compiled is not None:
            plain["compiled"] = self.compiled._asdict()
        plain["cards"] = [one._asdict() for one in self.cards]
        if self.advice is not None:
            plain["advice"]["needs"] = self.advice.needs._asdict()
        return {"schema": SCHEMA, "version": __version__, **plain}


def device(
    index: int, tape: Tape, context: Bytes = CONTEXT, *, measured: bool = True
) -> DeviceTrace:
    """Return the record of one tape. Phases are in the order of their first allocation. `context`:
    what a process has outside the allocator; `measured`: workspaces.is_measured."""
    convolving = convolves(tape)
    like = levels.runs(convolves=convolving)
    allocated, reserved = tries.peaks(tape)
    fullest = replace(moment(tape, reserved.event), reserved=reserved.nbytes)
    driver = levels.peak(allocated.nbytes, reserved.nbytes, context, like).at("driver")
    return DeviceTrace(
        index=index,
        allocated=moment(tape, allocated.event),
        reserved=fullest,
        driver=levels.widened(driver, workspaces.UNMEASURED * (convolving and not measured)),
        phases=tuple(phases(tape)),
        allocations=sum(event > 0 for event in tape.events),
        left=tape.levels[-1] if tape.levels else 0,
        refusals=tuple(refusal(tape, refused, context, like) for refused in tape.refused),
        rises=() if tape.recovered else tuple(rises(tape, tensors)),
    )


def convolves(tape: Tape) -> bool:
    """Return whether more than one module convolves, as a single one may only cut out patches."""
    return len({s.module for s in tape.storages if "convolution" in s.op}) > 1


def moment(tape: Tape, event: int) -> TraceMoment:
    if not tape.events:
        return TraceMoment(
            event=0, phase="", module="", op="", allocated=0, reserved=0, roles={}, tensors=()
        )
    alive, cause = list(tape.alive(event)), tape.storages[abs(tape.events[event]) - 1]
    return TraceMoment(
        event=event,
        phase=cause.phase,
        module=cause.module,
        op=cause.op,
        allocated=tape.levels[event],
        reserved=tape.reserves[event],
        roles=roles(alive, tape.levels[event]),
        tensors=tensors(alive),
    )


def refusal(tape: Tape, refused: Refused, context: Bytes, like: RunForm) -> Refusal:
    request, event = refused.storage, refused.event - 1
    alive = list(tape.alive(event))
    level = tape.levels[event] if event >= 0 else 0
    reserved = tape.reserves[event] if event >= 0 else 0
    more = reserved + refused.report.asked
    return Refusal(
        event=event,
        phase=request.phase,
        module=request.module,
        op=request.op,
        requested=request.nbytes,
        message=refused.report.message,
        allocated=level,
        reserved=reserved,
        roles=roles(alive, level),
        tensors=tensors(alive),
        driver=levels.peak(level + request.nbytes, more, context, like).at("driver"),
        place=str(request.line or ""),
    )


def roles(alive: Iterable[TracedStorage], allocated: int) -> dict[str, int]:
    """Return bytes by role, largest first; `rounding` is what blocks have beyond their tensors."""
    sums: Counter[str] = Counter()
    for storage in alive:
        sums[storage.role] += storage.nbytes
    rounding = allocated - sums.total()
    return dict(sums.most_common()) | ({"rounding": rounding} if rounding else {})


def tensors(alive: Iterable[TracedStorage]) -> tuple[Tensors, ...]:
    counts: Counter[tuple[str, ...]] = Counter()
    sums: Counter[tuple[str, ...]] = Counter()
    for storage in alive:
        key = (
            storage.role,
            NUMBER.sub("*", storage.module),
            storage.op,
            storage.phase,
            str(storage.line or ""),
        )
        counts[key] += 1
        sums[key] += storage.nbytes
    return tuple(
        Tensors(
            role=key[0],
            module=key[1],
            op=key[2],
            phase=key[3],
            count=counts[key],
            nbytes=nbytes,
            line=key[4],
        )
        for key, nbytes in sums.most_common()
    )


def phases(tape: Tape) -> Iterable[PhasePeak]:
    """Yield each phase's peak while it ran. What is released between two phases belongs to
    neither."""
    most: dict[str, tuple[int, int]] = {}
    for event, reserved in tries.events(tape):
        signed, allocated = tape.events[event], tape.levels[event]
        if signed > 0:
            name = tape.storages[signed - 1].phase
            before = most.get(name, (0, 0))
            most[name] = max(before[0], allocated), max(before[1], reserved)
    for name, (allocated, reserved) in most.items():
        yield PhasePeak(name=name, allocated=allocated, reserved=reserved)


def needed(devices: Sequence[DeviceTrace], program: TracedProgram) -> Bytes:
    """Return the most that one device would have reported, as far as known."""
    fullest = max((d.driver for d in devices), key=lambda b: b.expected)
    last = last_refusal(devices)
    if program.ending != "out of memory" or last is None:
        return fullest
    return Bytes(*(max(pair) for pair in zip(fullest, last.driver, strict=True)))


def last_refusal(devices: Sequence[DeviceTrace]) -> Refusal | None:
    ends = [d.refusals[-1] for d in devices if d.refusals]
    return max(ends, key=lambda r: r.event) if ends else None


def verdict(  # noqa: PLR0913  what bounds an answer
    gpu: Gpu,
    usable: Bytes,
    devices: Sequence[DeviceTrace],
    program: TracedProgram,
    at_most: Sequence[str] = (),
    loops: Sequence[LeftLoop] = (),
    *,
    compiled: Bytes | None = None,
) -> TraceVerdict:
    """Return whether a program fits on a card of limited memory. If it did not run to its end, or
    code that trains more never ran, the answer can only be no; if it never used the card, unknown.
    If sizes are upper bounds (`at_most`), or eager code ran in place of `compiled`, it can only be
    yes, unless the lower bound of the compiled code does not fit."""
    most = needed(devices, program)
    used = any(d.allocations or d.refusals for d in devices)
    whole = used and program.ended and program.ending != "out of memory" and not untrained(loops)
    answer = _bounded(fits(most, usable), least=not whole, most=bool(at_most or compiled))
    if compiled is not None and fits(exactly(compiled.low), usable) == "no":
        answer, most = "no", most._replace(expected=compiled.low)
    compared = AT_MOST.format(places=", ".join(at_most[:PLACES])) if at_most else ""
    compared += bounds(loops)
    compared += _compared(compiled or most, usable)
    return TraceVerdict(
        accelerator=gpu.name,
        count=gpu.count,
        usable_bytes=usable.low,
        fits=answer,
        margin_bytes=usable.low - most.expected,
        reason=_reason(devices, program) + compared if used else NOTHING,
    )


def _bounded(answer: Answer, *, least: bool, most: bool) -> Answer:
    """Return the answer for a need that is only a lower (`least`) or an upper bound (`most`)."""
    return "unknown" if (least and answer == "yes") or (most and answer == "no") else answer


PLACES = 3  # that are named
AT_MOST = "at most, since what {places} take is not known here: "
NOTHING = "the script put nothing on the card"


def _reason(devices: Sequence[DeviceTrace], program: TracedProgram) -> str:
    """Return how the run ended; "" if it ended as a script should."""
    refused, last = sum(len(d.refusals) for d in devices), last_refusal(devices)
    reason = ""
    if program.ending == "out of memory" and last is not None:
        reason = f"out of memory in {where(last.phase, last.module, last.op)}"
        reason += f" ({last.place})" * bool(last.place)
        reason += f": {last.message} "
        reason += "As if the card were larger, " if program.went_on else "With it, "
    elif refused:
        times = "one request" if refused == 1 else f"{refused} requests"
        reason = f"the program went on after {times} that did not fit; "
    if (program.went_on or program.ending) != "out of memory":
        if not program.ended:
            reason += f"the course did not end: {stopped(program)}; until then "
        elif program.settled:
            reason += f"{stopped(program)}, {program.settled} steps after its peak; until then "
    return reason


def stopped(program: TracedProgram) -> str:
    """Return what ended a program: "ValueError: no data, at train.py:31"."""
    ending = program.went_on or program.ending
    error: str = ending if ending in STOPPED else program.error
    if ending == "exit":
        error = f"exit code {program.exit_code}"
    return f"{error}, at {program.place}" if program.place else error


def _compared(most: Bytes, usable: Bytes) -> str:
    low, _, high = (human(n) for n in most)
    return f"the driver would show {low} to {high} of {human(usable.low)}"


def where(phase: str, module: str, op: str) -> str:
    """Return where something happened: "backward of model.layers.3.mlp (aten.mm.default)"."""
    place = f"{phase} of {module}" if module else phase
    return f"{place} ({op})" if op else place

"""What a trace found, as one frozen record (schema `weighbridge.trace/1`): the peaks of each
device, the moment of each and the tensors that make it, and whether it fits.

    driver = reserved + context         an interval: levels.py
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from weighbridge._version import __version__
from weighbridge.components.device import CONTEXT
from weighbridge.judged import Answer
from weighbridge.memory import Bytes
from weighbridge.trace import levels
from weighbridge.trace.places import ValueQuestion
from weighbridge.trace.tape import Refused, Tape, TracedStorage
from weighbridge.units import human
from weighbridge.verdicts import fits

SCHEMA = "weighbridge.trace/1"
NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a step of a path: layers.3.mlp
Ending = Literal["finished", "exit", "exception", "interrupted", "out of memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedProgram:
    """What ran, and how it ended. `error` is the exception's last line."""

    script: str
    function: str | None = None
    arguments: tuple[str, ...] = ()
    ending: Ending = "finished"
    exit_code: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """Storages alike: `*` in a module's path stands for every number."""

    role: str
    module: str
    op: str
    phase: str  # in which they were made
    count: int
    nbytes: int  # of all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceMoment:
    """The device right after one event. Roles and `rounding` add up to `allocated`."""

    event: int
    phase: str
    module: str
    op: str
    allocated: int
    reserved: int
    roles: Mapping[str, int]
    tensors: tuple[Tensors, ...]  # the largest first


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePeak:
    name: str
    allocated: int
    reserved: int


@dataclass(frozen=True, slots=True, kw_only=True)
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
    driver: Bytes  # what the driver would have shown with it


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTrace:
    """One card. `driver` adds the context to the peak of what was reserved, and the margin of
    published programs."""

    index: int
    allocated: TraceMoment
    reserved: TraceMoment
    driver: Bytes
    phases: tuple[PhasePeak, ...]
    allocations: int
    left: int  # allocated at the end
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The card that stood in. `limited` is false where its memory had no end."""

    id: str
    name: str
    count: int
    memory: int
    limited: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceVerdict:
    accelerator: str
    count: int
    usable_bytes: int
    fits: Answer
    margin_bytes: int  # usable less what the fullest device is expected to hold
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceReport:
    program: TracedProgram
    gpu: Gpu
    torch_version: str  # the one that ran
    rules: str  # of which version workspaces, allocator and kernels are
    devices: tuple[DeviceTrace, ...]
    alloc_conf: str = ""
    verdict: TraceVerdict | None = None
    warnings: tuple[str, ...] = ()
    looks: tuple[ValueQuestion, ...] = ()

    @property
    def fullest(self) -> DeviceTrace:
        return max(self.devices, key=lambda d: d.driver.expected)

    @property
    def peak(self) -> Bytes:
        """Driver-level peak of the fullest device."""
        return self.fullest.driver

    def to_dict(self) -> dict[str, Any]:
        """The JSON report (docs/trace.md): bytes are integers."""
        plain = asdict(self)
        for told, device in zip(plain["devices"], self.devices, strict=True):
            told["driver"] = device.driver._asdict()
            for one, refused in zip(told["refusals"], device.refusals, strict=True):
                one["driver"] = refused.driver._asdict()
        return {"schema": SCHEMA, "version": __version__, **plain}


def device(index: int, tape: Tape, context: Bytes = CONTEXT) -> DeviceTrace:
    """What one tape says. Phases are in the order of their first allocation. `context` is what the
    process has outside the allocator: Card.outside."""
    reserved, like = max(tape.reserves, default=0), levels.runs(convolves=convolves(tape))
    allocated = max(tape.levels, default=0)
    return DeviceTrace(
        index=index,
        allocated=moment(tape, tape.allocated.event),
        reserved=moment(tape, tape.reserved.event),
        driver=levels.held(allocated, reserved, context, like).at("driver"),
        phases=tuple(phases(tape)),
        allocations=sum(event > 0 for event in tape.events),
        left=tape.levels[-1] if tape.levels else 0,
        refusals=tuple(refusal(tape, refused, context) for refused in tape.refused),
    )


def convolves(tape: Tape) -> bool:
    """Tell whether more than one module convolves; a single one may only cut out patches."""
    return len({s.module for s in tape.storages if "convolution" in s.op}) > 1


def moment(tape: Tape, event: int) -> TraceMoment:
    if not tape.events:
        return TraceMoment(
            event=0, phase="", module="", op="", allocated=0, reserved=0, roles={}, tensors=()
        )
    alive, made = list(tape.alive(event)), tape.storages[abs(tape.events[event]) - 1]
    return TraceMoment(
        event=event,
        phase=made.phase,
        module=made.module,
        op=made.op,
        allocated=tape.levels[event],
        reserved=tape.reserves[event],
        roles=roles(alive, tape.levels[event]),
        tensors=tensors(alive),
    )


def refusal(tape: Tape, refused: Refused, context: Bytes) -> Refusal:
    asked, event = refused.storage, refused.event - 1
    alive = list(tape.alive(event))
    level = tape.levels[event] if event >= 0 else 0
    reserved = tape.reserves[event] if event >= 0 else 0
    like, more = levels.runs(convolves=convolves(tape)), asked.nbytes
    return Refusal(
        event=event,
        phase=asked.phase,
        module=asked.module,
        op=asked.op,
        requested=asked.nbytes,
        message=refused.report.message,
        allocated=level,
        reserved=reserved,
        roles=roles(alive, level),
        tensors=tensors(alive),
        driver=levels.held(level + more, reserved + more, context, like).at("driver"),
    )


def roles(alive: Iterable[TracedStorage], allocated: int) -> dict[str, int]:
    """Bytes by role, the most first; `rounding` is what blocks have beyond their tensors."""
    sums: Counter[str] = Counter()
    for storage in alive:
        sums[storage.role] += storage.nbytes
    rounding = allocated - sums.total()
    return dict(sums.most_common()) | ({"rounding": rounding} if rounding else {})


def tensors(alive: Iterable[TracedStorage]) -> tuple[Tensors, ...]:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    sums: Counter[tuple[str, str, str, str]] = Counter()
    for s in alive:
        key = (s.role, NUMBER.sub("*", s.module), s.op, s.phase)
        counts[key] += 1
        sums[key] += s.nbytes
    return tuple(
        Tensors(role=key[0], module=key[1], op=key[2], phase=key[3], count=counts[key], nbytes=n)
        for key, n in sums.most_common()
    )


def phases(tape: Tape) -> Iterable[PhasePeak]:
    """The peaks while each phase ran. What is released between two belongs to neither's peak."""
    most: dict[str, tuple[int, int]] = {}
    levels = zip(tape.events, tape.levels, tape.reserves, strict=True)
    for event, allocated, reserved in levels:
        if event > 0:
            name = tape.storages[event - 1].phase
            before = most.get(name, (0, 0))
            most[name] = max(before[0], allocated), max(before[1], reserved)
    for name, (allocated, reserved) in most.items():
        yield PhasePeak(name=name, allocated=allocated, reserved=reserved)


def verdict(gpu: Gpu, usable: Bytes, devices: Sequence[DeviceTrace], *, died: bool) -> TraceVerdict:
    """Say whether a program fits on a card of limited memory. `died`: the last refusal ended it."""
    fullest = max(devices, key=lambda d: d.driver.expected)
    ends = [d.refusals[-1] for d in devices if d.refusals]
    if died and ends:
        last = max(ends, key=lambda r: r.event)
        answer: Answer = "no" if last.driver.low > usable.high else "unknown"
        reason = f"out of memory in {where(last.phase, last.module, last.op)}: {last.message}"
        if answer == "unknown":
            low, high = human(last.driver.low), human(last.driver.high)
            reason += f" But published programs differ: the driver would show {low} to {high}"
    else:
        answer = fits(fullest.driver, usable)
        reason = _compared(fullest, usable, sum(len(d.refusals) for d in devices))
    return TraceVerdict(
        accelerator=gpu.name,
        count=gpu.count,
        usable_bytes=usable.low,
        fits=answer,
        margin_bytes=usable.low - fullest.driver.expected,
        reason=reason,
    )


def _compared(fullest: DeviceTrace, usable: Bytes, refused: int) -> str:
    low, _, high = (human(n) for n in fullest.driver)
    reason = f"the driver would show {low} to {high} of {human(usable.low)}"
    if refused:
        times = "one request" if refused == 1 else f"{refused} requests"
        reason += f"; the program went on after {times} that did not fit"
    return reason


def where(phase: str, module: str, op: str) -> str:
    """ "backward of model.layers.3.mlp (aten.mm.default)" """
    place = f"{phase} of {module}" if module else phase
    return f"{place} ({op})" if op else place

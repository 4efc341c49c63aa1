"""Verdict on the machine: needed host memory against what processes can have of it.

    needed      the host's fullest phase, without pages of files: the kernel drops those
    yes         needed.high <= available          no    needed.low > available
    not judged  the user set no machine memory: only the need is reported

The answer is "yes" only if devices and host both fit. The need is per machine: with more ranks than
a machine has devices, each machine needs as much. If devices share the machine's memory
(accelerators/pools.py), a device's memory is part of the need, in every phase of the device; once
it has loaded, so is what its engine reserves by policy. Such a machine has one device: several are
several machines, and one of them is judged. How processes are spread over those is not known: one
has at least an even share of what the host is to hold, and at most all of it.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.answers.verdict import closeness, reasons
from weighbridge.base.memory import (
    Bytes,
    Component,
    Device,
    Instant,
    Role,
    compose,
    exactly,
    peak,
)
from weighbridge.base.records import replace
from weighbridge.base.sentences import Sentence, clauses, sentence
from weighbridge.base.units import GIB, ceil_div, human
from weighbridge.memory.report.verdict import Answer, Condition, HostVerdict, Verdict, fits, judge

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.pools import MachineMemory

RANK: dict[Answer, int] = {"yes": 0, "unknown": 1, "no": 2}
UNNAMED = "no device was named: --gpu says which"


def both(
    on_devices: Verdict | None,
    devices: Sequence[Device],
    machine: "MachineMemory | None",
) -> Verdict | None:
    """Return the verdict on devices and host together. Without a device only the host is judged."""
    host = next((d for d in devices if d.kind == "host"), None)
    if host is None or (on_devices is None and machine is None):
        return on_devices
    shared = machine is not None and machine.shared
    half = judged(host, machine, [d for d in devices if d.kind == "gpu"] if shared else ())
    if on_devices is None:
        return _alone(half, on_host=all(d.kind == "host" for d in devices))
    if half.fits is None:
        return replace(on_devices, host=half)
    reason, worse = on_devices.reason, RANK[half.fits] > RANK[on_devices.fits]
    if worse:
        alone = f"the device alone {ALONE[on_devices.fits]}: {on_devices.reason}"
        reason = clauses(half.reason, alone)
    elif half.fits != "yes":
        reason = clauses(reason, half.reason)
    memory = Condition("host_memory", half.needed, half.room)
    both = on_devices.under(memory, reason=reason, tipped_by=half.tipped_by if worse else None)
    share = half.share_that_fits if worse else on_devices.share_that_fits
    tight = both.tight or (half.tight and both.fits == "yes")
    return replace(both, share_that_fits=share, host=half, tight=tight)


def container(host: Device) -> int:
    """Return the bytes of host memory for a container, both request and limit, in whole GiB: the
    high estimate with pages of files. A pod that requests less than its limit is the first to be
    killed if its node runs short."""
    return ceil_div(host.peak("driver").high, GIB) * GIB


LOAD = "load"
WHILE = {
    LOAD: "when.load",
    "save": "when.save",
    "step": "when.step",
    "sleep": "when.sleep",
    "engine-writes": "when.engine-writes",
    "trainer-trains": "when.trainer-trains",
}
ALONE: dict[Answer, str] = {"yes": "would do", "unknown": "may do", "no": "would not do"}


def judged(
    host: Device, machine: "MachineMemory | None", inside: Sequence[Device] = ()
) -> HostVerdict:
    """Return the verdict on the host, which names the phase that decides. `inside` are devices that
    share the host's memory."""
    pages_stay = machine is not None and machine.pages_stay
    there = never_swapped(host, machine)
    phases = _together(there, inside, pages_stay=pages_stay)
    needed = peak(phases)
    room = None if machine is None else machine.room
    answer = None if room is None else fits(needed, room)
    bound = 0 if answer == "no" else 2
    name = max(phases, key=lambda phase: (phase.needed[bound], phase.needed.expected)).name
    when = _when(name, len(inside))
    tipped = None
    if room is not None and answer != "yes":
        tipped = closeness.tipped_by(phases, room, surely=answer == "no")
    if room is None or answer is None:
        reason: str = sentence("host_range", size=_span(needed), when=when)
    else:
        if inside:  # their memory counts, too
            pages = pages_stay and name == LOAD
            when = sentence("when.pages" if pages else "when.device", when=when)
        figures = reasons.compared(answer, needed, room, "the machine")
        reason = sentence("host_memory", when=when, figures=figures)
    return HostVerdict(
        needed=needed,
        phase=name,
        room=room,
        fits=answer,
        reason=reason,
        container=container(host),
        shared=bool(inside),
        share_that_fits=None if room is None else closeness.share(needed, room),
        tight=room is not None
        and answer == "yes"
        and closeness.tight(room.low - needed.expected, room.low),
        tipped_by=tipped,
        swapped=0 if there is host else max(map(_growing, host.phases), default=0),
    )


def never_swapped(host: Device, machine: "MachineMemory | None") -> Device:
    """Return the host without components that grow with use, if its system swaps them out."""
    if machine is None or not machine.swaps:
        return host
    phases = (
        replace(phase, components=tuple(c for c in phase.components if not c.growing))
        for phase in host.phases
    )
    return replace(host, phases=tuple(phases))


def _growing(phase: Instant) -> int:
    """Return the bytes, at most, of components that grow with use."""
    return sum(c.bytes.high for c in phase.components if c.growing)


def _when(phase: str, machines: int) -> Sentence:
    """Return the phase as a clause, with the number of machines if there are several."""
    when = sentence(WHILE[phase]) if phase in WHILE else sentence("when.phase", phase=phase)
    return when if machines <= 1 else sentence("when.machine", when=when, count=machines)


def _together(
    host: Device, inside: Sequence[Device], *, pages_stay: bool = False
) -> tuple[Instant, ...]:
    """Return one machine's need in every phase of the host and of the device inside it, of which
    each machine has one. If the host lacks a phase, its worst phase after loading stands for it."""
    of_host = {p.name: _of_one(p, max(1, len(inside))) for p in host.phases}
    resting = max(of_host, key=lambda name: (name != LOAD, of_host[name].needed.high))
    fullest = _fullest(inside)
    names = dict.fromkeys((*of_host, *fullest))
    on_device = {name: fullest.get(name, Instant(name, ())) for name in names}
    on_host = {name: of_host.get(name, of_host[resting]) for name in names}
    if LOAD in of_host:
        pages = tuple(_pages(host)) if pages_stay else ()
        moving = _not_yet_there(of_host[LOAD], on_device[LOAD])
        on_host[LOAD] = Instant(LOAD, (*moving, *pages))
    schedule = ((name, {"host": name, "device": name}) for name in names)
    return compose(schedule, {"host": Role(on_host), "device": Role(on_device)})


def _fullest(devices: Sequence[Device]) -> dict[str, Instant]:
    """Return each phase of the device that needs most in it, with its engine's reservation after
    loading."""
    fullest: dict[str, Instant] = {}
    for device in devices:
        for one in device.phases:
            there = one if one.name == LOAD else device.reserving(one)
            most = fullest.setdefault(one.name, there)
            if there.needed.high > most.needed.high:
                fullest[one.name] = there
    return fullest


def _not_yet_there(host: Instant, device: Instant) -> tuple[Component, ...]:
    """Return the host's components while loading into shared memory. A tensor's copy is freed when
    the tensor is on the device (torch's Module.to moves one parameter after the other), so copies
    count only as far as they exceed what has arrived."""
    there, copies = device.of("weights"), host.of("weights")
    if not copies.high or not there.high:
        return host.components
    others = tuple(c for c in host.components if c.name != "weights")
    moved = reversed(there)  # the more arrived, the fewer copies are left
    more = Bytes(*(max(0, copied - gone) for copied, gone in zip(copies, moved, strict=True)))
    return (*others, Component(name="weights", bytes=more, basis="assumed", detail="copies"))


def _pages(host: Device) -> Iterator[Component]:
    """Yield the pages of files that tensors are views of; any part of them may stay."""
    for c in (c for phase in host.phases if phase.name == LOAD for c in phase.components):
        if c.droppable and c.name == "weights":
            yield replace(c, name="other", bytes=Bytes(0, 0, c.bytes.high), droppable=False)


def _of_one(phase: Instant, machines: int) -> Instant:
    """Return the phase on one of `machines`, without pages of files: an even share at least, all at
    most."""
    needs = (component for component in phase.components if not component.droppable)
    return Instant(phase.name, tuple(_share(component, machines) for component in needs))


def _share(component: Component, machines: int) -> Component:
    low, expected, high = component.bytes
    return replace(component, bytes=Bytes(low // machines, ceil_div(expected, machines), high))


def _alone(half: HostVerdict, *, on_host: bool) -> Verdict:
    """Return the verdict if the user named no device: "yes" only if nothing is on one."""
    assert half.available is not None
    assert half.room is not None
    assert half.fits is not None
    unnamed = () if on_host else (Condition("device", opens="yes"),)
    conditions = (Condition("host_memory", half.needed, half.room), *unnamed)
    answer = judge(conditions)
    return Verdict(
        accelerator="the host alone",
        accelerator_id="",
        count=0,
        usable_bytes=half.available,
        fits=answer,
        margin_bytes=half.available - half.needed.expected,
        reason=half.reason if answer == half.fits else clauses(half.reason, UNNAMED),
        marketed_gb=None,
        total=half.room,
        visible=half.room,
        usable=half.room,
        headroom_bytes=0,
        per_device=exactly(0),
        devices_used=0,
        basis="read",
        source="as you said",
        host=half,
        share_that_fits=half.share_that_fits if answer == half.fits else None,
        tight=half.tight and answer == "yes",
        tipped_by=half.tipped_by,
        ground="physical" if answer == "no" else "",
        conditions=conditions,
    )


def _span(size: Bytes) -> str:
    return human(size.low) if size.exact else f"{human(size.low)} to {human(size.high)}"

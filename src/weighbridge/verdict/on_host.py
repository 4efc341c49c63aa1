"""Does it fit the machine? Host memory that is needed beside what processes can have of it.

    needed      the fullest phase of the host, without pages of files: the kernel drops those
    yes         needed.high <= available          no    needed.low > available
    not judged  nobody said what the machine has: what is needed is stated alone

It fits where both halves do. A need is that of one machine: with more ranks than one machine has
devices, each of them needs as much. Where a device has no memory of its own (Apple's chips, GB10),
what it holds is part of the need, in every phase of the device. A machine has one such device:
several are several machines, and one of them is judged. How processes are dealt out among those is
not known: one has at least an even share of what the host is to hold, and at most all of it.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypedDict

from weighbridge.memory import Bytes, Device, exactly, when
from weighbridge.records import replace
from weighbridge.report.verdict import Answer, HostVerdict, Verdict
from weighbridge.units import GIB, ceil_div, human
from weighbridge.verdict import closeness, reasons
from weighbridge.verdict.on_devices import fits

if TYPE_CHECKING:
    from weighbridge.accelerators.ram import Ram

RANK: dict[Answer, int] = {"yes": 0, "unknown": 1, "no": 2}
UNNAMED = "no device was named: --gpu says which"


def both(
    on_devices: Verdict | None,
    devices: Sequence[Device],
    ram: "Ram | None",
    *,
    shared: bool = False,
) -> Verdict | None:
    """The verdict on devices with its other half. Without a device the host alone is judged.
    `shared`: devices have no memory of their own."""
    host = next((d for d in devices if d.kind == "host"), None)
    if host is None or (on_devices is None and ram is None):
        return on_devices
    half = judged(host, ram, [d for d in devices if d.kind == "gpu"] if shared else ())
    if on_devices is None:
        return _alone(half, on_host=all(d.kind == "host" for d in devices))
    if half.fits is None or RANK[half.fits] == 0:
        return replace(
            on_devices,
            host=half,
            tight=on_devices.tight or (half.tight and on_devices.fits == "yes"),
        )
    if RANK[half.fits] > RANK[on_devices.fits]:
        reason = f"{half.reason}; the device alone {ALONE[on_devices.fits]}: {on_devices.reason}"
        turned = on_devices.turned(half.fits, reason, half.tipped_by)
        return replace(turned, share_that_fits=half.share_that_fits, host=half)
    return replace(on_devices, reason=f"{on_devices.reason}; {half.reason}", host=half)


def container(host: Device) -> int:
    """Return the bytes that a container is given of host memory, its request and its limit: all
    that may be needed, and pages of files besides, in whole GiB. A pod that asks for less than its
    limit is the first to be ended where its node runs short."""
    return ceil_div(host.peak("driver").high, GIB) * GIB


ALONE: dict[Answer, str] = {"yes": "would do", "unknown": "may do", "no": "would not do"}


def judged(host: Device, ram: "Ram | None", inside: Sequence[Device] = ()) -> HostVerdict:
    """The phase that is named is the one whose bound decides. `inside` are devices whose memory is
    the host's."""
    needs = _needs(host, inside)
    needed = _worst(needs.values())
    answer = None if ram is None else fits(needed, exactly(ram.nbytes))
    bound = 0 if answer == "no" else 2
    name = max(needs, key=lambda phase: (needs[phase][bound], needs[phase].expected))
    where = f" on one of {len(inside)} machines" if len(inside) > 1 else ""
    if ram is None or answer is None:
        reason = f"{_span(needed)} of host memory {when(name)}{where}; --ram SIZE judges it"
    else:
        subject = when(name) + where + ", with what is on the device" * bool(inside)
        reason = _compared(answer, needed, ram.nbytes, subject)
    return HostVerdict(
        needed=needed,
        phase=name,
        available=None if ram is None else ram.nbytes,
        fits=answer,
        reason=reason,
        container=container(host),
        **_close(host, needed, ram, answer),
    )


class Close(TypedDict, total=False):
    """How close it is: the fields of `Verdict` that a host has as well."""

    share_that_fits: float
    tight: bool
    tipped_by: str | None


def _close(host: Device, needed: Bytes, ram: "Ram | None", answer: Answer | None) -> Close:
    if ram is None or answer is None:
        return {}
    room = exactly(ram.nbytes)
    surely = answer == "no"
    tipped = None if answer == "yes" else closeness.tipped_on_host(host.phases, room, surely=surely)
    return {
        "share_that_fits": closeness.share(needed, room),
        "tight": answer == "yes" and closeness.tight(ram.nbytes - needed.expected, ram.nbytes),
        "tipped_by": tipped,
    }


def _needs(host: Device, inside: Sequence[Device]) -> dict[str, Bytes]:
    """Return what one machine needs in every phase of the host and of the device inside it. Where
    the host has no phase of that name, it is in the worst of those after loading."""
    own = {p.name: _of_one(p.needed, max(1, len(inside))) for p in host.phases}
    rest = _worst([b for n, b in own.items() if n != "load"] or own.values())
    held: dict[str, list[Bytes]] = {}
    for phase in (p for device in inside for p in device.phases):
        held.setdefault(phase.name, []).append(phase.at("driver"))
    most = {name: _worst(found) for name, found in held.items()}
    return {n: own.get(n, rest).plus(most.get(n, exactly(0))) for n in {**own, **most}}


def _of_one(whole: Bytes, machines: int) -> Bytes:
    """Return what one of several machines holds: an even share at least, and all at most."""
    return Bytes(whole.low // machines, ceil_div(whole.expected, machines), whole.high)


def _worst(needs: Collection[Bytes]) -> Bytes:
    return Bytes(*(max(bounds) for bounds in zip(*needs, strict=True)))


def _compared(answer: Answer, needed: Bytes, available: int, subject: str) -> str:
    figures = reasons.compared(answer, needed, exactly(available), "the machine")
    return f"host memory {subject}: {figures}"


def _alone(half: HostVerdict, *, on_host: bool) -> Verdict:
    """Judge a model when nothing was said of a device: it may fit only where nothing is on one."""
    assert half.available is not None
    assert half.fits is not None
    answer: Answer = half.fits if on_host or half.fits == "no" else "unknown"
    room = exactly(half.available)
    return Verdict(
        accelerator="the host alone",
        accelerator_id="",
        count=0,
        usable_bytes=half.available,
        fits=answer,
        margin_bytes=half.available - half.needed.expected,
        reason=half.reason if answer == half.fits else f"{half.reason}; {UNNAMED}",
        marketed_gb=None,
        total=room,
        visible=room,
        usable=room,
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
    )


def _span(size: Bytes) -> str:
    return human(size.low) if size.exact else f"{human(size.low)} to {human(size.high)}"

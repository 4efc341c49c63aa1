"""`--gpu local`: the accelerators of this machine, as the verdict takes them.

Measurements win over the catalogue, which adds what drivers do not report: kernels, contexts.

    idle    the total less what the driver reserves      --gpu-memory total judges by it
    free    idle less what others use now                the default: a run now has no more

If a chip uses the host's memory, its total is the machine's, and its free memory is the lesser of
what its GPU may use and what the machine has left.
"""

import re
from collections.abc import Iterator, Sequence

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import about, clauses, sentence
from weighbridge.base.units import GIB, human
from weighbridge.machines.accelerators import ram, rules
from weighbridge.machines.accelerators.detected.device import DetectedDevice, DeviceApi
from weighbridge.machines.accelerators.detected.here import Here, here
from weighbridge.machines.accelerators.names import ChosenCard, DeviceChoice, find, in_words, least
from weighbridge.machines.accelerators.parts import MemoryFigure, Part, slice_of

VENDORS: dict[DeviceApi, str] = {
    "cuda": "NVIDIA",
    "rocm": "AMD",
    "mps": "Apple",
    "xpu": "Intel",
    "npu": "Huawei",
    "hpu": "Intel",
    "tpu": "Google",
}
NEAR = 0.12  # of the size sold, assumed: a total further off is another part
Told = tuple[DetectedDevice, ChosenCard]


@dataclass(frozen=True, slots=True)
class HostMemory:
    """The bytes of the machine's memory, and of what is left of it; None if not reported."""

    total: int | None
    left: int | None


def host() -> HostMemory:
    left = memory()
    return HostMemory(ram.installed(), None if left is None else left.nbytes)


def memory() -> ram.Ram | None:
    """Return the host memory that this machine has left; None if not reported."""
    try:
        return ram.here()
    except UnsupportedError:
        return None


_kept: dict[bool, tuple[Here, DeviceChoice]] = {}


def now(*, idle: bool = False) -> DeviceChoice:
    """Return this machine's cards; the same object until the machine is detected anew."""
    seen, last = here(), _kept.get(idle)
    if last is None or last[0] is not seen:
        _kept[idle] = last = (seen, choice(idle=idle, seen=seen))
    return last[1]


def choice(
    *, idle: bool = False, seen: Here | None = None, machine: HostMemory | None = None
) -> DeviceChoice:
    """Return all cards of this machine that one program can use together. Raises UsageError if
    there are none."""
    seen = here() if seen is None else seen
    machine = host() if machine is None else machine
    known = [(device, card) for device, card in with_cards(seen, machine) if card is not None]
    if not known:
        raise UsageError(sentence("local_none", why=none(seen)))
    chosen, others = _largest(known)
    cards = tuple(replace(card, room=card.part.room) if idle else card for _, card in chosen)
    taken = DeviceChoice(part=least(cards).part, count=len(cards), cards=cards)
    mixed = [in_words(cards)] if taken.mixed else []
    note = clauses(*_card_sentences(chosen, idle=idle), *others, *mixed, *seen.notes)
    return replace(taken, note=note)


def with_cards(seen: Here, machine: HostMemory) -> list[tuple[DetectedDevice, ChosenCard | None]]:
    """Return each detected device with its card; None for devices with unknown memory."""
    return [(device, card(device, machine)) for device in seen.devices]


def none(seen: Here) -> str:
    """Return why no card can be judged."""
    if seen.devices:
        whys = (about(d.name, d.why or sentence("size_unknown")) for d in seen.devices)
        return sentence("card_unsized", why=clauses(*dict.fromkeys(whys)))
    why = silent(seen)
    return sentence("no_card_here.why", why=why) if why else sentence("no_card_here")


def silent(seen: Here) -> str:
    """Return why programs reported no device, and what may hide devices; "" if no program is
    installed."""
    return clauses(*(about(s.source, s.why) for s in seen.seen if s.why), *seen.notes)


def _largest(cards: Sequence[Told]) -> tuple[list[Told], list[str]]:
    """Return (cards, notes): those of the vendor with most memory here, as no program runs on two
    vendors' cards at once."""
    sums: dict[str, int] = {}
    for _, card in cards:
        sums[card.part.vendor] = sums.get(card.part.vendor, 0) + card.part.visible.bytes.low
    most = max(sums, key=lambda vendor: sums[vendor])
    others = [card.part.name for _, card in cards if card.part.vendor != most]
    same_vendor = [(device, card) for device, card in cards if card.part.vendor == most]
    return same_vendor, [sentence("left_out", card=name) for name in others]


def card(device: DetectedDevice, machine: HostMemory) -> ChosenCard | None:
    """Return the catalogue card of a device; None if its memory is unknown."""
    part = known(device, machine)
    if device.kind == "mps" and device.unified and device.total is not None:
        machine = replace(machine, total=device.total)
    if device.unified and (device.total is None or device.kind == "mps"):
        return _shared(device, part, machine)
    if device.total is None:
        return _card_of_slice(device, part)
    total = MemoryFigure(exactly(device.total), "read", device.source)
    if part is not None and not part.marketed_gb:  # a slice that is not sold under a size
        part = replace(part, marketed_gb=device.total // GIB + 1)
    idle = _idle(device, part)
    free = _free(device, idle)
    if device.unified and machine.left is not None:
        free = _at_most(free or idle, machine.left)
    base = part or generic(device, device.total)
    return _card(replace(base, total=total), idle, free, device.source)


def _card(part: Part, idle: Bytes, free: Bytes | None, source: str) -> ChosenCard:
    visible = MemoryFigure(idle, "read", source)
    return ChosenCard(part=replace(part, visible=visible), room=free or idle, free=free)


def _idle(device: DetectedDevice, part: Part | None) -> Bytes:
    """Return the bytes of a device that processes can use if nothing else runs on it."""
    assert device.total is not None
    total = exactly(device.total)
    if device.reserved is not None:
        return exactly(device.total - device.reserved)
    if device.kind != "cuda":
        return total
    gb = -(-device.total // GIB)
    return rules.visible("nvidia", total, gb)


def _free(device: DetectedDevice, idle: Bytes) -> Bytes | None:
    """Return the free bytes; None if their use is not reported."""
    if device.free is not None:
        return exactly(device.free)
    used = device.used
    return None if used is None else Bytes(*(max(0, b - used) for b in idle))


def _shared(device: DetectedDevice, part: Part | None, machine: HostMemory) -> ChosenCard | None:
    """Return the card of a chip that uses the host's memory; None if its size is unknown."""
    if machine.total is None:  # its name may tell the size
        return (
            None if part is None or not part.shares_host else ChosenCard(part=part, room=part.room)
        )
    total = MemoryFigure(exactly(machine.total), "read", "memory of the machine")
    idle = _idle_share(device, part, machine.total)
    free = None if machine.left is None else _at_most(idle, machine.left)
    base = part or generic(device, machine.total)
    return _card(replace(base, total=total), idle, free, device.source)


def _idle_share(device: DetectedDevice, part: Part | None, total: int) -> Bytes:
    """Return the bytes of host memory that a chip may use if nothing else runs."""
    if device.limit:
        return exactly(device.limit)
    if part is not None and abs(total - part.marketed_gb * GIB) <= NEAR * total:
        return _at_most(part.visible.bytes, total)
    rule = "apple" if device.kind == "mps" else "shared"
    return rules.visible(rule, exactly(total), round(total / GIB))


def _card_of_slice(device: DetectedDevice, part: Part | None) -> ChosenCard | None:
    """Return the card of a slice with only a known profile; its memory is an interval."""
    if part is None or not device.mig or part.id.find("/") < 0:
        return None
    return ChosenCard(part=part, room=part.visible.bytes)


def _at_most(room: Bytes, limit: int) -> Bytes:
    return Bytes(*(min(nbytes, limit) for nbytes in room))


def known(device: DetectedDevice, machine: HostMemory) -> Part | None:
    """Return a device's part in the catalogue; None if it has none, or the name is truncated."""
    size = machine.total if device.unified and device.total is None else device.total
    parts = {p.id: p for p in _named(device.name, size)}
    if len(parts) != 1:
        return None
    part = next(iter(parts.values()))
    if device.capability is not None and part.compute_capability not in (None, device.capability):
        return None
    if device.mig:
        return _slice(part, device.mig)
    return part


def _slice(part: Part, profile: str) -> Part:
    """Return the MIG slice of `part`, if the catalogue has its profile; else the whole card with
    the profile in its name. A compute instance ("1c.3g.71gb") has its GPU instance's memory."""
    short = re.sub(r"^\d+c\.", "", profile)
    if short in part.mig:
        return slice_of(part, short)
    words = "a MIG slice" if profile == "?" else f"MIG {profile}"
    return replace(part, name=f"{part.name}, {words}", chip=None, context=None, marketed_gb=0)


def _named(name: str, size: int | None) -> Iterator[Part]:
    """Yield parts of about `size` bytes that a name may mean."""
    if name.endswith("..."):
        return
    sizes = "" if size is None else f" {round(size / GIB)}GB"
    for one in _alternatives(name):
        for text in (one, one + sizes):
            part = _part_named(text)
            if part is not None and _sold(part, size):
                yield part
                break


def _alternatives(name: str) -> Iterator[str]:
    """Yield the cards in a name that lists several: three for "Navi 22 [Radeon RX 6700/6700 XT /
    6800M]"."""
    name = re.sub(r"\((?:R|TM|C)\)", "", name)
    inside = re.search(r"\[([^\]]+)\]", name)
    if inside is None:
        yield name
        return
    first, *others = (one.strip() for one in inside[1].split("/"))
    series = re.match(r"\D*", first)
    yield first
    yield from ((series[0] if series else "") + one for one in others)


def _part_named(text: str) -> Part | None:
    try:
        return find(text).part
    except UsageError:
        return None


def _sold(part: Part, size: int | None) -> bool:
    """Return whether a part is sold with `size` bytes or more, since a slice of a card has less."""
    most = max((part.marketed_gb, *part.also_sold_as)) * GIB
    return size is None or size <= most * (1 + NEAR)


def generic(device: DetectedDevice, total: int) -> Part:
    """Return a part for a device that is not in the catalogue, with only its reported facts."""
    figure = MemoryFigure(exactly(total), "read", device.source)
    return Part(
        id="",
        name=device.name,
        vendor=VENDORS.get(device.kind, ""),
        kind="soc" if device.unified else "gpu",
        marketed_gb=-(-total // 10**9),
        also_sold_as=(),
        aliases=(),
        compute_capability=device.capability,
        total=figure,
        visible=figure,
        mig=(),
        slices={},
        context=None,
    )


def _card_sentences(
    cards: Sequence[tuple[DetectedDevice, ChosenCard]], *, idle: bool
) -> Iterator[str]:
    """Yield a sentence per kind of card: its memory, and what others use of it."""
    sentences = [_sentence(device, card, idle=idle) for device, card in cards]
    for text in dict.fromkeys(sentences):
        count = sentences.count(text)
        yield sentence("cards_of", count=count, card=text) if count > 1 else text


def _sentence(device: DetectedDevice, card: ChosenCard, *, idle: bool) -> str:
    most, left = card.part.visible.bytes.expected, (card.free or card.room).expected
    used = max(0, most - left)
    if card.free is None:
        return sentence("gives.untold", card=card.part.name, size=human(most))
    if not used:
        return sentence("gives.free", card=card.part.name, size=human(most))
    values = {"card": card.part.name, "size": human(most), "used": human(used)}
    values["by"] = sentence("machine_uses" if device.unified else "others_use")
    if idle:
        return sentence("gives.idle", **values)
    return sentence("gives", left=human(left), **values)

"""The bytes that a verdict is about: a device's visible memory, less the headroom.

    usable = visible - headroom             for each device; a count adds devices, not memory

`--gpu-memory` replaces the visible memory of the part, for example with what nvidia-smi shows as
free. `--gpu local` uses what is free now; `--gpu-memory total` what the idle cards have. Cards that
differ are judged each by its own: `usable` is that of the one with least.
"""

import re
from functools import cached_property

from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, human, parse_size
from weighbridge.machines.accelerators.names import ChosenCard, DeviceChoice, find, least, sized
from weighbridge.machines.accelerators.parts import Part, parts

LOCAL = "local"  # value of --gpu
LITTLE = 100  # below 1/100 of a device, other programs' use is not mentioned
FREE, TOTAL = "free", "total"  # values of --gpu-memory for it


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Budget:
    """The devices that the user chose, and the headroom on each in bytes."""

    choice: DeviceChoice
    headroom: int  # bytes per device

    @cached_property
    def pool(self) -> Bytes | None:
        """Return the memory that processes and devices of one machine share, in bytes; None if
        devices have their own. At least what the user set for a device, or what was measured."""
        pool = self.choice.part.pool
        return None if pool is None else self._left(Bytes(*map(max, pool, self.choice.room)))

    @cached_property
    def usable(self) -> Bytes:
        return self._left(self.choice.room)

    @property
    def mixed(self) -> bool:
        return self.choice.mixed

    @cached_property
    def each(self) -> tuple[Bytes, ...]:
        """Return the usable bytes of every device, in order."""
        if not self.choice.cards:
            return (self.usable,) * self.choice.count
        return tuple(self._left(card.room) for card in self.choice.cards)

    def of(self, device: int) -> Bytes:
        """Return the usable bytes of device number `device`; beyond the last, the least of all."""
        return self.each[device] if self.mixed and device < len(self.each) else self.usable

    def alone(self, device: int) -> "Budget":
        """Return the budget of card number `device` only."""
        card = self.choice.cards[device]
        return replace(self, choice=DeviceChoice(part=card.part, cards=(card,)))

    @property
    def alike(self) -> "Budget":
        """Return a budget of equally many cards, each like the one with the least memory."""
        return self._budget_of_copies(least(self.choice.cards))

    def like(self, device: int) -> "Budget":
        """Return a budget with the same number of cards, each like number `device`; itself if all
        are alike, or there is no such number."""
        cards = self.choice.cards
        return self._budget_of_copies(cards[device]) if self.mixed and device < len(cards) else self

    def _budget_of_copies(self, card: ChosenCard) -> "Budget":
        choice = replace(self.choice, part=card.part, cards=(card,) * self.choice.count)
        return replace(self, choice=choice)

    @property
    def others(self) -> int:
        """Return the bytes of a device that other processes use now, if the verdict is about free
        memory; 0 if negligible."""
        if not self.choice.cards:
            return 0
        whole = self.choice.part.visible.bytes.expected
        used = whole - self.choice.room.expected
        return used if used * LITTLE > whole else 0

    @property
    def name(self) -> str:
        """Return the devices in words, without their count if they are alike."""
        return " + ".join(name for name, _ in self._kinds) if self.mixed else self.choice.part.name

    @cached_property
    def _kinds(self) -> list[tuple[str, list[ChosenCard]]]:
        cards_by_name: dict[str, list[ChosenCard]] = {}
        for card in self.choice.cards:
            cards_by_name.setdefault(card.part.name, []).append(card)
        several = len(cards_by_name) > 1
        return [
            (f"{len(cards)} x {name}" if several and len(cards) > 1 else name, cards)
            for name, cards in cards_by_name.items()
        ]

    def _left(self, room: Bytes) -> Bytes:
        return Bytes(*(max(0, nbytes - self.headroom) for nbytes in room))


def budget(gpu: str | None, gpu_memory: str | None, headroom: str | None) -> Budget | None:
    """Return the budget from the three device flags; None without a device."""
    if gpu is None and gpu_memory is None:
        if headroom is not None:
            raise UsageError(sentence("headroom_card"))
        return None
    if gpu is not None and is_local(gpu):
        choice = _here(gpu_memory)
        return Budget(choice=choice, headroom=_headroom(headroom, choice.room))
    choice = find(gpu) if gpu is not None else DeviceChoice(part=sized(str(gpu_memory)))
    if gpu is not None and gpu_memory is not None:
        if choice.cards:
            raise UsageError(sentence("memory_differs"))
        visible = sized(gpu_memory)
        nbytes = visible.visible.bytes.expected
        sold = _sold_with(choice.part, nbytes)
        part = replace(sold, name=f"{sold.name} with {human(nbytes)}", visible=visible.visible)
        note = _more_than_sold(sold, nbytes)
        as_typed = (ChosenCard(part=part, room=visible.room),) * (choice.count * part.shares_host)
        choice = DeviceChoice(part=part, count=choice.count, note=note, cards=as_typed)
    return Budget(choice=choice, headroom=_headroom(headroom, choice.room))


def is_local(gpu: str) -> bool:
    """Return whether `--gpu` means this machine's cards. Raises UsageError for some of them."""
    typed = gpu.strip().lower()
    if typed != LOCAL and re.match(rf"(\d+ *x *)?{LOCAL}\b", typed):
        raise UsageError(sentence("local_cards", gpu=gpu))
    return typed == LOCAL


def _here(memory: str | None) -> DeviceChoice:
    """Return this machine's cards with their free memory, their memory when idle, or the size that
    the user set."""
    from weighbridge.machines.accelerators import local

    word = (memory or FREE).strip().lower()
    if word in (FREE, TOTAL):
        return local.now(idle=word == TOTAL)
    choice, visible = local.now(), sized(str(memory)).visible
    cards = tuple(
        replace(card, part=replace(card.part, visible=visible), room=visible.bytes, free=None)
        for card in choice.cards
    )
    return replace(choice, part=replace(choice.part, visible=visible), cards=cards, note="")


def _sold_with(part: Part, nbytes: int) -> Part:
    """Return the part of the same name that is sold with `nbytes`, else `part`. All of that memory
    counts as visible, as other processes would use the rest of `part`'s."""
    gb, odd = divmod(nbytes, GIB)
    return part if odd else parts().get(re.sub(r"\d+gb$", f"{gb}gb", part.id), part)


def _more_than_sold(part: Part, nbytes: int) -> str:
    """Return a note if such a part is not sold with as much memory as `nbytes`; else ""."""
    most = max((part.marketed_gb, *part.also_sold_as))
    if nbytes <= max(part.total.bytes.high, most * GIB):
        return ""
    return sentence("more_than_sold", card=part.name, gb=most, size=human(nbytes))


def _headroom(text: str | None, room: Bytes) -> int:
    """Return the bytes of the headroom "1GiB", or "10%" of what a process can use."""
    if text is None:
        return 0
    percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if not percent:
        return parse_size(text)
    if float(percent[1]) >= 100:
        raise UsageError(sentence("headroom_all", text=text))
    return round(room.expected * float(percent[1])) // 100

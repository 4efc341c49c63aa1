"""The card that a fake GPU stands for, as torch describes it.

name          as the driver prints it: an alias that begins so, else "NVIDIA ..."
memory        what a process can have of it: `accelerators`
chip          its multiprocessors and what they hold: accelerators/chips.py
context       what a process has outside the allocator: components/device.py
"""

import re

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Bytes
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.budget import budget
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.parts import Part
from weighbridge.memory.components.device import context

PREFIXES = ("NVIDIA ", "Tesla ")  # drivers from 450 on say NVIDIA but for the oldest Teslas
UNSAID = re.compile(r" \d+GB\b.*| \(.*\)")


@frozen_record
class Card:
    """A CUDA device: what torch reports of it, and how much of it a process can use."""

    id: str
    name: str
    chip: Chip
    total_memory: int
    outside: Bytes  # bytes that a process takes of the card outside the allocator

    @property
    def context(self) -> int:
        return self.outside.expected

    @property
    def capability(self) -> tuple[int, int]:
        return self.chip.capability


def card(name: str, gpu_memory: str | None = None) -> tuple[Card, int]:
    """Return (card, count) that `name` means. Raises UsageError."""
    chosen = budget(name, gpu_memory, None)
    assert chosen is not None
    part = chosen.choice.part
    device = Card(
        id=part.id,
        name=_driver_name(part if chosen.choice.cards else find(name).part),  # not of a given size
        chip=_chip(part),
        total_memory=part.visible.bytes.expected,
        outside=context(part).bytes,
    )
    return device, chosen.choice.count


def _chip(part: Part) -> Chip:
    if part.vendor != "NVIDIA" or part.capability is None:
        raise UnsupportedError(sentence("fake.no_cuda", name=part.name))
    if part.chip is None:
        raise UnsupportedError(sentence("fake.no_chip", name=part.name))
    return part.chip


def _driver_name(part: Part) -> str:
    for alias in (*part.aliases, part.name):
        if alias.startswith(PREFIXES):
            return alias
    return "NVIDIA " + UNSAID.sub("", part.name)

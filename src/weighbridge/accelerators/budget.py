"""The bytes that a verdict is about: a device's visible memory, less what is to stay free.

    usable = visible - headroom             for each device; a count adds devices, not memory

`--gpu-memory` replaces the visible memory of the part, say with what nvidia-smi shows as free.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property

from weighbridge.accelerators.names import Choice, find, sized
from weighbridge.accelerators.parts import Part
from weighbridge.errors import UsageError
from weighbridge.memory import Bytes
from weighbridge.units import GIB, human, parse_size


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Budget:
    """What was chosen, and how much of each device is to stay free."""

    choice: Choice
    headroom: int  # bytes of each device

    @property
    def shares_host(self) -> bool:
        return self.choice.part.shares_host

    @cached_property
    def usable(self) -> Bytes:
        return Bytes(*(max(0, b - self.headroom) for b in self.choice.part.visible.bytes))


def budget(gpu: str | None, gpu_memory: str | None, headroom: str | None) -> Budget | None:
    """None where no device was named."""
    if gpu is None and gpu_memory is None:
        if headroom is not None:
            raise UsageError("--headroom needs --gpu or --gpu-memory")
        return None
    choice = find(gpu) if gpu is not None else Choice(part=sized(str(gpu_memory)))
    if gpu is not None and gpu_memory is not None:
        given = sized(gpu_memory)
        name = f"{choice.part.name} with {human(given.visible.bytes.expected)}"
        part = replace(choice.part, name=name, visible=given.visible)
        note = _more_than_sold(choice.part, given.visible.bytes.expected)
        choice = Choice(part=part, count=choice.count, note=note)
    return Budget(choice=choice, headroom=_headroom(headroom, choice.part.visible.bytes))


def _more_than_sold(part: Part, given: int) -> str:
    """Tell how much such a part is sold with; "" where no more memory was named than that."""
    most = max((part.marketed_gb, *part.also_sold_as))
    if given <= max(part.total.bytes.high, most * GIB):
        return ""
    return f"{part.name} has {most} GB; {human(given)} were taken, as you said"


def _headroom(text: str | None, of: Bytes) -> int:
    """Bytes of "1GiB", or of "10%" of what a process can have."""
    if text is None:
        return 0
    percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if not percent:
        return parse_size(text)
    if float(percent[1]) >= 100:
        raise UsageError(f"--headroom {text!r} leaves nothing; write it as 10% or 1GiB")
    return round(of.expected * float(percent[1])) // 100

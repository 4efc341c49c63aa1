"""What a block of code took on the cards of this machine, by PyTorch's own counters.

    with weighbridge.watch() as seen:
        trainer.train()
    print(seen)

`torch.cuda.max_memory_allocated` and `max_memory_reserved` are read when the block ends, after
their peaks were set back when it began: what was allocated before counts, a peak before does not.
The driver's figure (`mem_get_info`) is of the whole card, other processes too.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from weighbridge.base.memory import Bytes, Level
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import human
from weighbridge.memory.report import Report

LEVELS: tuple[tuple[str, Level], ...] = (
    ("tensors", "allocated"),
    ("held", "reserved"),
    ("used", "driver"),
)
NO_CARD = "no CUDA device is here: nothing was measured"


class CardPeak(NamedTuple):
    """The peaks of one card, in bytes: what tensors took, what the allocator held, and what was
    used on the card when the block ended."""

    device: int
    allocated: int
    reserved: int
    used: int
    total: int


class Seen:
    """What a block took: `peaks` are there when it has ended, card by card. With a `report`, the
    predicted levels stand beside them."""

    def __init__(self, report: Report | None = None) -> None:
        self.report = report
        self.peaks: tuple[CardPeak, ...] = ()

    @property
    def allocated(self) -> int:
        """Bytes of tensors on the fullest card; 0 where nothing was measured."""
        return max((peak.allocated for peak in self.peaks), default=0)

    @property
    def reserved(self) -> int:
        """Bytes that the allocator held on the fullest card; 0 where nothing was measured."""
        return max((peak.reserved for peak in self.peaks), default=0)

    def __str__(self) -> str:
        if not self.peaks:
            return NO_CARD
        lines = [
            f"card {peak.device}: tensors {human(peak.allocated)}, held {human(peak.reserved)}, "
            f"used {human(peak.used)} of {human(peak.total)}"
            for peak in self.peaks
        ]
        return "\n".join([*lines, *predicted(self.report)])


def predicted(report: Report | None) -> Iterator[str]:
    """Yield a line with what was predicted for the fullest card, level by level."""
    if report is None:
        return
    cards = [device for device in report.devices if device.kind == "gpu"]
    if cards:
        levels = [
            f"{word} {_range(max((d.peak(level) for d in cards), key=lambda b: b.expected))}"
            for word, level in LEVELS
        ]
        yield f"predicted: {', '.join(levels)}"


def _range(size: Bytes) -> str:
    return f"{human(size.expected)} ({human(size.low)} to {human(size.high)})"


@contextmanager
def watch(report: Report | None = None) -> Iterator[Seen]:
    """Measure what a block takes on each card that PyTorch uses here. `report` is the prediction
    that is shown beside it. Without a card nothing is measured, and `str(seen)` says so."""
    seen = Seen(report)
    here = cuda()
    for device in range(here.device_count() if here else 0):
        here.reset_peak_memory_stats(device)
    try:
        yield seen
    finally:
        seen.peaks = peaks()


def peaks() -> tuple[CardPeak, ...]:
    """Return the peaks so far, of each card; () where there is none."""
    here = cuda()
    if here is None:
        return ()
    cards = []
    for device in range(here.device_count()):
        free, total = here.mem_get_info(device)
        allocated, reserved = here.max_memory_allocated(device), here.max_memory_reserved(device)
        cards.append(CardPeak(device, allocated, reserved, total - free, total))
    return tuple(cards)


def cuda() -> Any:
    """Return `torch.cuda` where this session has torch and a card; else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None

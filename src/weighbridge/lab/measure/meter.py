"""Peaks of each phase of a program, from torch's own counters: on a real GPU and on a fake one.

allocated   torch.cuda.max_memory_allocated     both counters start anew with each phase
reserved    torch.cuda.max_memory_reserved
driver      given by a function: what a process holds of the device, at most since the last call
"""

from collections.abc import Callable

import torch

from weighbridge.lab.measure.record import Levels, MeasuredPhase

START = "start"  # until the program names its first phase


class Meter:
    """Peaks by phase, of a program that names its phases (`phase`). `driver` starts anew with each
    call, too."""

    def __init__(self, driver: Callable[[], int]) -> None:
        self._driver = driver
        self._name = START
        self._phases: list[MeasuredPhase] = []
        torch.cuda.reset_peak_memory_stats()

    def __call__(self, name: str) -> None:
        self._close()
        self._name = name

    def phases(self) -> tuple[MeasuredPhase, ...]:
        """Return all phases so far. A start in which nothing was allocated is left out."""
        self._close()
        first, *later = self._phases
        idle = later and first.name == START and not first.peak.allocated
        return tuple(later if idle else self._phases)

    def _close(self) -> None:
        torch.cuda.synchronize()
        peak = Levels(
            torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), self._driver()
        )
        self._phases.append(MeasuredPhase(name=self._name, peak=peak))
        torch.cuda.reset_peak_memory_stats()

"""Devices per machine, if boards decide their number: more devices are several nodes.

data center boards   the largest machine of instances.jsonl with such a part; it counts if it is a
                     whole board (8 or more, or 4 of GB200), or the part is in BOARDS
with the CPU         a machine has one (Apple's chips, GB10, APUs of computers)
other cards          no rule: a desktop or a server holds as many as it has slots
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

from weighbridge.base.records import dataclass
from weighbridge.base.units import ceil_div
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.parts import Part, instances

T = TypeVar("T")
MACHINE = 8  # devices per machine without a rule (assumed)
BOARD = 8  # GPUs of an HGX or OAM baseboard
HGX = "an NVIDIA HGX board: nvidia.com/en-us/data-center/hgx"
TRAY = "a compute tray of NVL72: nvidia.com/en-us/data-center/gb300-nvl72"
OAM = "an OAM baseboard: amd.com/en/products/accelerators/instinct/platform"
# Part that no instance has -> (devices per machine, source)
BOARDS: Mapping[str, tuple[int, str]] = {
    "nvidia-a800-sxm4-80gb": (BOARD, HGX),
    "nvidia-h800-sxm5-80gb": (BOARD, HGX),
    "nvidia-h20-96gb": (BOARD, HGX),
    "nvidia-h20-3e-141gb": (BOARD, HGX),
    "nvidia-gb200-186gb": (4, TRAY),
    "nvidia-gb300-279gb": (4, TRAY),
    "amd-instinct-mi308x": (BOARD, OAM),
    "amd-instinct-mi325x": (BOARD, OAM),
    "amd-instinct-mi350x": (BOARD, OAM),
    "amd-instinct-mi355x": (BOARD, OAM),
}


@dataclass(frozen=True, slots=True)
class LargestMachine:
    """The number of devices in the largest machine with a part, and the source."""

    devices: int
    source: str


def machine(part: Part) -> LargestMachine | None:
    """Return the largest machine with such devices; None if no rule limits it."""
    if part.shares_host and part.at_home:  # MI300A comes on boards
        return LargestMachine(1, "its memory is the machine's own")
    if part.id in BOARDS:
        return LargestMachine(*BOARDS[part.id])
    return _rented().get(part.id)


def filled(count: int) -> int:
    """Return how many machines `count` devices fill; 0 if one is enough, or the last is not
    full."""
    return count // MACHINE if count > MACHINE and count % MACHINE == 0 else 0


def nodes(part: Part, count: int) -> int:
    """Return the fewest machines that hold `count` devices; 1 without a rule."""
    one = machine(part)
    return 1 if one is None else max(1, ceil_div(count, one.devices))


def by_machine(ranks: Sequence[T], budget: Budget | None) -> Sequence[Sequence[T]]:
    """Return the ranks in order, grouped by machine. All are one group if no rule limits machines,
    if cards differ, or if devices use the host's memory, as the verdict divides those."""
    part = None if budget is None or budget.mixed else budget.choice.part
    one = None if part is None or part.shares_host else machine(part)
    size = len(ranks) if one is None else one.devices
    return [ranks[first : first + size] for first in range(0, len(ranks), size)]


@cache
def _rented() -> dict[str, LargestMachine]:
    """Return each part's largest cloud machine, if that is a whole board."""
    largest: dict[str, LargestMachine] = {}
    for machine in instances().values():
        if machine.count >= max(
            BOARD, largest[machine.part].devices + 1 if machine.part in largest else 0
        ):
            largest[machine.part] = LargestMachine(
                machine.count, f"{machine.provider} {machine.name}"
            )
    return largest

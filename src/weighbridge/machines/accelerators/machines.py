"""Devices of one machine, where boards decide their number: more of them are several nodes.

data centre boards   the largest machine of instances.jsonl with such a part; it counts where it
                     is a whole board (8 or more, or 4 of GB200), or the part is on BOARDS
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
MACHINE = 8  # devices of one machine where no rule says how many (assumed)
BOARD = 8  # GPUs of an HGX or OAM baseboard
HGX = "an NVIDIA HGX board: nvidia.com/en-us/data-center/hgx"
TRAY = "a compute tray of NVL72: nvidia.com/en-us/data-center/gb300-nvl72"
OAM = "an OAM baseboard: amd.com/en/products/accelerators/instinct/platform"
# Devices of one machine, of parts that no instance has: (count, source)
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
    """The largest machine with such a device, and who says so."""

    devices: int
    source: str


def machine(part: Part) -> LargestMachine | None:
    """Return the largest machine with such devices; None where no rule says how many it has."""
    if part.shares_host and part.at_home:  # MI300A stands on boards
        return LargestMachine(1, "its memory is the machine's own")
    if part.id in BOARDS:
        return LargestMachine(*BOARDS[part.id])
    return _rented().get(part.id)


def filled(count: int) -> int:
    """Return the machines that so many devices fill; 0 where one is enough, or some are left."""
    return count // MACHINE if count > MACHINE and count % MACHINE == 0 else 0


def nodes(part: Part, count: int) -> int:
    """Count the machines that so many devices are in, at least; 1 where no rule says."""
    one = machine(part)
    return 1 if one is None else max(1, ceil_div(count, one.devices))


def by_machine(ranks: Sequence[T], budget: Budget | None) -> Sequence[Sequence[T]]:
    """Deal ranks out in their order, a machine's devices at a time. All are in one where no rule
    says how many it has, where cards differ, and where devices have the machine's own memory: the
    verdict deals those out."""
    part = None if budget is None or budget.mixed else budget.choice.part
    one = None if part is None or part.shares_host else machine(part)
    size = len(ranks) if one is None else one.devices
    return [ranks[first : first + size] for first in range(0, len(ranks), size)]


@cache
def _rented() -> dict[str, LargestMachine]:
    """Map parts to the largest machine of a cloud, where that is a whole board."""
    largest: dict[str, LargestMachine] = {}
    for machine in instances().values():
        if machine.count >= max(
            BOARD, largest[machine.part].devices + 1 if machine.part in largest else 0
        ):
            largest[machine.part] = LargestMachine(
                machine.count, f"{machine.provider} {machine.name}"
            )
    return largest

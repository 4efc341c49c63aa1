"""The memory of one machine: what its processes can have of it, and whether devices live in it.

    apart     --ram names it, and devices have memory of their own beside it
    shared    the card's name brings it (GB10, Apple's chips, Jetson, APUs): what its system leaves.
              What devices hold counts in it, and a size that --ram names is no more than that. Of
              --gpu local it is what this machine has left

GH200 is coherent and yet apart: its HBM is a device's own, and its LPDDR the machine's.
"""

from typing import TYPE_CHECKING

from weighbridge.accelerators.ram import Ram, ram
from weighbridge.memory import Bytes, exactly
from weighbridge.records import dataclass
from weighbridge.units import GIB, human

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineMemory:
    """Bytes that processes of one machine can have; `shared`: with what its devices hold in them.
    `note` says where what was typed contradicts the card."""

    room: Bytes
    source: str
    shared: bool = False
    note: str = ""


def machine_memory(text: str | None, budget: "Budget | None") -> MachineMemory | None:
    """Return the memory of the machine that --ram or the card names; None where neither does."""
    typed, pool = ram(text), None if budget is None else budget.pool
    if budget is None or pool is None:
        return (
            None
            if typed is None
            else MachineMemory(room=exactly(typed.nbytes), source=typed.source)
        )
    if typed is None:
        source = f"the one memory of {budget.choice.part.name}"
        return MachineMemory(room=pool, source=source, shared=True)
    room = Bytes(*(min(nbytes, typed.nbytes) for nbytes in pool))
    return MachineMemory(
        room=room, source=typed.source, shared=True, note=_contradicted(typed, budget)
    )


def measured(left: Ram, budget: "Budget") -> MachineMemory:
    """Return the memory of this machine as its system tells it."""
    room = exactly(max(0, left.nbytes - budget.headroom * (budget.pool is not None)))
    return MachineMemory(room=room, source=left.source, shared=budget.pool is not None)


def _contradicted(typed: Ram, budget: "Budget") -> str:
    part = budget.choice.part
    if typed.nbytes <= part.marketed_gb * GIB:
        return ""
    return (
        f"--ram {human(typed.nbytes)}: {part.name} and its processor have one memory of "
        f"{part.marketed_gb} GB, by which both are judged; leave --ram out"
    )

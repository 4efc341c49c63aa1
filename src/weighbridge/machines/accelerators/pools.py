"""The memory of one machine: what its processes can use, and whether it is also its devices'
memory.

    apart     --ram sets it, and devices have their own memory
    shared    the card implies it (GB10, Apple's chips, Jetson, APUs): what its system leaves, which
              includes what devices hold; --ram may limit it. With --gpu local, what is left here

On NVIDIA's chips pages of loaded files may stay in that memory, next to their copy on the device:
the driver finds no room although the system calls pages available (safetensors issue 758: twice the
model; vllm issue 46307: a GB10 with 48 GiB of weights had 112 in use before the pool was made, and
froze; issue 56824). Others ran. So pages count in what may be needed at most.

macOS swaps: on a Mac of 24 GB the heap of llama-server grew to 13.74 GB with use, 6.5 of them went
to disk, and it served on (ollama issue 18099, one Mac; that kept prompts are what grew is assumed).
Linux ended such processes (rwlove/home-ops pull 13936; RakuenSoftware/aimee 1385), so that there
what grows with use is needed. Memory of the device is not swapped: mlx-lm's cache ended a Mac
(ml-explore/mlx-lm issue 1390).

GH200 is coherent and yet apart: its HBM is a device's own, and its LPDDR the machine's.
"""

from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, human
from weighbridge.machines.accelerators.ram import Ram, ram

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

SWAPS = "Apple"


@frozen_record
class MachineMemory:
    """Bytes that one machine's processes can use (`room`). `shared`: devices use them too;
    `pages_stay`: file pages may stay in them during loading; `swaps`: the system swaps out unused
    memory instead of ending a process. `note`: how `--ram` contradicts the card."""

    room: Bytes
    source: str
    shared: bool = False
    pages_stay: bool = False
    swaps: bool = False
    note: str = ""


def machine_memory(text: str | None, budget: "Budget | None") -> MachineMemory | None:
    """Return the memory of the machine that --ram or the card implies; None without either."""
    typed, pool = ram(text), None if budget is None else budget.pool
    if budget is None or pool is None:
        return (
            None
            if typed is None
            else MachineMemory(room=exactly(typed.nbytes), source=typed.source)
        )
    stay = budget.choice.part.stack == "cuda"
    if typed is None:
        source = f"the one memory of {budget.choice.part.name}"
        swaps = budget.choice.part.vendor == SWAPS
        return MachineMemory(room=pool, source=source, shared=True, pages_stay=stay, swaps=swaps)
    return MachineMemory(
        room=Bytes(*(min(nbytes, typed.nbytes) for nbytes in pool)),
        source=typed.source,
        shared=True,
        pages_stay=stay,
        note=_contradicted(typed, budget),
    )


def measured(left: Ram, budget: "Budget") -> MachineMemory:
    """Return the memory of this machine as its system reports it."""
    shared = budget.pool is not None
    return MachineMemory(
        room=exactly(max(0, left.nbytes - budget.headroom * shared)),
        source=left.source,
        shared=shared,
        pages_stay=shared and budget.choice.part.stack == "cuda",
        swaps=shared and budget.choice.part.vendor == SWAPS,
    )


def _contradicted(typed: Ram, budget: "Budget") -> str:
    part = budget.choice.part
    if typed.nbytes <= part.marketed_gb * GIB:
        return ""
    return sentence("one_memory", size=human(typed.nbytes), card=part.name, gb=part.marketed_gb)

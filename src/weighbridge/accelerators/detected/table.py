"""The boxes that nvidia-smi draws, and that hl-smi and xpu-smi draw after it.

    |   0  NVIDIA H200                    On  |   00000000:10:00.0 Off |                    0 |
    | N/A   28C    P0             77W /  700W |       0MiB / 143771MiB |      0%      Default |
    |                                         |                        |             Disabled |

A row begins with the device's number and ends its first cell with a switch. Lines below it belong
to it: the second cell of one has the memory; a name that is too long goes on below.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

HEAD = re.compile(r" *(\d{1,4}) +(\S.*?) +(On|Off|N/A|WDDM|TCC|MCDM) *")
SLICE = re.compile(r" *(\d{1,4}) +(\d{1,4}) +(\d{1,4}) +(\d{1,4}) *")  # GPU, GI, CI, number
MEMORY = re.compile(r" *(\d{1,9}) ?MiB */ *(\d{1,9}) ?MiB *")


@dataclass(slots=True)
class DeviceRow:
    """One device's lines."""

    index: int
    name: str
    switch: str
    memory: str = ""  # "" where no line of it tells it
    mode: list[str] = field(default_factory=list)  # the last cell of each line

    @property
    def sizes(self) -> tuple[str, str] | None:
        found = MEMORY.fullmatch(self.memory)
        return (found[1], found[2]) if found else None


def rows(text: str) -> list[DeviceRow]:
    found: list[DeviceRow] = []
    for cells in _cells(text):
        head = HEAD.fullmatch(cells[0])
        if head and len(cells) == 3:
            found.append(DeviceRow(int(head[1]), head[2], head[3]))
        elif not found or len(cells) != 3 or SLICE.fullmatch(cells[0]):
            if len(cells) != 3 and found:
                break
        else:
            _below(found[-1], cells)
    return found


def _below(row: DeviceRow, cells: list[str]) -> None:
    first, second, last = (cell.strip() for cell in cells)
    row.mode.append(last)
    if not second and first and not row.memory:
        row.name = f"{row.name} {first}"
    elif second and not row.memory:
        row.memory = second


def slices(text: str) -> Iterator[tuple[tuple[int, int, int, int], str, str]]:
    """(GPU, GPU instance, compute instance, number), MiB in use, MiB in all."""
    for cells in _cells(text):
        numbers = SLICE.fullmatch(cells[0])
        memory = MEMORY.fullmatch(cells[1]) if len(cells) > 1 else None
        if numbers and memory:
            a, b, c, d = (int(n) for n in numbers.groups())
            yield (a, b, c, d), memory[1], memory[2]


def _cells(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("|") and line.endswith("|") and not set(line) <= set("|=-+ "):
            yield line[1:-1].split("|")

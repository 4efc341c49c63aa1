"""Chips: what of a part decides memory beside how much it has.

    processors   streaming multiprocessors: rows of some buffers, stacks of threads
    cache        MiB of L2, which a kernel's benchmark overwrites
    threads      that a multiprocessor keeps, by compute capability

Source: the vendor's architecture papers and product pages; CUDA C++ programming guide, technical
specifications per compute capability.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple


class Chip(NamedTuple):
    processors: int
    cache: int


# The start of a part's id, the longest that fits; processors; MiB of L2
_CHIPS = """
t4 40 4; tesla-v100 80 6; titan-v 80 5; titan-rtx 72 6; quadro-rtx-6000 72 6; quadro-rtx-8000 72 6
a2 10 2; a10 72 6; a10g 80 6; a16-per-gpu 10 2; a30 56 24; a40 84 6; a100 108 40; a800 108 40
l4 58 48; l20 92 96; l40 142 96; h20 78 60; h100 132 50; h100-pcie 114 50; h800 132 50; h200 132 50
gh200 132 50; b200 148 126; gb200 148 126
rtx-a2000 26 3; rtx-a4000 48 4; rtx-a4500 56 6; rtx-a5000 64 6; rtx-a6000 84 6
rtx-2000-ada 22 12; rtx-4000-ada 48 48; rtx-4500-ada 60 48; rtx-5000-ada 100 72
rtx-5880-ada 110 72; rtx-6000-ada 142 96; rtx-pro-4000 70 48; rtx-pro-4500 82 64
rtx-pro-5000 110 96; rtx-pro-6000 188 128
geforce-rtx-2060-6gb 30 3; geforce-rtx-2060-12gb 34 3; geforce-rtx-2070 36 4
geforce-rtx-2070-super 40 4; geforce-rtx-2080 46 4; geforce-rtx-2080-super 48 4
geforce-rtx-2080-ti 68 6; geforce-rtx-3050-8gb 20 2; geforce-rtx-3060-12gb 28 3
geforce-rtx-3060-ti 38 4; geforce-rtx-3070 46 4; geforce-rtx-3070-ti 48 4; geforce-rtx-3080 68 5
geforce-rtx-3080-12gb 70 6; geforce-rtx-3080-ti 80 6; geforce-rtx-3090 82 6
geforce-rtx-3090-ti 84 6
geforce-rtx-4060 24 24; geforce-rtx-4060-ti 34 32; geforce-rtx-4070 46 36
geforce-rtx-4070-super 56 48; geforce-rtx-4070-ti 60 48; geforce-rtx-4070-ti-super 66 48
geforce-rtx-4080 76 64; geforce-rtx-4080-super 80 64; geforce-rtx-4090 128 72
geforce-rtx-4090-d 114 72; geforce-rtx-4060-laptop 24 32; geforce-rtx-4070-laptop 36 32
geforce-rtx-4080-laptop 58 48; geforce-rtx-4090-laptop 76 64
geforce-rtx-5060 30 32; geforce-rtx-5060-ti 36 32; geforce-rtx-5070 48 48; geforce-rtx-5070-ti 70 48
geforce-rtx-5080 84 64; geforce-rtx-5090 170 96; geforce-rtx-5090-laptop 82 64
"""
MAKER = "nvidia-"
# Threads that one multiprocessor keeps, by the start of the compute capability
THREADS: Mapping[str, int] = {
    **dict.fromkeys(("7.0", "8.0", "9.0", "10.0", "10.3"), 2048),
    **dict.fromkeys(("8.6", "8.7", "8.9", "12.0", "12.1"), 1536),
    "7.5": 1024,
}


@cache
def _chips() -> dict[str, Chip]:
    rows = (row.split() for line in _CHIPS.splitlines() for row in line.split(";") if row.strip())
    return {f"{MAKER}{name}": Chip(int(count), int(size)) for name, count, size in rows}


@cache
def chip(part: str) -> Chip | None:
    """Of the part with that id. None for others, and for slices of a part."""
    fitting = [name for name in _chips() if part == name or part.startswith(f"{name}-")]
    return _chips()[max(fitting, key=len)] if fitting and "/" not in part else None

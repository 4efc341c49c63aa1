"""Workspaces of cuBLAS, one for each thread that multiplies.

    usual      2 x 4 MiB + 8 x 16 KiB
    large      8 x 4 MiB: compute capability 9, and 10 to 12 since torch 2.11
    kept       from the first product on; from torch 2.14 on taken for each product
    cuBLASLt   1 MiB for a product with a bias until torch 2.9, kept until 2.12, then one with the
               workspace of cuBLAS

Source: torch aten/src/ATen/cuda/CublasHandlePool.cpp (parseChosenWorkspaceSize); PRs 145130,
151163, 156495, 168175, 175344, 175879 and 194311.
"""

from weighbridge.units import KIB, MIB

Version = tuple[int, ...]  # of torch
USUAL = 2 * 4 * MIB + 8 * 16 * KIB
LARGE = 8 * 4 * MIB
LIGHT = MIB
NEWEST = (2, 13)  # torch, whose sources our rules were read from
BLACKWELL = (10, 11, 12)  # major compute capabilities
BLACKWELL_SINCE = (2, 11)
TRANSIENT_SINCE = (2, 14)
LIGHT_KEPT_SINCE = (2, 9)
UNIFIED_SINCE = (2, 12)


def workspace(major: int | None, torch: Version = NEWEST) -> int:
    """Bytes of one workspace; `major` is that of the compute capability, None where no card is
    known."""
    large = major == 9 or (major in BLACKWELL and torch >= BLACKWELL_SINCE)
    return LARGE if large else USUAL

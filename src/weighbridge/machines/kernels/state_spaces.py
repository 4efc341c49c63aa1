"""How many programs of a card share the gradients of Mamba-2's kernels: each has a sum of its own.

    splits   the heads of a group that no program takes together: of B, C and their products
    rows     the programs that norm tokens: each sums the gradient of the weight for its own

Source: mamba-ssm 2.3.2 ops/triton/ssd_chunk_state.py (_chunk_state_bwd_db), ssd_chunk_scan.py
(_chunk_scan_bwd_dC, _chunk_scan_bwd_dcb), layernorm_gated.py (_layer_norm_bwd).
"""

from weighbridge.base.units import ceil_div, power_of_two
from weighbridge.machines.accelerators.chips import Chip

WIDEST = 65_536  # bytes of a row that one program norms
PER_WARP = 256  # numbers
MOST_WARPS, USUAL_WARPS = 8, 4


def splits(programs: int, together: int, chip: Chip) -> int:
    """Return how many sums stand side by side where `programs` are asked for, one a chunk and head,
    and `together` heads share a group."""
    each = max(min(ceil_div(programs, chip.multiprocessors), together), 1)
    return ceil_div(together, each)


def rows(width: int, groups: int, nbytes: int, chip: Chip) -> int:
    """Return how many programs norm tokens of `groups` groups of `width` numbers."""
    block = min(WIDEST // nbytes, power_of_two(width))
    warps = min(max(block // PER_WARP, 1), MOST_WARPS)
    return ceil_div(chip.multiprocessors * ceil_div(USUAL_WARPS, warps), groups)

"""Optimizers: what each keeps for a parameter, and what a step takes besides.

optimizer("adamw_torch_fused") -> Optimizer

row.py      the record of one
plain.py    torch.optim
"""

from collections.abc import Mapping

from weighbridge.errors import UsageError
from weighbridge.training.optimizers import plain
from weighbridge.training.optimizers.row import Optimizer, State

__all__ = ["NAMES", "Optimizer", "State", "optimizer"]

ROWS: Mapping[str, Optimizer] = {row.name: row for row in (*plain.ROWS,)}
NAMES = tuple(ROWS)


def optimizer(name: str) -> Optimizer:
    """Raises UsageError with the nearest names."""
    if name in ROWS:
        return ROWS[name]
    from difflib import get_close_matches

    close = get_close_matches(name, NAMES, n=3, cutoff=0.5) or NAMES
    raise UsageError(f"--optimizer {name!r} is not known; near are {', '.join(close)}")

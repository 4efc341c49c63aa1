"""Optimizers that keep less than a number a parameter: rows and columns, or nothing.

    adafactor    float32 sums of rows and columns of a matrix, a number each for other tensors; one
                 parameter at a time in float32: its gradient and itself where they are not, the
                 update and a copy of it
    lomo         nothing; a gradient is used and goes while backward runs
    adalomo      rows and columns, the same way

Source: transformers 5.23 optimization.py (Adafactor.step); lomo_optim 0.1 lomo.py, adalomo.py.
"""

from collections.abc import Iterator, Sequence

from weighbridge.dtypes import FLOAT32
from weighbridge.forward.machine import Machine
from weighbridge.forward.tensors import LeafTensor
from weighbridge.training.optimizers.plain import none, nothing
from weighbridge.training.optimizers.row import Optimizer, State


def factors(p: LeafTensor) -> Iterator[State]:
    if len(p.shape) < 2:
        yield State("exp_avg_sq", p.shape, FLOAT32)
        return
    yield State("exp_avg_sq_row", p.shape[:-1], FLOAT32)
    yield State("exp_avg_sq_col", (*p.shape[:-2], p.shape[-1]), FLOAT32)


def _adafactor(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Local variables of one parameter live until the next one's take their names."""
    grad = wide = update = None
    for p in params:
        narrow = p.dtype != FLOAT32
        grad = m.new(p.shape, FLOAT32) if narrow else None
        wide = m.new(p.shape, FLOAT32) if narrow else None
        squared = m.new(p.shape, FLOAT32)
        update = m.new(p.shape, FLOAT32)  # + eps
        del squared
        update = m.new(p.shape, FLOAT32)  # of rows and columns
        m.new(p.shape, FLOAT32)  # -update
    del grad, wide, update


ROWS = (
    Optimizer(
        name="adafactor",
        states=factors,
        step=_adafactor,
        source="transformers optimization.py",
        formula="float32 sums of rows and columns",
    ),
    Optimizer(
        name="lomo",
        states=none,
        step=nothing,
        source="lomo_optim lomo.py",
        formula="nothing, and no gradients beyond one",
        in_backward=True,
    ),
    Optimizer(
        name="adalomo",
        states=factors,
        step=nothing,
        source="lomo_optim adalomo.py",
        formula="float32 sums of rows and columns, and no gradients beyond one",
        in_backward=True,
    ),
)

"""Optimizers of libraries of their own.

    schedule-free    z beside one average (none for SGD); a step divides all of them into a copy
    stable_adamw     two averages, one more in 16 bits (Kahan); a step takes one copy
    grokadamw        three averages, kept on the host and moved for the step of their parameter
    soap             two averages; of sides up to 10,000 two square matrices each, in the
                     gradient's dtype
    shampoo          momentum, and the same matrices

Source: schedulefree 1.4; torch-optimi 0.3 stableadamw.py; grokadamw 0.1 grokadamw.py;
pytorch_optimizer 4.1 optimizer/soap.py, optimizer/shampoo.py.
"""

from collections.abc import Iterator, Sequence

from weighbridge.dtypes import FLOAT32
from weighbridge.forward.machine import Machine
from weighbridge.forward.tensors import LeafTensor
from weighbridge.training.optimizers.plain import nothing, one, one_copy, two
from weighbridge.training.optimizers.row import Optimizer, State

LARGEST = 10_000  # max_precondition_dim


def _schedule_free(param: LeafTensor) -> Iterator[State]:
    yield State("z", param.shape, param.dtype)
    yield State("exp_avg_sq", param.shape, param.dtype)


def _stable(param: LeafTensor) -> Iterator[State]:
    yield from two(param)
    yield State("eps_sq", (), param.dtype)
    if param.dtype != FLOAT32:
        yield State("kahan_comp", param.shape, param.dtype)


def _grok(param: LeafTensor) -> Iterator[State]:
    for name in ("exp_avg", "exp_avg_sq", "grok_ema"):
        yield State(name, param.shape, param.dtype, "host")


def _grok_step(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Copy each parameter's three averages from the host to the GPU, plus a square root."""
    for p in params:
        m.hidden(*[p.nbytes] * 4)


def _squares(param: LeafTensor) -> Iterator[State]:
    if len(param.shape) < 2:
        return
    for side in param.shape:
        if side <= LARGEST:
            for name in ("GG", "Q"):
                yield State(name, (side, side), param.dtype)


def _soap(param: LeafTensor) -> Iterator[State]:
    yield from two(param)
    yield from _squares(param)


def _shampoo(param: LeafTensor) -> Iterator[State]:
    yield from one(param)
    yield from _squares(param)


def _soap_step(m: Machine, params: Sequence[LeafTensor]) -> None:
    """The projected gradient and average, the root, the product, and what is projected back; every
    so often a decomposition of the largest square."""
    for p in params:
        sides = [n for n in p.shape if n <= LARGEST] if len(p.shape) > 1 else []
        square = p.dtype.size(max(sides, default=0) ** 2)
        m.hidden(*[p.nbytes] * 5)
        m.hidden(square, square, 4 * max(sides, default=0) ** 2)


ROWS = (
    Optimizer(
        name="schedule_free_adamw",
        states=_schedule_free,
        step=one_copy,
        source="schedulefree adamw_schedulefree.py",
        formula="z and one average",
    ),
    Optimizer(
        name="schedule_free_radam",
        states=_schedule_free,
        step=one_copy,
        source="schedulefree radam_schedulefree.py",
        formula="z and one average",
    ),
    Optimizer(
        name="schedule_free_sgd",
        states=one,
        step=nothing,
        source="schedulefree sgd_schedulefree.py",
        formula="z",
    ),
    Optimizer(
        name="stable_adamw",
        states=_stable,
        step=one_copy,
        source="optimi stableadamw.py",
        formula="two averages, and a correction in 16 bits",
    ),
    Optimizer(
        name="grokadamw",
        states=_grok,
        step=_grok_step,
        source="grokadamw grokadamw.py",
        formula="three averages on the host",
    ),
    Optimizer(
        name="soap",
        states=_soap,
        step=_soap_step,
        source="pytorch_optimizer optimizer/soap.py",
        formula="two averages, and two squares of each side up to 10,000",
        assumed=True,
    ),
    Optimizer(
        name="shampoo",
        states=_shampoo,
        step=_soap_step,
        source="pytorch_optimizer optimizer/shampoo.py",
        formula="one average, and two squares of each side up to 10,000",
        assumed=True,
    ),
)

"""torch.optim, as it runs on CUDA: all parameters at once (foreach) unless fused is asked for.

adamw    exp_avg, exp_avg_sq in the parameter's dtype; a step takes the root of the second, of
         all parameters together (adam.py, _multi_tensor_adam); fused takes nothing
sgd      nothing; with momentum one copy
"""

from collections.abc import Iterator, Sequence

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.tensors import Param, Tensor
from weighbridge.dtypes import FLOAT32
from weighbridge.training.optimizers.row import Optimizer, State


def two(p: Param) -> Iterator[State]:
    yield State("exp_avg", p.shape, p.dtype)
    yield State("exp_avg_sq", p.shape, p.dtype)


def two_fused(p: Param) -> Iterator[State]:
    yield State("step", (), FLOAT32)
    yield from two(p)


def one(p: Param) -> Iterator[State]:
    yield State("momentum_buffer", p.shape, p.dtype)


def none(p: Param) -> Iterator[State]:
    yield from ()


def copies(m: Machine, params: Sequence[Param]) -> list[Tensor]:
    """Like every parameter, together."""
    return [m.new(p.shape, p.dtype) for p in params]


def one_copy(m: Machine, params: Sequence[Param]) -> None:
    copies(m, params)


def nothing(m: Machine, params: Sequence[Param]) -> None:
    """In place."""


ADAM, SGD = "torch optim/adam.py", "torch optim/sgd.py"
ROWS = (
    Optimizer(name="adamw_torch", states=two, step=one_copy, source=ADAM, formula="two copies"),
    Optimizer(
        name="adamw_torch_fused",
        states=two_fused,
        step=nothing,
        source=ADAM,
        formula="two copies, and a float32 number a tensor",
    ),
    Optimizer(name="sgd", states=none, step=nothing, source=SGD, formula="nothing"),
    Optimizer(name="sgd-momentum", states=one, step=nothing, source=SGD, formula="one copy"),
)

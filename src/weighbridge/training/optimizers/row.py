"""One optimizer as memory sees it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from weighbridge.dtypes import DType
from weighbridge.forward.machine import Machine
from weighbridge.forward.tensors import LeafTensor

Where = Literal["device", "managed", "host"]  # managed: pages that move between them


class State(NamedTuple):
    """One tensor that is kept for a parameter from the first step on."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    where: Where = "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """`states` of one parameter; `step` takes, in order, what a step over all of them takes, and
    gives it back. `early`: states are made with the optimizer, not in the first step.
    `in_backward`: every parameter is stepped when its gradient is there, which goes at once."""

    name: str
    states: Callable[[LeafTensor], Iterable[State]]
    step: Callable[[Machine, Sequence[LeafTensor]], None]
    source: str
    formula: str = ""  # states of a parameter, in words
    early: bool = False
    in_backward: bool = False
    unsure: Callable[[LeafTensor], int] | None = (
        None  # bytes of one parameter that it may take besides
    )
    assumed: bool = False  # read off its source and not followed step by step

"""Record of one optimizer's memory, and the optimizer of a rank: states from the first step on,
temporaries, and no gradients after it."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import prod
from typing import Literal

from weighbridge.base.dtypes import DType
from weighbridge.base.records import NamedTuple, dataclass
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.tensors import LeafTensor

Where = Literal["device", "managed", "host"]  # managed: pages that move between device and host


class State(NamedTuple):
    """One optimizer state of a parameter, allocated in the first step."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    where: Where = "device"


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Memory of one optimizer. `states` yields a parameter's states by its shape, dtype, kind and
    the first part of its name ("lm_head"); `step` allocates and frees what updating all parameters
    takes. `early`: states are made with the optimizer, not in the first step. `in_backward`: every
    parameter is updated as soon as its gradient exists, which is freed at once."""

    name: str
    states: Callable[[LeafTensor], Iterable[State]]
    step: Callable[[Machine, Sequence[LeafTensor]], None]
    source: str
    formula: str = ""  # states per parameter, in words
    early: bool = False
    in_backward: bool = False
    unsure: Callable[[LeafTensor], int] | None = (
        None  # bytes that a step may take besides, for one parameter
    )
    assumed: bool = False  # read from its source, not measured step by step


# ---- optimization


class Optimization:
    """The optimizer of one rank at work. `elsewhere` counts bytes of states outside the allocator's
    memory. `zeroes`: gradients stay after a step, as zeros (torch 1) or until a later zero_grad.
    `apart`: parameters are updated one at a time."""

    def __init__(
        self,
        optimizer: Optimizer,
        params: list[LeafTensor],
        *,
        offloaded: bool = False,
        zeroes: bool = False,
        apart: bool = False,
    ) -> None:
        self.optimizer = optimizer
        self.offloaded = offloaded
        self.zeroes = zeroes
        self.apart = apart
        self.params = params
        self.elsewhere: dict[str, int] = {}
        self.made = 0  # bytes of all states, wherever they are
        self._started: set[str] = set()
        self._sizes: dict[Hashable, tuple[tuple[Where, int], ...]] = {}
        if optimizer.in_backward:
            for p in params:
                p.hooks.append(self._at_once)

    def start(self, m: Machine) -> None:
        """Allocate the states of all parameters that have none yet."""
        self._start(m, self.params)

    def step(self, m: Machine) -> None:
        """Update the parameters that have a gradient, then drop the gradients (zero_grad)."""
        mine = [p for p in self.params if p.grad is not None]
        self._start(m, mine)
        with m.making("temporaries"):
            for group in [[p] for p in mine] if self.apart else [mine]:
                self.optimizer.step(m, group)
        if not self.zeroes:
            self.forget()

    def forget(self) -> None:
        """Drop all gradients: zero_grad(set_to_none=True)."""
        for p in self.params:
            p.grad = None

    def _at_once(self, m: Machine, param: LeafTensor) -> None:
        self._start(m, [param])
        self.optimizer.step(m, [param])
        param.grad = None

    def _start(self, m: Machine, params: Iterable[LeafTensor]) -> None:
        """Allocate the states of parameters that have none yet, side by side; they live until the
        run ends."""
        here: list[int] = []
        for param in params:
            if param.name in self._started:
                continue
            self._started.add(param.name)
            for where, nbytes in self._states(param):
                self.made += nbytes
                if where == "device":
                    here.append(nbytes)
                else:
                    self.elsewhere[where] = self.elsewhere.get(where, 0) + nbytes
        m.heap.row(here, "optimizer_states")

    def _states(self, param: LeafTensor) -> tuple[tuple[Where, int], ...]:
        """Return (where, bytes) of each state of a parameter; cached by shape, dtype and kind."""
        key = param.shape, param.dtype, param.kind, param.name.partition(".")[0]
        if key not in self._sizes:
            self._sizes[key] = tuple(
                ("host" if self.offloaded else state.where, state.dtype.size(prod(state.shape)))
                for state in self.optimizer.states(param)
            )
        return self._sizes[key]

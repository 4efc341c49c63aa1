"""The optimizer of one rank at work: states from the first step on, temporaries, and no gradients
behind it."""

from math import prod

from weighbridge.forward.machine import Machine
from weighbridge.forward.tensors import LeafTensor, TensorStorage
from weighbridge.training.optimizers import Optimizer


class Optimization:
    """`elsewhere` counts the bytes of states that are not in the allocator's memory. `zeroes`:
    gradients stay behind a step, as zeros (torch 1) or until zero_grad comes later. `apart`: one
    parameter is stepped at a time."""

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
        self._states: dict[str, list[TensorStorage]] = {}
        if optimizer.in_backward:
            for p in params:
                p.hooks.append(self._at_once)

    def start(self, m: Machine) -> None:
        """States of all parameters."""
        for p in self.params:
            self._start(m, p)

    def step(self, m: Machine) -> None:
        """Step the parameters that have a gradient, then drop the gradients (zero_grad)."""
        mine = [p for p in self.params if p.grad is not None]
        for p in mine:
            self._start(m, p)
        with m.making("temporaries"):
            for group in [[p] for p in mine] if self.apart else [mine]:
                self.optimizer.step(m, group)
        if not self.zeroes:
            self.forget()

    def forget(self) -> None:
        """zero_grad(set_to_none=True)"""
        for p in self.params:
            p.grad = None

    def _at_once(self, m: Machine, p: LeafTensor) -> None:
        self._start(m, p)
        self.optimizer.step(m, [p])
        p.grad = None

    def _start(self, m: Machine, p: LeafTensor) -> None:
        if p.name in self._states:
            return
        made = self._states[p.name] = []
        for state in self.optimizer.states(p):
            nbytes = state.dtype.size(prod(state.shape))
            where = "host" if self.offloaded else state.where
            if where == "device":
                made.append(TensorStorage(m.heap, nbytes, "optimizer_states"))
            else:
                self.elsewhere[where] = self.elsewhere.get(where, 0) + nbytes

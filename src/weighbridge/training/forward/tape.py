"""A tape of the allocations and frees of a stretch of a step, in order. Tensors are numbered in the
order in which they were allocated, so that stretches can be compared without anything else.

    (TAKE, slot, bytes, component, stream, alike, rule)    of a card that says how many bytes
    (DROP, slot)
    (NAME, slot, component)                         it counts as another one from here on
    (GRAD, slot, parameter, shape, dtype, type)     the gradient of a parameter is handed over
"""

from collections.abc import Container
from typing import Any

from weighbridge.base.dtypes import DType
from weighbridge.base.records import NamedTuple
from weighbridge.memory.components.activations import LiveTensor
from weighbridge.memory.components.card_bytes import CardBytes
from weighbridge.training.forward.tensors import LeafTensor, Shape, Tensor

TAKE, DROP, NAME, GRAD = range(4)
INPUT, GIVEN = -1, -2  # slots of a layer's input, and of the gradient of its result
Event = tuple[Any, ...]


class SpliceTape:
    """Tape of one traced stretch. `alive`: live tensors, by identity; `params`: indices of the
    layer's parameters, by identity; `whole`: no other tensor was touched."""

    def __init__(self, params: dict[int, int]) -> None:
        self.events: list[Event] = []
        self.alive: dict[int, tuple[int, LiveTensor]] = {}
        self.count = 0
        self.params = params
        self.whole = True

    def know(self, slot: int, live: LiveTensor) -> None:
        self.alive[id(live)] = slot, live

    def slot(self, live: LiveTensor) -> int | None:
        entry = self.alive.get(id(live))
        return None if entry is None else entry[0]

    def forget(self, slots: Container[int]) -> None:
        self.alive = {key: entry for key, entry in self.alive.items() if entry[0] not in slots}

    def taken(self, live: LiveTensor, stream: int) -> None:
        if _takes(live):
            self.know(self.count, live)
            rule = live.nbytes.origin if isinstance(live.nbytes, CardBytes) else None
            taken = TAKE, self.count, live.nbytes, live.name, stream, live.alike, rule
            self.events.append(taken)
            self.count += 1

    def dropped(self, live: LiveTensor) -> None:
        if _takes(live):
            self.events.append((DROP, self._gone(live)))

    def renamed(self, live: LiveTensor, made: LiveTensor) -> None:
        if _takes(live):
            slot = self._gone(live)
            self.events.append((NAME, slot, made.name))
            if slot is not None:
                self.know(slot, made)

    def given(self, leaf: LeafTensor, grad: Tensor, *, owned: bool) -> bool:
        """Record that `grad` is handed to a parameter. Return whether it belongs to the layer; what
        happens to the gradient later does not."""
        number = self.params.get(id(leaf))
        if number is None:
            self.whole = self.whole and not leaf.hooks
            return False
        assert grad.storage is not None
        slot = self._gone(grad.storage.held)
        self.whole = self.whole and owned
        self.events.append((GRAD, slot, number, grad.shape, grad.dtype, type(grad)))
        return True

    def _gone(self, live: LiveTensor) -> int | None:
        slot, _ = self.alive.pop(id(live), (None, live))
        self.whole = self.whole and slot is not None
        return slot


def _takes(live: LiveTensor) -> bool:
    """Return whether the tensor takes memory, on this chip or on another one."""
    return bool(live.nbytes) or isinstance(live.nbytes, CardBytes)


class Cast(NamedTuple):
    """A weight's cast that autocast keeps until forward ends; `held`: the graph keeps it, too."""

    number: int
    slot: int
    shape: Shape
    dtype: DType
    held: bool


class Forward(NamedTuple):
    """Tape of a layer's forward. `keeps_input`, `keeps_result`: the graph keeps the input, or the
    result."""

    events: tuple[Event, ...]
    slots: int
    result: int
    shape: Shape
    dtype: DType
    graph: bool
    keeps_input: bool
    keeps_result: bool
    casts: tuple[Cast, ...]
    away: int


class Backward(NamedTuple):
    """Tape of a layer's backward. `type` is that of the input's gradient: a view is not added to in
    place. `stays`: slots that live as long as the graph."""

    events: tuple[Event, ...]
    slots: int
    result: int
    shape: Shape
    dtype: DType
    type: type[Tensor]
    stays: tuple[int, ...]
    away: int

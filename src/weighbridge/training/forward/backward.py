"""Backward as torch's engine runs it (torch/csrc/autograd/engine.cpp).

order       the node that was made last goes first; leaves before all others
sums        a second gradient is added to the first, in place if nobody else holds that
            (input_buffer.cpp, can_accumulate_inplace)
leaves      take the gradient itself if nobody else holds it, else a copy of it
            (functions/accumulate_grad.h)
saved       tensors are freed when their node has run

Whether only one place holds a tensor is decided by CPython's reference count. The count includes
the reference that the call itself makes. Those of local variables and arguments are counted up to
Python 3.13 and borrowed, so not counted, from 3.14 on. Every version counts an item of a list or a
tuple, and an attribute, as one for its place and one for the call: so only these are queried.
Source: Python 3.14, "What's New", "Other language changes": the interpreter avoids some changes of
reference counts when it loads objects onto the operand stack.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from sys import getrefcount
from typing import Any

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.base.watching import go_on
from weighbridge.training.forward.machine import GradNode, Machine
from weighbridge.training.forward.tape import SpliceTape
from weighbridge.training.forward.tensors import LeafTensor, Tensor

GRADIENTS, TEMPORARIES = "gradients", "temporaries"
BETWEEN = 32  # nodes between two checks whether the answer is still needed


def backward(
    m: Machine, loss: Tensor, grad: Tensor | None = None, *, name: str = TEMPORARIES
) -> None:
    """Accumulate `.grad` of all parameters that `loss` depends on; memory allocated meanwhile is
    component `name`."""
    root = loss.node
    if root is None:
        raise UnsupportedError(sentence("no_loss_part"))
    before = m.name, m.grad, m.in_backward
    m.name, m.grad, m.in_backward = name, False, True
    try:
        first = grad if grad is not None else m.new(loss.shape, loss.dtype)
        _run(m, root, loss.slot, first)
    finally:
        m.name, m.grad, m.in_backward = before


def _run(m: Machine, root: GradNode, slot: int, first: Tensor) -> None:
    waits = _dependencies(root)
    buffers: dict[Any, list[Any]] = {root: [None] * root.outputs}
    buffers[root][slot] = first
    del first
    ready: list[tuple[int, GradNode]] = [(-root.seq, root)]
    for node in _in_turn(ready):
        grads = buffers.pop(node)
        gradients = _call(m, node, grads)
        grads.clear()
        leaves = []
        for i, (source, number) in enumerate(node.inputs):
            if source is None:
                continue
            gradient = gradients[i]
            gradients[i] = None
            leaf = type(source) is LeafTensor
            buffer = buffers.get(source) or buffers.setdefault(
                source, [None] * (1 if leaf else source.outputs)
            )
            if gradient is not None:
                _sum(m, buffer, number, gradient)
            gradient = None
            waits[source] -= 1
            if waits[source]:
                continue
            if leaf:
                leaves.append(source)
            else:
                heappush(ready, (-source.seq, source))
        for leaf in leaves:
            accumulate(m, leaf, buffers.pop(leaf))


def _in_turn(ready: list[tuple[int, GradNode]]) -> Iterator[GradNode]:
    """Yield the nodes that are ready, the last made first; the caller adds to `ready` meanwhile."""
    for number in count():
        if not ready:
            return
        if number % BETWEEN == 0:
            go_on()
        yield heappop(ready)[1]


def _dependencies(root: GradNode) -> dict[Any, int]:
    """Return the number of gradients that each node and parameter will get."""
    waits: dict[Any, int] = {}
    seen = {root}
    todo = [root]
    while todo:
        for source, _ in todo.pop().inputs:
            if source is None:
                continue
            waits[source] = waits.get(source, 0) + 1
            if source not in seen:
                seen.add(source)
                if isinstance(source, GradNode):
                    todo.append(source)
    return waits


def _call(m: Machine, node: GradNode, grads: list[Any]) -> list[Any]:
    saved = [s() if callable(s) else s for s in node.saved]
    if grads.count(None) == len(grads):
        gradients: list[Any] = [None] * len(node.inputs)
    else:
        gradients = list(node.back(m, grads, saved, node.needs))
    node.saved = []
    return gradients


def _owned(buffer: list[Any], slot: int) -> bool:
    """Return whether `buffer` holds the only reference to the tensor and its memory."""
    return not shared(buffer, slot) and holders(buffer[slot]) == 1


def _sum(m: Machine, buffer: list[Any], slot: int, gradient: Tensor) -> None:
    if buffer[slot] is None:
        buffer[slot] = gradient
    elif not _owned(buffer, slot):
        buffer[slot] = m.new(gradient.shape, gradient.dtype)


def accumulate(m: Machine, leaf: LeafTensor, buffer: list[Any]) -> None:
    """Set or add a parameter's gradient from `buffer`; then run its hooks."""
    if buffer[0] is None:
        return
    owned, tape = not shared(buffer, 0), m.heap.watch
    if not (isinstance(tape, SpliceTape) and tape.given(leaf, buffer[0], owned=owned)):
        _taken(m, leaf, buffer, owned=owned)
        return
    with m.heap.watched(None):
        _taken(m, leaf, buffer, owned=owned)


def _taken(m: Machine, leaf: LeafTensor, buffer: list[Any], *, owned: bool) -> None:
    if leaf.grad is None:
        if owned:
            leaf.grad = buffer[0]
        else:
            leaf.grad = m.new(leaf.shape, buffer[0].dtype)
        if leaf.grad.storage is not None:
            leaf.grad.storage.rename(GRADIENTS)
    buffer.clear()
    for hook in leaf.hooks:
        call: Callable[[Machine, LeafTensor], None] = hook  # type: ignore[assignment]
        call(m, leaf)


# ---- other references to a tensor


PLACE_AND_CALL = 2


def shared(places: Sequence[Any], index: int) -> bool:
    """Return whether anything but `places[index]` refers to the object there."""
    return getrefcount(places[index]) > PLACE_AND_CALL


def holders(t: Any) -> int:
    """Return the number of tensors, views included, that refer to the storage of `t`."""
    return getrefcount(t.storage) - 1

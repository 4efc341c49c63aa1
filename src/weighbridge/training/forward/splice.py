"""Layers that are not walked again: they allocate and free what a walked layer like them did.

    walked      the first layers of a kind, and the last: a tape records what each allocates and
                frees, in forward and in backward
    spliced     those between: one node of the graph each, which repeats the tape

A kind repeats if two of its layers in a row left the same tape, which has nothing but what the
layer allocated itself, its input, its result and their gradients. Attributes of the graph's nodes
stay until the graph is freed, also for a spliced layer. All walked layers must leave that tape,
except two: the first of the kind, which is the last to free what all of them read, and the last of
all layers, which gets another gradient. Otherwise `UnlikeLayersError` tells that the step must be
walked whole. If parameters have hooks, their gradients are handed over one by one, and the hooks
run as they do after a walked layer. Without hooks, the allocator takes all gradients at once.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from weighbridge.base.dtypes import DType
from weighbridge.base.records import NamedTuple
from weighbridge.memory.components.activations import LiveTensor, TensorHeap
from weighbridge.memory.components.courses import DROPPED, RENAMED, HeapCourse
from weighbridge.training.forward.backward import GRADIENTS, accumulate, holders, shared
from weighbridge.training.forward.machine import GradNode, Grads, Machine, Needs, record
from weighbridge.training.forward.tape import (
    GIVEN,
    GRAD,
    INPUT,
    NAME,
    TAKE,
    Backward,
    Cast,
    Event,
    Forward,
    SpliceTape,
)
from weighbridge.training.forward.tensors import (
    Computed,
    LeafTensor,
    Shape,
    Tensor,
    TensorStorage,
    TensorView,
)

LAST = 3  # last layers of a kind that are traced, until it is known to repeat
FEW = LAST + 2  # with this many layers of a kind, none is spliced
Whole = Callable[[Tensor], Tensor]
Slots = list[Any]  # tensors held, by slot; the last two are the layer's input and incoming gradient


class UnlikeLayersError(Exception):
    """Raised if layers that were assumed alike are not: all layers of the step are traced then."""


class LayerTrace:
    """The tapes of traced layers of one kind, and whether they are known to repeat."""

    __slots__ = ("courses", "grads", "last", "proven", "tape", "used")

    def __init__(self) -> None:
        self.tape: Any = None
        self.last: Any = None  # the tape of the model's last layer
        self.courses: dict[bool, HeapCourse | None] = {}
        self.grads: list[Event] = []
        self.proven = self.used = False

    def note(self, tape: Forward | Backward | None, layer: "SplicedLayer") -> None:
        """Record the tape of one traced layer; raises UnlikeLayersError if it differs. The first
        and the last layer may differ from the others."""
        if layer.ends:
            self.last = tape
        if not self.used:
            self.proven = tape is not None and tape == self.tape
            self.tape = tape
        elif tape != self.tape and layer.number and not layer.ends:
            raise UnlikeLayersError

    @property
    def to_the_end(self) -> bool:
        """Return whether the model's last layer is known to be like the others."""
        return self.proven and self.last == self.tape

    def use(self) -> Any:
        if not self.proven:
            raise UnlikeLayersError
        if not self.used:
            self.used = True
            self.grads = [event for event in self.tape.events if event[0] == GRAD]
        return self.tape


class AlikeLayers:
    """The forward and backward traces of the layers of one kind."""

    __slots__ = ("backward", "forward")

    def __init__(self) -> None:
        self.forward, self.backward = LayerTrace(), LayerTrace()


class SplicedLayer(NamedTuple):
    """One of `alike` layers; its parameters are in the same order for each. `ends`: it is the
    model's last, where backward begins, so others may hold its incoming gradient."""

    params: Sequence[LeafTensor]
    number: int
    alike: int
    ends: bool = False


class Splices:
    """All kinds of layers of one run, with the tapes of the traced layers."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, AlikeLayers] = {}

    def run(
        self, m: Machine, key: Hashable, layer: SplicedLayer, whole: Whole, x: Tensor
    ) -> Tensor:
        """Return `whole(x)`, traced or spliced."""
        kind = self._kinds.setdefault(key, AlikeLayers())
        known = kind.forward.proven and (kind.backward.proven or not m.grad)
        ends = layer.ends and not (kind.forward.to_the_end and kind.backward.to_the_end)
        last = ends or (not known and layer.alike - layer.number <= LAST)
        checks = layer.number == 1  # the second layer of each forward is compared with the tape
        if layer.number and not (checks or last) and kind.forward.proven:
            return _spliced(m, kind, layer.params, x)
        leaf = isinstance(x, LeafTensor)  # autocast keeps the casts of a leaf
        alone = leaf or layer.alike <= FEW or (m.grad and not x.requires_grad)
        if alone or (known and not checks):
            return whole(x)
        return Walk(m, kind, layer).run(whole, x)

    def repeat(self, m: Machine, key: Hashable, number: int, whole: Whole, x: Tensor) -> Tensor:
        """Return `whole(x)` in its `number`th run, traced or spliced: layers that each micro-batch
        runs through, with backwards in the order of the forwards. If an equal run has spliced them
        both ways, only the first run is traced, which may differ."""
        kind = self._kinds.setdefault(key, AlikeLayers())
        sure = kind.forward.used and kind.backward.used
        if number >= (1 if sure else LAST) and kind.forward.proven:
            return _spliced(m, kind, (), x)
        return Walk(m, kind, SplicedLayer((), number, number + 1)).run(whole, x)


class Walk:
    """A layer that is traced; its tapes are recorded."""

    def __init__(self, m: Machine, kind: AlikeLayers, layer: SplicedLayer) -> None:
        self.m = m
        self.kind = kind
        self.layer = layer
        self.tape = SpliceTape({id(p): i for i, p in enumerate(layer.params)})
        self.away = 0
        self.attributes: set[int] = set()  # slots of node attributes, held until the graph is freed

    def run(self, whole: Whole, x: Tensor) -> Tensor:
        m, tape, to_save = self.m, self.tape, len(self.m.casts)
        self.away = m.away
        before = holders(x)
        inside = Computed(x.shape, x.dtype, x.storage)
        record(m, self._ends, [x], [], inside)
        with m.heap.watched(tape):
            result = [whole(inside)]
        begun = inside.node
        del inside
        assert x.storage is not None
        keeps_input = holders(x) > before
        keeps_result = shared(result, 0) or holders(result[0]) > 1
        [out] = result
        forward = self._forward(out, tuple(self._casts_since(to_save)), (keeps_input, keeps_result))
        if keeps_input:
            tape.know(INPUT, x.storage.held)
        attributes = [t.storage.held for t in _attributes_between(out.node, begun) if t.storage]
        self.attributes = {slot for slot in map(tape.slot, attributes) if slot is not None}
        del begun
        self.kind.forward.note(forward, self.layer)
        output = Computed(out.shape, out.dtype, out.storage)
        record(m, self._begins, [out], [], output)
        return output

    def _forward(
        self, out: Tensor, casts: tuple[Cast, ...], keeps: tuple[bool, bool]
    ) -> Forward | None:
        """Return the tape of a forward, None if it cannot be repeated; from here on only what the
        graph keeps belongs to the layer."""
        assert out.storage is not None
        tape, graph = self.tape, out.requires_grad
        result = tape.slot(out.storage.held)
        gone = {cast.slot for cast in casts if not cast.held}
        if not keeps[1]:
            gone.add(-1 if result is None else result)
        tape.forget(gone)
        if (
            result is None
            or not tape.whole
            or (tape.alive and not graph)
            or type(out) is not Computed
        ):
            return None
        output = tuple(tape.events), tape.count, result, out.shape, out.dtype, graph, *keeps
        return Forward(*output, casts, self.m.away - self.away)

    def _casts_since(self, count: int) -> "list[Cast]":
        """Return the casts that autocast has made since it had `count` of them."""
        casts = []
        for cast in list(self.m.casts.values())[count:]:
            is_held = shared(cast, 1) or holders(cast[1]) > 1
            p, t = cast
            assert t.storage is not None
            number, slot = self.tape.params.get(id(p)), self.tape.slot(t.storage.held)
            if number is None or slot is None:
                self.tape.whole = False
                continue
            casts.append(Cast(number, slot, t.shape, t.dtype, is_held))
        return casts

    def _begins(self, m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        tape = self.tape
        tape.events = []
        tape.know(GIVEN, grads[0].storage.held)
        self.away = m.away
        m.heap.watch = tape
        return [grads[0]]

    def _ends(self, m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        tape = self.tape
        m.heap.watch = None
        self.kind.backward.note(self._backward(grads[0]), self.layer)
        tape.alive.clear()
        return [grads[0]]

    def _backward(self, grad: Tensor | None) -> Backward | None:
        tape = self.tape
        if grad is None or grad.storage is None or not tape.whole:
            return None
        result = tape.slot(grad.storage.held)
        left = {slot for slot, _ in tape.alive.values()}
        stays = left & self.attributes - {result, GIVEN}
        # others may hold more of the last two
        if result is None or left - stays - {result, INPUT, GIVEN}:
            return None
        out = tuple(tape.events), tape.count, result, grad.shape, grad.dtype, type(grad)
        return Backward(*out, tuple(sorted(stays)), self.m.away - self.away)


def _attributes_between(node: GradNode | None, end: GradNode | None) -> Iterator[Tensor]:
    """Yield the attributes of all graph nodes from `node` back to `end`."""
    seen = {end}
    todo: list[Any] = [node]
    while todo:
        node = todo.pop()
        if isinstance(node, GradNode) and node not in seen:
            seen.add(node)
            yield from node.attributes
            todo += [source for source, _ in node.inputs]


class Spliced:
    """The tensors that one spliced layer keeps for its backward, by slot. `stays`: slots that are
    freed with the graph."""

    __slots__ = ("kind", "params", "slots", "stays")

    def __init__(self, kind: AlikeLayers, params: Sequence[LeafTensor], slots: Slots) -> None:
        self.kind = kind
        self.params = params
        self.slots = slots
        self.stays: list[TensorStorage] = []

    def back(self, m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        backward: Backward = self.kind.backward.use()
        slots = self.slots
        slots[GIVEN:GIVEN] = [None] * (backward.slots + 2 - len(slots))
        slots[GIVEN] = grads[0].storage
        through = backward.result == GIVEN
        if not through:
            grads[0] = None
        self._again(m, self.kind.backward, backward.events)
        m.away += backward.away
        storage = TensorStorage.of(m.heap, slots[backward.result])
        self.stays = [TensorStorage.of(m.heap, slots[slot]) for slot in backward.stays]
        slots.clear()
        if through:
            return grads[:]
        return [_tensor(backward.type, backward.shape, backward.dtype, storage)]

    def _again(self, m: Machine, trace: LayerTrace, events: Sequence[Event]) -> None:
        grads = [self.params[number] for _, _, number, *_ in trace.grads]
        fresh = all(p.grad is None for p in grads)
        alike = fresh or all(p.grad is not None for p in grads)
        if any(p.hooks for p in grads) or not alike or not self._runs(m, trace, events, fresh):
            self._replay_events(m, events)

    def _runs(self, m: Machine, trace: LayerTrace, events: Sequence[Event], fresh: bool) -> bool:
        """Return whether the allocator could run all of the events at once, as one recorded
        course."""
        slots = self.slots
        if fresh not in trace.courses:
            trace.courses[fresh] = _course_of_events(events, slots, fresh)
        course = trace.courses[fresh]
        if course is None or not all(_alone(slots, slot) for slot in course.names):
            return False
        for slot in course.names:
            if isinstance(slots[slot], TensorStorage):
                slots[slot] = slots[slot].surrender()
        if not m.heap.run(course, slots):
            return False
        for _, slot, number, shape, dtype, kind in trace.grads if fresh else ():
            storage = TensorStorage.of(m.heap, slots[slot])
            self.params[number].grad = _tensor(kind, shape, dtype, storage)
            slots[slot] = None
        return True

    def _replay_events(self, m: Machine, events: Iterable[Event]) -> None:
        """Run the allocations and frees of a tape one by one."""
        heap, slots = m.heap, self.slots
        for event in events:
            what, slot = event[:2]
            if what == TAKE:
                slots[slot] = heap.again(*event[2:6])
                continue
            live = slots[slot]
            slots[slot] = None
            if what == NAME:
                slots[slot] = _renamed(heap, live, *event[2:])
            elif what == GRAD:
                number, shape, dtype, kind = event[2:]
                out = [_tensor(kind, shape, dtype, TensorStorage.of(heap, live))]
                live = None  # only the parameter holds it from here on
                accumulate(m, self.params[number], out)
            elif isinstance(live, LiveTensor):
                heap.drop(live)
            live = None


def _alone(slots: Slots, slot: int) -> bool:
    """Return whether the slot holds the only reference to its tensor."""
    return isinstance(slots[slot], LiveTensor) or not shared(slots, slot)


def _course_of_events(events: Iterable[Event], slots: Slots, fresh: bool) -> HeapCourse | None:
    """Return the allocator moves of a spliced layer as one course; None if a tensor from before the
    layer would stay. `fresh`: gradients are new and stay, otherwise they are added to existing ones
    and freed."""
    steps: list[tuple[int, int, int, str]] = []
    several: dict[int, int] = {}
    taken: set[int] = set()
    left: set[int] = set()
    for what, slot, *details in events:
        if what == TAKE:
            nbytes, name, stream, several[slot], _ = details
            steps.append((slot, nbytes, stream, name))
            taken.add(slot)
            continue
        stays = what == NAME or (what == GRAD and fresh)
        name = details[0] if what == NAME else GRADIENTS if stays else ""
        steps.append((slot, RENAMED if stays else DROPPED, 0, name))
        if slot not in taken:
            (left.add if stays else left.discard)(slot)
    before = {slot: _live(slots[slot]) for slot, *_ in steps if slot not in taken}
    if left:
        return None
    several |= {slot: live.alike for slot, live in before.items()}
    alike = {slot: count for slot, count in several.items() if count > 1}
    return HeapCourse(steps, {slot: live[:2] for slot, live in before.items()}, alike)


def _live(there: Any) -> LiveTensor:
    return there.held if isinstance(there, TensorStorage) else there


def _renamed(heap: TensorHeap, live: Any, name: str) -> Any:
    if isinstance(live, LiveTensor):
        return heap.rename(live, name)
    live.rename(name)
    return live


def _spliced(m: Machine, kind: AlikeLayers, params: Sequence[LeafTensor], x: Tensor) -> Tensor:
    forward: Forward = kind.forward.use()
    slots: Slots = [None] * (forward.slots + 2)
    output = Spliced(kind, params, slots)
    output._again(m, kind.forward, forward.events)
    for number, slot, shape, dtype, is_held in forward.casts:
        storage = TensorStorage.of(m.heap, slots[slot])
        slots[slot] = storage if is_held else None
        m.casts[id(params[number])] = params[number], Computed(shape, dtype, storage)
    storage = TensorStorage.of(m.heap, slots[forward.result])
    slots[forward.result] = storage if forward.keeps_result else None
    if forward.keeps_input:
        slots[INPUT] = x.storage
    m.away += forward.away
    m.most_away = max(m.most_away, m.away)
    out = Computed(forward.shape, forward.dtype, storage)
    if forward.graph:
        record(m, output.back, [x], [], out)
    return out


def _tensor(kind: type[Tensor], shape: Shape, dtype: DType, storage: TensorStorage) -> Tensor:
    out = Computed(shape, dtype, storage)
    return TensorView(out) if kind is TensorView else out

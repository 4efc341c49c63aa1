"""Layers of a transformer that repeat another. Without gradients, what one has done to memory is
repeated for layers like it, and their code is not run.

A layer is like another if its modules have the same classes, settings, shapes and types, and if it
is called with arguments that look the same, its own part of the cache included. It must have run
once by itself. If a layer looks at values, keeps something besides its output and cache, or has
hooks, it is always run.
"""

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import _pop_mode_temporarily

from weighbridge.base.records import dataclass
from weighbridge.machines.allocator import OutOfMemoryError
from weighbridge_lab.trace.patches import Patch
from weighbridge_lab.trace.recorder import Recorder
from weighbridge_lab.trace.shadows import extent, shadow
from weighbridge_lab.trace.tape import Role, Tape

MODULE = "transformers.modeling_layers"
SIMPLE = (int, float, str, bool, type(None), torch.dtype, torch.device)
FEW = 16  # values of a counter that a cache keeps as a tensor
OWN = ("layer_idx", "training", "is_initialized")
State = dict[str, Any]


class NotRepeatedError(Exception):
    """Raised if there is no pattern to repeat."""


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """An allocation of a layer; `module` is the path below the layer."""

    nbytes: int
    op: str
    module: str
    role: Role


@dataclass(frozen=True, slots=True)
class New:
    """A tensor that outlives its layer: the request that made it, and its description."""

    made: int
    looks: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """The memory events of one layer. `events` are positions in `requests` (n + 1; released: -(n +
    1)), or the name of a released tensor in the cache's older state."""

    tape: Tape
    requests: tuple[LayerRequest, ...]
    events: tuple[int | str, ...]
    output: Any
    changes: State


class Repeats:
    """Patterns by the description of a layer and its arguments. `path` returns a module's path."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.path: Callable[[nn.Module], str] = lambda _: ""
        self.patterns: dict[Any, Pattern | None] = {}
        self._looks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
        self._ran: WeakSet[nn.Module] = WeakSet()

    def table(self, module: ModuleType) -> Iterator[Patch]:
        layers: Any = module.GradientCheckpointingLayer
        call = layers.__call__

        def called(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
            run = partial(call, layer, *args, **kwargs)
            if torch.is_grad_enabled() or layer.training:
                return run()
            return self.run(layer, run, args, kwargs)

        yield Patch(layers, "__call__", called)

    def run(self, layer: nn.Module, run: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        state = _state(layer, args, kwargs)
        try:
            if layer not in self._ran:
                raise NotRepeatedError
            key = (self._look(layer), _description((args, kwargs)), _described(state))
        except NotRepeatedError:
            self._ran.add(layer)
            return run()
        if key not in self.patterns:
            return self._recorded(key, layer, run, state)
        pattern = self.patterns[key]
        return run() if pattern is None else self._repeated(pattern, layer, state)

    def _look(self, layer: nn.Module) -> Any:
        """Return a description of what a layer is made of; hooks may be added later."""
        for module in layer.modules():
            if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
                raise NotRepeatedError
        if layer not in self._looks:
            self._looks[layer] = tuple(_made_of(layer))
        return self._looks[layer]

    def _recorded(self, key: Any, layer: nn.Module, run: Callable[[], Any], state: State) -> Any:
        recorder = self.recorder
        looks_before = recorder.looks.asked
        older = {name: recorder.number(t) for name, t in _tensors(state)}
        values = {name: _values(t) for name, t in _tensors(state)}
        before = {name: _weakly_held(value) for name, value in state.items()}
        starts = [len(tape.events) for tape in recorder.tapes]
        out = run()
        active = [n for n, tape in enumerate(recorder.tapes) if len(tape.events) > starts[n]]
        self.patterns[key] = None
        if recorder.looks.asked == looks_before and len(active) == 1:
            tape, prefix = recorder.tapes[active[0]], self.path(layer)
            try:
                reading = _Reading(recorder, tape, starts[active[0]], prefix, older)
                changes = reading.changes(before, state, values)
                self.patterns[key] = reading.pattern(out, changes)
            except NotRepeatedError:
                return out
        return out

    def _repeated(self, pattern: Pattern, layer: nn.Module, state: State) -> Any:
        tape = pattern.tape
        try:
            numbers = self._replayed(pattern, self.path(layer), dict(_tensors(state)))
        except OutOfMemoryError as error:
            self.recorder.refuse(error)

        def put(value: Any) -> Any:
            if not isinstance(value, New):
                return value
            tensor = _made(value.looks)
            self.recorder.adopt(tensor, tape, numbers[value.made])
            return tensor

        for name, value in pattern.changes.items():
            _change(state, name, put(value))
        output = pattern.output
        return tuple(map(put, output)) if isinstance(output, list) else put(output)

    def _replayed(
        self, pattern: Pattern, prefix: str, older: dict[str, torch.Tensor]
    ) -> dict[int, int]:
        """Replay a pattern. Return the storage numbers of what was made, by position; if the card
        is full, nothing stays."""
        tape, numbers = pattern.tape, dict[int, int]()
        try:
            for event in pattern.events:
                if isinstance(event, str):
                    self.recorder.forget(older[event])
                elif event < 0:
                    tape.free(numbers.pop(-event - 1))
                else:
                    request = pattern.requests[event - 1]
                    numbers[event - 1] = tape.malloc(
                        request.nbytes,
                        op=request.op,
                        module=prefix + request.module,
                        role=request.role,
                    )
        except OutOfMemoryError:
            for number in numbers.values():
                tape.free(number)
            raise
        return numbers


class _Reading:
    """A pattern, read from a tape's events since `start`."""

    def __init__(
        self,
        recorder: Recorder,
        tape: Tape,
        start: int,
        prefix: str,
        older: dict[str, int | None],
    ) -> None:
        self.recorder, self.tape, self.prefix = recorder, tape, prefix
        self.slots: dict[int, int] = {}  # numbers of storages -> positions in `requests`
        self.requests: list[LayerRequest] = []
        self.events: list[int | str] = []
        self.kept: set[int] = set()
        names = {number: name for name, number in older.items() if number is not None}
        tape.settle()
        for signed in tape.events[start:]:
            self._event(abs(signed) - 1, signed > 0, names)

    def _event(self, number: int, is_request: bool, names: dict[int, str]) -> None:
        if is_request:
            storage = self.tape.storages[number]
            if not storage.module.startswith(self.prefix):
                raise NotRepeatedError
            self.slots[number] = len(self.requests)
            below = storage.module[len(self.prefix) :]
            self.requests.append(LayerRequest(storage.nbytes, storage.op, below, storage.role))
            self.events.append(len(self.requests))
            self.kept.add(number)
        elif number in self.slots:
            self.events.append(-(self.slots[number] + 1))
            self.kept.discard(number)
        elif number in names:
            self.events.append(names[number])
        else:
            raise NotRepeatedError

    def new(self, tensor: torch.Tensor) -> New:
        number = self.recorder.number(tensor)
        whole = tensor.untyped_storage().nbytes() == extent(tensor) * tensor.element_size()
        if (
            number not in self.kept
            or not whole
            or shadow(tensor) is not None
            or tensor.storage_offset()
        ):
            raise NotRepeatedError
        assert number is not None
        self.kept.discard(number)
        return New(
            self.slots[number], (tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
        )

    def changes(self, before: State, after: State, values: State) -> State:
        changed: State = {}
        if before.keys() != after.keys():
            raise NotRepeatedError
        for name, value in after.items():
            old = before[name]
            if isinstance(value, torch.Tensor):
                if not isinstance(old, ref) or old() is not value:
                    changed[name] = self.new(value)
                elif _values(value) != values[name]:
                    changed[name] = _Values(_values(value))
            elif value is not old and value != old:
                if not isinstance(value, SIMPLE):
                    raise NotRepeatedError
                changed[name] = value
        return changed

    def pattern(self, out: Any, changes: State) -> Pattern:
        if isinstance(out, torch.Tensor):
            output: Any = self.new(out)
        elif isinstance(out, tuple) and all(o is None or isinstance(o, torch.Tensor) for o in out):
            output = [None if o is None else self.new(o) for o in out]
        else:
            raise NotRepeatedError
        if self.kept:  # a workspace, taken for the first time
            raise NotRepeatedError
        return Pattern(self.tape, tuple(self.requests), tuple(self.events), output, changes)


@dataclass(frozen=True, slots=True)
class _Values:
    """The values of a counter, which is overwritten in place."""

    values: Any


def _change(state: State, name: str, value: Any) -> None:
    if isinstance(value, _Values):
        known = shadow(state[name])
        if known is not None and value.values is not None:
            with unset_fake_temporarily():
                known.copy_(torch.tensor(value.values, dtype=known.dtype).reshape(known.shape))
        return
    state[name] = value


def _state(layer: nn.Module, args: Any, kwargs: Any) -> State:
    """Return the layer's part of the cache: the attributes of an object; empty without one."""
    cache = kwargs.get("past_key_values")
    index = _index(layer)
    layers = getattr(cache, "layers", None)
    if not isinstance(layers, list) or index is None or index >= len(layers):
        return {}
    state: State = layers[index].__dict__
    return state


def _index(layer: nn.Module) -> int | None:
    indices = (vars(module).get("layer_idx") for module in layer.modules())
    return next((index for index in indices if isinstance(index, int)), None)


def _made_of(layer: nn.Module) -> Iterator[Any]:
    index = _index(layer)
    for name, module in layer.named_modules():
        config = getattr(module, "config", None)
        kinds = getattr(config, "layer_types", None)
        yield name, type(module), id(config), None if not kinds else kinds[index or 0]
        for key, value in sorted(vars(module).items()):
            if isinstance(value, SIMPLE) and key not in OWN:
                yield key, value
    for name, t in (*layer.named_parameters(), *layer.named_buffers()):
        yield name, type(t), tuple(t.shape), t.stride(), t.dtype, t.device


def _description(value: Any) -> Any:
    """Return an argument's description. Raises NotRepeatedError if it has none."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.stride(), value.dtype, value.device, value.requires_grad
    if isinstance(value, SIMPLE):
        return type(value), value
    if isinstance(value, tuple | list):
        return tuple(map(_description, value))
    if isinstance(value, dict):
        return tuple((name, _description(part)) for name, part in sorted(value.items()))
    if isinstance(getattr(value, "layers", None), list):  # a cache: its part is in the state
        return type(value), len(value.layers)
    raise NotRepeatedError


def _described(state: State) -> Any:
    parts: list[Any] = []
    for name, value in sorted(state.items()):
        if isinstance(value, torch.Tensor):
            parts.append((name, _description(value), value.storage_offset(), _values(value)))
        elif isinstance(value, SIMPLE):
            parts.append((name, value))
        else:
            parts.append((name, type(value)))
    return tuple(parts)


def _weakly_held(value: Any) -> Any:
    """Return a value; for a tensor a weak reference, as the layer may release it."""
    return ref(value) if isinstance(value, torch.Tensor) else value


def _tensors(state: State) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, t) for name, t in state.items() if isinstance(t, FakeTensor))


def _values(tensor: torch.Tensor) -> Any:
    """Return a counter's current values; None for any other tensor."""
    known = shadow(tensor)
    if known is None or known.numel() > FEW:
        return None
    with unset_fake_temporarily():
        return tuple(known.reshape(-1).tolist())


def _made(looks: tuple[Any, ...]) -> torch.Tensor:
    shape, stride, dtype, device = looks
    with _pop_mode_temporarily():  # the recorder
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)

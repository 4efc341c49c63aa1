"""Layers of a step that are alike, so that a few of each kind are walked (splice.py).

Layers are of one kind if their blocks, the names, shapes and dtypes of their parameters, and the
replacements of their linears are equal, and they are called with like arguments. That layers of a
kind allocate alike is not assumed: those that are walked must have.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

from weighbridge.base.dtypes import DType
from weighbridge.base.records import NamedTuple, fields_of
from weighbridge.base.watching import go_on
from weighbridge.models.arch.body import LayerBlock
from weighbridge.training.forward.limits import LAYERS, depth
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module, each_below
from weighbridge.training.forward.splice import SplicedLayer, Splices, UnlikeLayersError
from weighbridge.training.forward.step import BuiltModel
from weighbridge.training.forward.tensors import LeafTensor, Tensor

Facts = Callable[[int], Hashable]  # layer number -> what distinguishes it beyond its block
Whole = Callable[[Tensor], Tensor]
PLAIN = (int, float, str, bool, type(None), type, DType, CodeType)


class LayerPlace(NamedTuple):
    """A layer's kind, and its number in its module list."""

    kind: int
    number: int
    layer: SplicedLayer


class Alike:
    """The layers of one run, by path, and the kinds they belong to."""

    def __init__(self, built: BuiltModel, facts: Facts, splices: Splices) -> None:
        self._splices = splices
        self._left = LAYERS if depth(built.body) > LAYERS else None  # layers that may be walked
        self._places: dict[str, LayerPlace] = {}
        names = _by_layer(built)
        inner = built.body.encoder.blocks if built.body.encoder is not None else ()
        self._find(built.encoder, inner, names, lambda _: None)
        self._find(built.layers, built.body.blocks, names, facts)

    def _find(
        self,
        layers: Sequence[Module],
        blocks: Sequence[LayerBlock],
        names: "Mapping[str, _Names]",
        facts: Facts,
    ) -> None:
        paths = {p.path for p in layers}
        if len(paths) < len(layers) or len(layers) != len(blocks):
            return  # one path is used for several layers
        layers_of: dict[Hashable, list[tuple[int, str]]] = {}
        for i, (p, block) in enumerate(zip(layers, blocks, strict=True)):
            key = block, facts(i), *names[p.path].told
            layers_of.setdefault(key, []).append((i, p.path))
        for alike in layers_of.values():
            kind = len(self._places)
            for place, (i, path) in enumerate(alike):
                layer = SplicedLayer(names[path].params, place, len(alike), i == len(layers) - 1)
                self._places[path] = LayerPlace(kind, i, layer)

    def run(self, m: Machine, p: Module, called: tuple[Any, ...], whole: Whole) -> Whole:
        """Return the function that runs the layer at `p`, traced or spliced. `called`: the layer's
        function, its arguments, and all else that it depends on."""
        go_on()
        place = self._places.get(p.path)
        walked = self._counted(whole)
        if place is None or m.frames or _trained(called):
            return walked

        def run(x: Tensor) -> Tensor:
            modes = (
                m.grad,
                m.training,
                m.adapted,
                m.autocast,
                m.name,
                x.requires_grad,
                x.shape,
                x.dtype,
            )
            arguments = (_Number if arg == place.number else arg for arg in called)
            key = place.kind, *modes, _cast(m, place.layer.params), *map(_description, arguments)
            return self._splices.run(m, key, place.layer, walked, x)

        return run

    def _counted(self, whole: Whole) -> Whole:
        """Return `whole`; in a very deep model the function raises UnlikeLayersError after LAYERS
        calls."""
        if self._left is None:
            return whole

        def walked(x: Tensor) -> Tensor:
            assert self._left is not None
            self._left -= 1
            if self._left < 0:
                raise UnlikeLayersError
            return whole(x)

        return walked


def _cast(m: Machine, params: Sequence[LeafTensor]) -> tuple[int, ...]:
    """Return the indices of parameters that autocast has already cast, in an earlier batch: they
    are not cast again."""
    return tuple(i for i, p in enumerate(params) if id(p) in m.casts) if m.casts else ()


def _trained(values: Iterable[Any]) -> bool:
    """Return whether any of a layer's arguments but its input requires a gradient."""
    for x in values:
        if isinstance(x, Tensor):
            if x.requires_grad:
                return True
        elif isinstance(x, (tuple, list)):
            if _trained(x):
                return True
        elif fields_of(x) and _trained(_parts(x)):
            return True
    return False


class _Names:
    """The parameters of a layer, and the facts that distinguish it from other layers."""

    __slots__ = ("params", "told")

    def __init__(self) -> None:
        self.params: list[LeafTensor] = []
        self.told: list[Hashable] = []


class _Number:
    """Placeholder for a layer's number in its kind's key, so that alike layers have equal keys."""


def _by_layer(built: BuiltModel) -> dict[str, _Names]:
    names = {path: _Names() for path in built.stacks}
    params, wraps = built.params, built.root.wraps
    for path, (name, p) in zip(each_below(params, names), params.items(), strict=True):
        if path:
            there = p.storage is not None
            description = name[len(path) :], p.shape, p.dtype, p.kind, p.trainable, there
            names[path].told.append(description)
            names[path].params.append(p)
    places = each_below((f"{name}." for name in wraps), names)
    for path, (name, wrap) in zip(places, wraps.items(), strict=True):
        if path:
            names[path].told.append((name[len(path) :], _description(wrap)))
    return names


def _description(value: Any) -> Hashable:
    """Return a hashable description of a value, equal for values that are alike."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Tensor):
        return type(value), value.shape, value.dtype, value.requires_grad
    if isinstance(value, (tuple, list)):
        return type(value), *map(_description, value)
    if isinstance(value, dict):
        return tuple((_description(k), _description(v)) for k, v in value.items())
    if isinstance(value, FunctionType):
        return value.__code__, *(
            _description(cell.cell_contents) for cell in value.__closure__ or ()
        )
    return type(value), *(_description(part) for part in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    """Return the fields of a record, or of a linear's replacement."""
    if isinstance(value, (Module, Machine, BuiltModel)):
        return ()
    names = fields_of(value) or getattr(value, "__slots__", ())
    return [getattr(value, name) for name in names]

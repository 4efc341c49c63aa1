"""The parameters of the class that is trained, from those of the checkpoint.

transformers 5 holds the routed experts of a layer in stacks, [E, 2 F, D] and [E, D, F], while
checkpoints have them one by one (core_model_loading.py, conversion_mapping.py); 4.x holds them as
checkpoints do.
"""

from collections.abc import Iterable, Iterator, Mapping

from weighbridge.base.memo import memo
from weighbridge.base.records import frozen_record
from weighbridge.engines.transformers.rules import placement_order
from weighbridge.memory.components.weights import MERGES
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.arch.roles import below_number, expert, role_of
from weighbridge.training.forward.modules import ParameterSpec

LANGUAGE = "language model"


@frozen_record
class Members:
    """The parameters of a class in one version of transformers, before sharding. `placed` are the
    positions of `specs` in the order in which they come to the device; `layers` the layer numbers
    of the language model, by their path."""

    specs: tuple[ParameterSpec, ...]
    placed: tuple[int, ...]
    layers: Mapping[str, tuple[int, ...]]


def members(plan: Blueprint, *, major: int, text_alone: bool = False) -> Members:
    """Return the class's parameters in its order, tied ones once; with `text_alone`, only its
    language model's. They are cached per class."""
    merged = major >= MERGES
    key = ("members", merged, text_alone)
    return memo(plan, key, lambda: _members(plan, merged=merged, text_alone=text_alone))


def _spec(param: Param) -> ParameterSpec:
    return ParameterSpec(param.name, param.shape, param.kind, param.dtype, param.role)


def _members(plan: Blueprint, *, merged: bool, text_alone: bool) -> Members:
    params = plan.counted if merged else plan.params
    untied = (p for p in params if not p.tied and (not text_alone or plan.part(p.name) == LANGUAGE))
    specs = tuple(_stacked(untied) if merged else map(_spec, untied))
    modules = (h.name.rpartition(".")[0] for h in specs)
    return Members(
        specs=specs,
        placed=tuple(placement_order(zip(modules, range(len(specs)), strict=True))),
        layers=_layers(plan, specs),
    )


def _layers(plan: Blueprint, specs: Iterable[ParameterSpec]) -> dict[str, tuple[int, ...]]:
    numbers_by_path: dict[str, set[int]] = {}
    for name in (h.name for h in specs):
        numbered = below_number(name)
        if numbered is not None and plan.part(name) == LANGUAGE:
            numbers_by_path.setdefault(numbered.path, set()).add(numbered.number)
    return {path: tuple(sorted(numbers)) for path, numbers in numbers_by_path.items()}


def _stacked(params: Iterable[Param]) -> Iterator[ParameterSpec]:
    """Yield the parameters with each layer's experts stacked; gate and up are joined. Experts of
    another router group are a separate stack (Ernie 4.5 VL: text_moe and vision_moe, whose experts
    are narrower)."""
    seen: dict[str, list[Param]] = {}
    for p in params:
        one = expert(p.name) if p.kind == "expert" else None
        if one is None or one.word:
            yield from _flush(seen)
            yield _spec(p)
        elif one.number % p.routed[1] == 0:
            beside = f"_{one.number}" if one.number else ""
            seen.setdefault(one.path.removesuffix(".") + beside, []).append(p)
    yield from _flush(seen)


def _flush(seen: dict[str, list[Param]]) -> Iterator[ParameterSpec]:
    for path, first in seen.items():
        count = first[0].routed[1]
        ups = [p for p in first if role_of(p) in ("gate", "up")]
        downs = [p for p in first if p not in ups]
        if ups:
            rows = sum(p.shape[0] for p in ups)
            name = "gate_up_proj" if len(ups) > 1 else "up_proj"
            yield ParameterSpec(f"{path}.{name}", (count, rows, ups[0].shape[1]), "experts")
        for p in downs:
            yield ParameterSpec(f"{path}.down_proj", (count, *p.shape), "experts")
    seen.clear()

"""The parameters of the class that is trained, from those of the checkpoint.

transformers 5 holds the routed experts of a layer in stacks, [E, 2 F, D] and [E, D, F], where
checkpoints have them one by one (core_model_loading.py, conversion_mapping.py); 4.x holds them as
checkpoints do.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from weighbridge.arch.blueprint import Blueprint, Param

EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.(\w+)\.(weight|bias)$")
# What makes logits; of models with towers it lies below the language model
HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output_layer)\.(?:weight|bias)$")
UP = ("gate_proj", "up_proj", "w1", "w3")  # they become one


class Held(NamedTuple):
    """A parameter of the class."""

    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: str = ""  # "" is the model's own


def held(plan: Blueprint, *, major: int) -> list[Held]:
    """In the class's order; ties once."""
    if major < 5:
        return [Held(p.name, p.shape, p.kind, p.dtype) for p in plan.params if not p.tied]
    return list(_stacked(p for p in plan.counted if not p.tied))


def _stacked(params: Iterable[Param]) -> Iterator[Held]:
    """The first expert of a layer stands for all; gate and up are joined."""
    seen: dict[str, list[Param]] = {}
    for p in params:
        found = EXPERT.match(p.name) if p.kind == "expert" else None
        if found is None:
            yield from _flush(seen)
            yield Held(p.name, p.shape, p.kind, p.dtype)
        elif found[2] == "0":
            seen.setdefault(found[1], []).append(p)
    yield from _flush(seen)


def _flush(seen: dict[str, list[Param]]) -> Iterator[Held]:
    for path, first in seen.items():
        count = first[0].routed[1]
        ups = [p for p in first if p.name.rsplit(".", 2)[1] in UP]
        downs = [p for p in first if p not in ups]
        if ups:
            rows = sum(p.shape[0] for p in ups)
            name = "gate_up_proj" if len(ups) > 1 else "up_proj"
            yield Held(f"{path}.{name}", (count, rows, ups[0].shape[1]), "experts")
        for p in downs:
            yield Held(f"{path}.down_proj", (count, *p.shape), "experts")
    seen.clear()

"""The catalogue of accelerators as one asks for it: a pattern, filters and an order."""

from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.accelerators.abilities import abilities
from weighbridge.accelerators.choosing import Wanted, kept, ordered
from weighbridge.accelerators.names import search
from weighbridge.accelerators.parts import Instance, Part
from weighbridge.errors import NotFoundError
from weighbridge.units import parse_size

SCHEMA = "weighbridge.gpus/1"
TYPES = ("bf16", "fp8", "fp4", "int8")
SORTS = ("memory", "name", "bandwidth", "year")


def found(pattern: str, chosen: Mapping[str, Any]) -> tuple[Sequence[Part], Sequence[Instance]]:
    """What is asked for. Raises NotFoundError where that is nothing."""
    least = chosen.get("min_memory")
    wanted = Wanted(
        types=tuple(name for name in TYPES if chosen.get(name)),
        nvlink=bool(chosen.get("nvlink")),
        memory=0 if least is None else parse_size(least),
        vendor=chosen.get("vendor") or "",
    )
    named, machines = search(pattern)
    cards, rented = kept(named, machines, wanted)
    if cards or rented:
        return ordered(cards, chosen.get("sort")), rented
    if not named and not machines:
        raise NotFoundError(
            f"no accelerator matches {pattern!r:.80}; `weighbridge gpus` lists them all, and "
            "--gpu-memory 24GiB takes a size"
        )
    raise NotFoundError("no accelerator that we know of has all that; leave a filter out")


def to_dict(cards: Sequence[Part], machines: Sequence[Instance]) -> dict[str, Any]:
    """The JSON of `weighbridge gpus`: docs/gpus.md."""
    told = [{**p.to_dict(), "computes_in": dict(abilities(p))} for p in cards]
    return {"schema": SCHEMA, "gpus": told, "instances": [i.to_dict() for i in machines]}

"""The catalogue of accelerators with a search pattern, filters and an order.

One filter is by the dtypes that a part multiplies in its own units, which follow from its
architecture:

    NVIDIA   compute capability; CUDA C++ programming guide, "Arithmetic Instructions" and "Compute
             Capabilities" (bfloat16 from 8.0, fp8 from 8.9, fp4 from 10.0, int8 in dot products
             from 6.1 but for 6.2)
    AMD      gfx name; rocm.docs.amd.com/en/latest/reference/precision-support.html
    Apple    bfloat16 from the M2 on; Metal shading language specification 3.1, Metal feature set
             tables
    Intel    XMX of Arc and of the Max series; Gaudi: Intel's white papers of each
    Google   cloud.google.com/tpu/docs/system-architecture-tpu-vm

None is "not known": for makers and parts whose pages were not read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, parse_size
from weighbridge.machines.accelerators.chips import BFLOAT16_SINCE, FLOAT8_SINCE, Version
from weighbridge.machines.accelerators.names import search
from weighbridge.machines.accelerators.parts import Instance, Part, parts

HOME, WORK = USES = ("home", "work")  # in one's own computer; in an office or a cloud
TYPES = ("bf16", "fp8", "fp4", "int8")
FLOAT4_SINCE: Version = (10, 0)
INT8_SINCE: Version = (6, 1)
Known = Mapping[str, bool | None]

UNKNOWN: Known = dict.fromkeys(TYPES)
AMD: Mapping[str, frozenset[str]] = {
    "gfx908": frozenset(("bf16", "int8")),
    "gfx90a": frozenset(("bf16", "int8")),
    "gfx942": frozenset(("bf16", "int8", "fp8")),
    "gfx950": frozenset(("bf16", "int8", "fp8", "fp4")),
    "gfx1030": frozenset(("int8",)),
    "gfx1100": frozenset(("bf16", "int8")),
    "gfx1151": frozenset(("bf16", "int8")),
    "gfx1201": frozenset(("bf16", "int8", "fp8")),
}
_NAMED = """
Apple M1:
Apple M: bf16
Arc: bf16 int8
Data Center GPU Max: bf16 int8
Gaudi (: bf16
Gaudi: bf16 fp8
TPU v2: bf16
TPU v3: bf16
TPU v4: bf16 int8
TPU v5: bf16 int8
TPU v6: bf16 int8
TPU v7: bf16 int8 fp8
"""
NAMED: Mapping[str, frozenset[str]] = {  # beginning of a name -> dtypes
    name: frozenset(types.split())
    for name, _, types in (line.partition(":") for line in _NAMED.strip().splitlines())
}


def abilities(part: Part) -> Known:
    """Return whether `part` computes in each dtype of TYPES; None if unknown."""
    if part.vendor == "NVIDIA":
        return _nvidia(part.capability)
    types = (
        AMD.get(part.compute_capability or "")
        if part.vendor == "AMD"
        else next((types for start, types in NAMED.items() if part.name.startswith(start)), None)
    )
    return UNKNOWN if types is None else {name: name in types for name in TYPES}


def _nvidia(version: Version | None) -> Known:
    if version is None:
        return UNKNOWN
    return {
        "bf16": version >= BFLOAT16_SINCE,
        "fp8": version >= FLOAT8_SINCE,
        "fp4": version >= FLOAT4_SINCE,
        "int8": version >= INT8_SINCE and version != (6, 2),
    }


@frozen_record
class Wanted:
    """Properties that a part must have. An unknown property counts as missing."""

    types: tuple[str, ...] = ()
    nvlink: bool = False
    memory: int = 0  # bytes; a card sold as 24 GB counts as 24 GiB, as people mean it
    vendor: str = ""
    use: str = ""  # one of USES

    def by(self, part: Part) -> bool:
        known = abilities(part)
        return (
            all(known[name] for name in self.types)
            and (part.nvlink is not None or not self.nvlink)
            and part.marketed_gb * GIB >= self.memory
            and self.vendor.lower() in ("", part.vendor.lower())
            and self.use in ("", HOME if part.at_home else WORK)
        )


def filtered(
    named: Sequence[Part], machines: Sequence[Instance], wanted: Wanted
) -> tuple[list[Part], list[Instance]]:
    """Return (GPUs, rented machines) with the properties of `wanted`; a machine has those of its
    GPU. Raises UsageError for a vendor without GPUs in the catalogue."""
    vendors = {part.vendor.lower(): part.vendor for part in parts().values()}
    if wanted.vendor and wanted.vendor.lower() not in vendors:
        known = ", ".join(sorted(vendors.values()))
        raise UsageError(sentence("vendor", name=wanted.vendor, known=known))
    rented = [machine for machine in machines if wanted.by(parts()[machine.part])]
    return [part for part in named if wanted.by(part)], rented


ORDERS: Mapping[str, Callable[[Part], Any]] = {
    "memory": lambda p: -p.room.low,
    "name": lambda p: p.name.lower(),
    "bandwidth": lambda p: -(p.bandwidth[0] if p.bandwidth else 0),
    "year": lambda p: -(p.year or 0),
}


def ordered(cards: Sequence[Part], by: str | None) -> list[Part]:
    """Return the cards by descending `by`, by default the newest first; cards without a known value
    come last."""
    return sorted(cards, key=ORDERS[by or "year"])


SCHEMA = "weighbridge.gpus/1"
SORTS = ("memory", "name", "bandwidth", "year")


def matching(pattern: str, chosen: Mapping[str, Any]) -> tuple[Sequence[Part], Sequence[Instance]]:
    """Return (parts, machines) that match the pattern and filters. Raises NotFoundError if there
    are none."""
    least, use = chosen.get("min_memory"), chosen.get("use") or ""
    if use not in ("", *USES):
        raise UsageError(sentence("choice", flag="use", known=", ".join(USES), value=use))
    wanted = Wanted(
        types=tuple(name for name in TYPES if chosen.get(name)),
        nvlink=bool(chosen.get("nvlink")),
        memory=0 if least is None else parse_size(least),
        vendor=chosen.get("vendor") or "",
        use=use,
    )
    named, machines = search(pattern)
    cards, rented = filtered(named, machines, wanted)
    if cards or rented:
        return ordered(cards, chosen.get("sort")), rented
    if not named and not machines:
        raise NotFoundError(sentence("no_card", pattern=pattern))
    raise NotFoundError(sentence("no_card_filters"))


def to_dict(cards: Sequence[Part], machines: Sequence[Instance]) -> dict[str, Any]:
    """Return the JSON output of `weighbridge gpus`: docs/gpus.md."""
    records = [{**card.to_dict(), "computes_in": dict(abilities(card))} for card in cards]
    return {
        "schema": SCHEMA,
        "gpus": records,
        "instances": [machine.to_dict() for machine in machines],
    }

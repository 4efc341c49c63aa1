"""The catalogue of accelerators as one asks for it: a pattern, filters and an order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.accelerators.abilities import abilities
from weighbridge.accelerators.names import search
from weighbridge.accelerators.parts import Instance, Part, parts
from weighbridge.errors import NotFoundError, UsageError
from weighbridge.units import GIB, parse_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Properties that a part must have. A property that is not known of a part, it does not
    have."""

    types: tuple[str, ...] = ()
    nvlink: bool = False
    memory: int = 0  # bytes; a card that is sold as 24 GB has 24 GiB, as people mean it
    vendor: str = ""

    def by(self, part: Part) -> bool:
        known = abilities(part)
        return (
            all(known[name] for name in self.types)
            and (part.nvlink is not None or not self.nvlink)
            and part.marketed_gb * GIB >= self.memory
            and self.vendor.lower() in ("", part.vendor.lower())
        )


def kept(
    named: Sequence[Part], machines: Sequence[Instance], wanted: Wanted
) -> tuple[list[Part], list[Instance]]:
    """Filter GPUs and rented machines by what is `wanted`: a machine stays if its GPU does. Raises
    UsageError for a vendor that no GPU of the catalogue has."""
    vendors = {part.vendor.lower(): part.vendor for part in parts().values()}
    if wanted.vendor and wanted.vendor.lower() not in vendors:
        known = ", ".join(sorted(vendors.values()))
        raise UsageError(f"--vendor {wanted.vendor!r:.40} is not in the catalogue; known: {known}")
    rented = [machine for machine in machines if wanted.by(parts()[machine.part])]
    return [part for part in named if wanted.by(part)], rented


ORDERS: Mapping[str, Callable[[Part], Any]] = {
    "memory": lambda p: -p.visible.bytes.low,
    "name": lambda p: p.name.lower(),
    "bandwidth": lambda p: -(p.bandwidth[0] if p.bandwidth else 0),
    "year": lambda p: -(p.year or 0),
}


def ordered(cards: Sequence[Part], by: str | None) -> list[Part]:
    """Put the most and the newest first; those of which it is not known come last."""
    return list(cards) if by is None else sorted(cards, key=ORDERS[by])


SCHEMA = "weighbridge.gpus/1"
TYPES = ("bf16", "fp8", "fp4", "int8")
SORTS = ("memory", "name", "bandwidth", "year")


def found(pattern: str, chosen: Mapping[str, Any]) -> tuple[Sequence[Part], Sequence[Instance]]:
    """Find the parts and machines that are asked for. Raises NotFoundError where there is none."""
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
    """Write the JSON of `weighbridge gpus`: docs/gpus.md."""
    records = [{**card.to_dict(), "computes_in": dict(abilities(card))} for card in cards]
    return {
        "schema": SCHEMA,
        "gpus": records,
        "instances": [machine.to_dict() for machine in machines],
    }

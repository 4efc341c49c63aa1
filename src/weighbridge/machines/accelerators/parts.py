"""The accelerator catalogue: a record a part, with the source of every figure.

parts.jsonl holds what of a chip decides kernels (chips.py), and memory that was read somewhere, in
MiB as [low, expected, high]: `read` on such a part, or `assumed` from a sibling on the same board,
of which 0.985 to 1.005 is taken (one part under other drivers reads 0.986 to 1 of today's figure).
What it lacks is an interval of rules.py. Bandwidth has its source; `nvlink` is what the board's
product page says; `year` is unverified, and only puts parts in an order. instances.jsonl holds
machines that clouds rent: a part and a count.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

from weighbridge.base.memory import Basis, Bytes
from weighbridge.base.records import dataclass, frozen_record, replace
from weighbridge.base.units import MIB
from weighbridge.machines.accelerators import rules
from weighbridge.machines.accelerators.chips import ASSUMED, CAPABILITIES, Chip

Link = Literal["switch", "bridge", "direct"]  # between cards of a machine
SoftwareStack = Literal["cuda", "hip", "own"]
# By vendor; "" is a device of a given size
STACKS: Mapping[str, SoftwareStack] = {"NVIDIA": "cuda", "": "cuda", "AMD": "hip"}
# What torch calls them; AMD's are "cuda" to it
TORCH_DEVICES = {
    ("Apple", "soc"): "mps",
    ("Intel", "gpu"): "xpu",
    ("Intel", "hpu"): "hpu",
    ("Huawei", "npu"): "npu",
    ("Google", "tpu"): "xla",
}
HOME = (
    "GeForce",
    "TITAN",
    "Quadro",
    "Radeon",
    "Ryzen",
    "Arc",
)  # how series of such cards are called
PROFILE = re.compile(r"\d+g\.(\d+)gb")


@dataclass(frozen=True, slots=True)
class MemoryFigure:
    """Bytes of memory, and how we know them."""

    bytes: Bytes
    basis: Basis  # "read": printed by a tool on such a part; "assumed": an interval
    source: str

    def to_dict(self) -> dict[str, Any]:
        return {**self.bytes._asdict(), "basis": self.basis, "source": self.source}


@frozen_record
class Part:
    """One device as a program sees it: a card, a die of a card, a chip with its memory."""

    id: str
    name: str
    vendor: str
    kind: str  # gpu, soc and apu (memory shared with the CPU), npu, tpu, hpu
    marketed_gb: int
    also_sold_as: tuple[int, ...]  # GB
    aliases: tuple[str, ...]
    compute_capability: str | None
    total: MemoryFigure  # what the driver shows
    visible: MemoryFigure  # what a process can have at most
    mig: tuple[str, ...]
    slices: Mapping[str, int]  # MiB that were read in a MIG slice
    context: tuple[int, str] | None  # MiB that a CUDA context took, and where it was read
    chip: Chip | None = None  # None where its multiprocessors are not known, as those of a slice
    bandwidth: tuple[float, str] | None = None  # GB/s of its memory, and where that was read
    nvlink: Link | None = None
    year: int | None = None  # of release; unverified

    @property
    def stack(self) -> SoftwareStack:
        """Tell whose libraries torch runs on: ROCm's are made like CUDA's, others are of their
        own."""
        return STACKS.get(self.vendor, "own")

    @property
    def torch_device(self) -> str:
        """Name the device as a line of Python hands it to torch."""
        return TORCH_DEVICES.get((self.vendor, self.kind), "cuda")

    @property
    def at_home(self) -> bool:
        """Tell whether people have it in a computer of their own, not in a data centre; so too of a
        device of which nothing but its size is known."""
        return self.kind == "soc" or not self.vendor or self.name.startswith(HOME)

    @property
    def shares_host(self) -> bool:
        """True where its memory is the machine's own."""
        return self.kind in ("soc", "apu")

    @property
    def pool(self) -> Bytes | None:
        """Return what all processes of its machine and their devices can have together, where they
        share one memory; None where the device has its own."""
        return rules.left(self.total.bytes) if self.shares_host else None

    @property
    def room(self) -> Bytes:
        """Return what a process can have of it when nothing else runs."""
        seen, pool = self.visible.bytes, self.pool
        return seen if pool is None else Bytes(*map(min, seen, pool))

    @property
    def capability(self) -> tuple[int, int] | None:
        """CUDA's compute capability as numbers; None of parts that have none: AMD's architectures
        have names (gfx942)."""
        match = re.fullmatch(r"(\d+)\.(\d+)", self.compute_capability or "")
        return (int(match[1]), int(match[2])) if match else None

    def to_dict(self) -> dict[str, Any]:
        context = None
        if self.context:
            context = {"bytes": self.context[0] * MIB, "source": self.context[1]}
        bandwidth = None
        if self.bandwidth:
            bandwidth = {"gb_per_second": self.bandwidth[0], "source": self.bandwidth[1]}
        return {
            "id": self.id,
            "name": self.name,
            "vendor": self.vendor,
            "kind": self.kind,
            "aliases": list(self.aliases),
            "compute_capability": self.compute_capability,
            "multiprocessors": self.chip.multiprocessors if self.chip else None,
            "marketed_gb": self.marketed_gb,
            "also_sold_as_gb": list(self.also_sold_as),
            "total_bytes": self.total.to_dict(),
            "visible_bytes": self.visible.to_dict(),
            "pool_bytes": (
                None
                if self.pool is None
                else MemoryFigure(self.pool, "assumed", rules.LEFT_SOURCE).to_dict()
            ),
            "mig": list(self.mig),
            "context": context,
            "bandwidth": bandwidth,
            "nvlink": self.nvlink,
            "released": None if self.year is None else {"year": self.year, "basis": "unverified"},
        }


@frozen_record
class Instance:
    """A machine of a cloud: `count` devices of one part."""

    id: str
    name: str
    provider: str
    part: str  # its id
    count: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "provider": self.provider,
            "accelerator": self.part,
            "count": self.count,
        }


@cache
def parts() -> dict[str, Part]:
    """Read every part, by id."""
    return {record["id"]: _part(record) for record in _records("parts.jsonl")}


@cache
def instances() -> dict[str, Instance]:
    """Read every instance, by id."""
    return {record["id"]: Instance(**record) for record in _records("instances.jsonl")}


def _records(name: str) -> Iterator[dict[str, Any]]:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _part(record: Mapping[str, Any]) -> Part:
    rule, gb = record["rule"], record["gb"]
    total = _total(record)
    return Part(
        id=record["id"],
        name=record["name"],
        vendor=record["vendor"],
        kind=record["kind"],
        marketed_gb=gb,
        also_sold_as=tuple(record.get("also_sold_as", ())),
        aliases=tuple(record.get("aliases", ())),
        compute_capability=record.get("compute"),
        total=total,
        visible=_figure(record.get("visible"), rules.visible(rule, total.bytes, gb), rule),
        mig=tuple(record.get("mig", ())),
        slices=record.get("slices", {}),
        context=tuple(record["context"].values()) if "context" in record else None,
        chip=_chip(record),
        bandwidth=tuple(record["bandwidth"].values()) if "bandwidth" in record else None,
        nvlink=record.get("nvlink"),
        year=record.get("year"),
    )


def _chip(record: Mapping[str, Any]) -> Chip | None:
    if "multiprocessors" not in record:
        return None
    major, minor = map(int, record["compute"].split("."))
    return Chip((major, minor), record["multiprocessors"], record.get("l2_mib"))


def chip_of(part: Part | None) -> Chip:
    """Return the chip whose kernels run. An A100's multiprocessors are assumed where the part's are
    not known; no part, or one without a compute capability that CUDA has, is taken for an A100."""
    if part is None or part.capability is None or part.capability not in CAPABILITIES:
        return ASSUMED
    return part.chip or replace(ASSUMED, capability=part.capability)


def _total(record: Mapping[str, Any]) -> MemoryFigure:
    """Return the memory that the driver reports, in bytes: at least what a process was seen to
    have."""
    figure = _figure(
        record.get("driver"), rules.total(record["rule"], record["gb"]), record["rule"]
    )
    if "visible" not in record:
        return figure
    seen = zip(figure.bytes, record["visible"]["mib"], strict=True)
    return replace(figure, bytes=Bytes(*(max(b, mib * MIB) for b, mib in seen)))


def _figure(reading: Mapping[str, Any] | None, interval: Bytes, rule: str) -> MemoryFigure:
    """Return the figure that the record has, else the interval of its rule."""
    if reading is None:
        return MemoryFigure(interval, "assumed", rules.RULES[rule].source)
    low, expected, high = (mib * MIB for mib in reading["mib"])
    return MemoryFigure(Bytes(low, expected, high), reading["basis"], reading["source"])


def slice_of(part: Part, profile: str) -> Part:
    """Make a MIG slice a device of its own; `profile` is one of `part.mig`."""
    match = PROFILE.fullmatch(profile)
    assert match is not None
    gb = int(match[1])
    total = visible = MemoryFigure(rules.total("mig", gb), "assumed", rules.RULES["mig"].source)
    if profile in part.slices:
        seen = part.slices[profile] * MIB
        visible = MemoryFigure(Bytes(seen, seen, seen), "read", "torch in such a slice")
        total = replace(total, bytes=Bytes(seen, max(seen, total.bytes.expected), total.bytes.high))
    return replace(
        part,
        id=f"{part.id}/{profile}",
        name=f"{part.name} {profile}",
        marketed_gb=gb,
        also_sold_as=(),
        aliases=(),
        total=total,
        visible=visible,
        mig=(),
        slices={},
        context=None,
        chip=None,
    )

"""The accelerator catalogue: one record per part, with the source of every figure.

parts.jsonl holds the facts of a chip that decide kernels (chips.py), and memory that was read, in
MiB as [low, expected, high]: `read` on such a part, or `assumed` from a sibling on the same board,
as 0.985 to 1.005 of it (one part under other drivers reads 0.986 to 1 of today's figure). Missing
figures are an interval of rules.py. Bandwidth has its source; `nvlink` is what the board's product
page says; `year` is unverified, and only orders parts. instances.jsonl holds machines that clouds
rent: a part and a count.
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
# By vendor; "" is a device of which only the size is known
STACKS: Mapping[str, SoftwareStack] = {"NVIDIA": "cuda", "": "cuda", "AMD": "hip"}
# torch's names of devices; AMD's are "cuda"
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
)  # series names of consumer cards
PROFILE = re.compile(r"\d+g\.(\d+)gb")


@dataclass(frozen=True, slots=True)
class MemoryFigure:
    """Bytes of memory, and their basis."""

    bytes: Bytes
    basis: Basis  # "read": printed by a tool on such a part; "assumed": an interval
    source: str

    def to_dict(self) -> dict[str, Any]:
        return {**self.bytes._asdict(), "basis": self.basis, "source": self.source}


@frozen_record
class Part:
    """A device as a program sees it: a card, a die of a card, or a chip with its memory."""

    id: str
    name: str
    vendor: str
    kind: str  # gpu, soc and apu (memory shared with the CPU), npu, tpu, hpu
    marketed_gb: int
    also_sold_as: tuple[int, ...]  # GB
    aliases: tuple[str, ...]
    compute_capability: str | None
    total: MemoryFigure  # what the driver shows
    visible: MemoryFigure  # the most that a process can use
    mig: tuple[str, ...]
    slices: Mapping[str, int]  # MIG profile -> MiB that were read in such a slice
    context: tuple[int, str] | None  # MiB that a CUDA context took, and where it was read
    chip: Chip | None = None  # None if its multiprocessors are not known, as for a slice
    bandwidth: tuple[float, str] | None = None  # GB/s of its memory, and the source
    nvlink: Link | None = None
    year: int | None = None  # of release; unverified

    @property
    def stack(self) -> SoftwareStack:
        """Return whose libraries torch uses: ROCm's act as CUDA's, other vendors have their own."""
        return STACKS.get(self.vendor, "own")

    @property
    def torch_device(self) -> str:
        """Return torch's name of the device: "cuda", "mps"."""
        return TORCH_DEVICES.get((self.vendor, self.kind), "cuda")

    @property
    def at_home(self) -> bool:
        """Return whether it is a consumer device, not a data-center one; also True if only its size
        is known."""
        return self.kind == "soc" or not self.vendor or self.name.startswith(HOME)

    @property
    def shares_host(self) -> bool:
        """Return whether its memory is the host's."""
        return self.kind in ("soc", "apu")

    @property
    def pool(self) -> Bytes | None:
        """Return the bytes shared by a machine's processes and devices; None if the device has its
        own memory."""
        return rules.left(self.total.bytes) if self.shares_host else None

    @property
    def room(self) -> Bytes:
        """Return the bytes that a process can use of it if nothing else runs."""
        seen, pool = self.visible.bytes, self.pool
        return seen if pool is None else Bytes(*map(min, seen, pool))

    @property
    def capability(self) -> tuple[int, int] | None:
        """Return CUDA's compute capability as numbers; None for parts without one: AMD's
        architectures have names (gfx942)."""
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
    """Return every part, by id."""
    return {record["id"]: _part(record) for record in _records("parts.jsonl")}


@cache
def instances() -> dict[str, Instance]:
    """Return every instance, by id."""
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
    """Return the chip whose kernels run. Unknown multiprocessors are assumed to be an A100's; no
    part, or one without a known compute capability, counts as an A100."""
    if part is None or part.capability is None or part.capability not in CAPABILITIES:
        return ASSUMED
    return part.chip or replace(ASSUMED, capability=part.capability)


def _total(record: Mapping[str, Any]) -> MemoryFigure:
    """Return the bytes that the driver reports, at least what a process could use."""
    figure = _figure(
        record.get("driver"), rules.total(record["rule"], record["gb"]), record["rule"]
    )
    if "visible" not in record:
        return figure
    seen = zip(figure.bytes, record["visible"]["mib"], strict=True)
    return replace(figure, bytes=Bytes(*(max(b, mib * MIB) for b, mib in seen)))


def _figure(reading: Mapping[str, Any] | None, interval: Bytes, rule: str) -> MemoryFigure:
    """Return the figure in the record, else the interval of its rule."""
    if reading is None:
        return MemoryFigure(interval, "assumed", rules.RULES[rule].source)
    low, expected, high = (mib * MIB for mib in reading["mib"])
    return MemoryFigure(Bytes(low, expected, high), reading["basis"], reading["source"])


def slice_of(part: Part, profile: str) -> Part:
    """Return a MIG slice as its own part; `profile` is one of `part.mig`."""
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

"""nvidia-smi: its table, `-L`, `--query-gpu ... --format=csv` and `-q -x`.

    |   0  NVIDIA H200                    On  |   00000000:10:00.0 Off |                    0 |
    | N/A   28C    P0             77W /  700W |       0MiB / 143771MiB |      0%      Default |
    |                                         |                        |             Disabled |

A row of the table begins with the device's number and ends its first cell with a switch. Lines
below it belong to it: the second cell of one has the memory; a long name continues below.

The table lacks what the driver reserves; the query and the XML have it (`reserved`). With MIG on,
the slices are the devices, not the card. Integrated chips (GB10, Orin) have no memory of their own,
and the driver says "Not Supported" or N/A: that is neither zero nor no GPU.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.records import dataclass, field, replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.detected.device import (
    MOST,
    DetectedDevice,
    ToolOutput,
    named,
    size,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# Chips that use the host's memory. Source: NVIDIA's Jetson and DGX Spark product pages
SHARED = re.compile(r"\b(?:GB10|Thor|Orin|Xavier|Tegra|nvgpu)\b", re.I)
UNTOLD = "seen.driver_untold"
HOST = "seen.host_memory"
LIST = re.compile(r"GPU (\d{1,4}): (.*?) \(UUID: ([\w-]+)\)")
SLICE = re.compile(r"\s+MIG (\S+)\s+Device +(\d{1,4}): \(UUID: ([\w/-]+)\)")
FAILS = (
    ("couldn't communicate with the NVIDIA driver", "seen.no_driver"),
    (
        "Driver/library version mismatch",
        "seen.two_versions",
    ),
    ("No devices were found", "seen.driver_no_gpu"),
    ("Insufficient Permissions", "seen.not_permitted"),
)
VERSIONS = (
    ("driver", re.compile(r"(?:Driver|KMD) Version: *([\d.]+)")),
    ("cuda", re.compile(r"CUDA (?:UMD )?Version: *([\d.]+)")),
    ("tool", re.compile(r"NVIDIA-SMI ([\d.]+)")),
)


# ---- The boxes of the table, which hl-smi and xpu-smi copy

HEAD = re.compile(r" *(\d{1,4}) +(\S.*?) +(On|Off|N/A|WDDM|TCC|MCDM) *")
SLICE_LINE = re.compile(r" *(\d{1,4}) +(\d{1,4}) +(\d{1,4}) +(\d{1,4}) *")  # GPU, GI, CI, number
MEMORY = re.compile(r" *(\d{1,9}) ?MiB */ *(\d{1,9}) ?MiB *")


@dataclass(slots=True)
class DeviceRow:
    """One device's lines in a table."""

    index: int
    name: str
    switch: str
    memory: str = ""  # "" if none of its lines has it
    mode: list[str] = field(default_factory=list)  # the last cell of each line

    @property
    def sizes(self) -> tuple[str, str] | None:
        match = MEMORY.fullmatch(self.memory)
        return (match[1], match[2]) if match else None


def rows(text: str) -> list[DeviceRow]:
    table: list[DeviceRow] = []
    for cells in _cells(text):
        head = HEAD.fullmatch(cells[0])
        if head and len(cells) == 3:
            table.append(DeviceRow(int(head[1]), head[2], head[3]))
        elif not table or len(cells) != 3 or SLICE_LINE.fullmatch(cells[0]):
            if len(cells) != 3 and table:
                break
        else:
            _below(table[-1], cells)
    return table


def _below(row: DeviceRow, cells: list[str]) -> None:
    first, second, last = (cell.strip() for cell in cells)
    row.mode.append(last)
    if not second and first and not row.memory:
        row.name = f"{row.name} {first}"
    elif second and not row.memory:
        row.memory = second


def slices(text: str) -> Iterator[tuple[tuple[int, int, int, int], str, str]]:
    """Yield ((GPU, GPU instance, compute instance, number), MiB used, MiB in total) of each
    slice."""
    for cells in _cells(text):
        numbers = SLICE_LINE.fullmatch(cells[0])
        memory = MEMORY.fullmatch(cells[1]) if len(cells) > 1 else None
        if numbers and memory:
            a, b, c, d = (int(n) for n in numbers.groups())
            yield (a, b, c, d), memory[1], memory[2]


def _cells(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("|") and line.endswith("|") and not set(line) <= set("|=-+ "):
            yield line[1:-1].split("|")


# ---- Reading each output


def failed(text: str) -> ToolOutput:
    """Return the reason why nvidia-smi's output has no table: an error, or nothing printed."""
    if not text.strip():
        return ToolOutput(source="nvidia-smi", why=sentence("seen.silent"))
    key = next((key for wording, key in FAILS if wording in text), "")
    return ToolOutput(
        source="nvidia-smi",
        why=sentence(key) if key else sentence("seen.smi_said", text=named(text)),
    )


def smi(text: str) -> ToolOutput:
    table = rows(text)[:MOST]
    if not table:
        return failed(text)
    versions = {name: m[1] for name, pattern in VERSIONS if (m := pattern.search(text))}
    parts = list(_slices(text, {row.index: row for row in table}))
    cut = {d.memory.split("/")[0] for d in parts}
    cards = [_card(row) for row in table if str(row.index) not in cut]
    return ToolOutput(
        source="nvidia-smi",
        devices=tuple([*cards, *parts][:MOST]),
        versions=versions,
        notes=(*_mismatch_note(versions, cards), *together(parts)),
    )


def _card(row: DeviceRow) -> DetectedDevice:
    sizes, mig, wddm = row.sizes, "Enabled" in row.mode, row.switch in ("WDDM", "TCC", "MCDM")
    used, total = (size(n) for n in sizes) if sizes else (None, None)
    return _judged(
        DetectedDevice(
            name=named(row.name),
            kind="cuda",
            source="nvidia-smi",
            index=row.index,
            total=None if mig else total,
            used=None if mig else used,
            raw={"Memory-Usage": row.memory, **({"driver model": row.switch} if wddm else {})},
            why=sentence("seen.mig_unlisted") if mig else "",
        )
    )


def _slices(text: str, cards: dict[int, DeviceRow]) -> Iterator[DetectedDevice]:
    for (card, instance, _, number), used, total in slices(text):
        parent = cards.get(card)
        yield DetectedDevice(
            name=named(parent.name if parent else "NVIDIA GPU"),
            kind="cuda",
            source="nvidia-smi",
            index=number,
            total=size(total),
            used=size(used),
            reserved=0,
            mig="?",
            memory=f"{card}/{instance}",
            raw={"Shared Memory-Usage": f"{used}MiB / {total}MiB"},
        )


def _judged(device: DetectedDevice) -> DetectedDevice:
    """Return the device, with the reason why its memory is unknown, if it is."""
    shared = bool(SHARED.search(device.name))
    if device.total is not None or device.why:
        return replace(device, unified=shared)
    return replace(device, unified=shared, why=sentence(HOST if shared else UNTOLD))


def _mismatch_note(versions: dict[str, str], cards: Sequence[DetectedDevice]) -> Iterator[str]:
    """Yield a note if memory is unknown because tool and driver have different releases."""
    tool, driver = (versions.get(name, "").split(".")[0] for name in ("tool", "driver"))
    unknown = any(d.total is None and not d.unified for d in cards)
    if unknown and driver and tool != driver:
        yield sentence("two_releases", tool=versions["tool"], driver=versions["driver"])


def together(parts: Sequence[DetectedDevice]) -> Iterator[str]:
    """Yield a note on each group of slices that share one memory."""
    names = [d.memory for d in parts]
    for name in dict.fromkeys(n for n in names if n and names.count(n) > 1):
        yield sentence("slices_share", count=names.count(name), name=name)


def listed(text: str) -> ToolOutput:
    """Return the devices in the output of `nvidia-smi -L`: names and slices, without sizes."""
    cards: list[DetectedDevice] = []
    card: re.Match[str] | None = None
    parts: dict[str, list[DetectedDevice]] = {}
    for line in text.splitlines()[: 4 * MOST]:
        head, inner = LIST.match(line), SLICE.match(line)
        if head:
            card = head
            cards.append(_named(head))
        elif inner and card:
            parts.setdefault(card[1], []).append(_named(card, inner))
    whole = [d for d in cards if str(d.index) not in parts]
    devices = (*whole, *(d for some in parts.values() for d in some))
    return ToolOutput(source="nvidia-smi -L", devices=devices[:MOST])


def _named(card: re.Match[str], inner: re.Match[str] | None = None) -> DetectedDevice:
    return DetectedDevice(
        name=named(card[2]),
        kind="cuda",
        source="nvidia-smi -L",
        index=int(inner[2] if inner else card[1]),
        uuid=inner[3] if inner else card[3],
        mig=named(inner[1]) if inner else "",
        memory=card[1] if inner else "",
        unified=bool(SHARED.search(card[2])),
        why=sentence("seen.list_no_sizes"),
    )


FIGURES = ("total", "reserved", "used", "free")
BARE = ("index", "name", "memory.total", "memory.used", "memory.free")


def queried(text: str) -> ToolOutput:
    """Return the devices in the output of `nvidia-smi --query-gpu`. Without a header, the columns
    are those of BARE."""
    lines = [[cell.strip() for cell in line.split(",")] for line in text.strip().splitlines()]
    if not lines:
        return failed(text)
    head = BARE if lines[0][0].isdigit() else tuple(c.split(" [")[0] for c in lines.pop(0))
    records = [dict(zip(head, line, strict=False)) for line in lines[:MOST]]
    driver = records[0].get("driver_version") if records else None
    versions = {"driver": named(driver)} if driver else {}
    return ToolOutput(
        source="nvidia-smi --query-gpu",
        devices=tuple(_queried(i, fields) for i, fields in enumerate(records)),
        versions=versions,
    )


def _queried(index: int, fields: dict[str, str]) -> DetectedDevice:
    mig = fields.get("mig.mode.current") == "Enabled"
    number = fields.get("index", "")
    figures = [None if mig else size(fields.get(f"memory.{name}")) for name in FIGURES]
    total, reserved, used, free = figures
    none = sentence("seen.whole_card", size=named(fields.get("memory.total", "the total")))
    return _judged(
        DetectedDevice(
            name=named(fields.get("name", "NVIDIA GPU")),
            kind="cuda",
            source="nvidia-smi --query-gpu",
            index=int(number) if number.isdigit() and len(number) < 5 else index,
            uuid=fields.get("uuid", ""),
            capability=fields.get("compute_cap"),
            raw={k: named(v) for k, v in fields.items() if k.startswith("memory") or "model" in k},
            why=none if mig else "",
            total=total,
            reserved=reserved,
            used=used,
            free=free,
        )
    )


def xml(text: str) -> ToolOutput:
    """Return the devices in the output of `nvidia-smi -q -x`."""
    root = _root(text)
    if root is None:
        return ToolOutput(source="nvidia-smi -q -x", why=sentence("seen.cut_xml"))
    devices: list[DetectedDevice] = []
    for gpu in root.iter("gpu"):
        devices += _devices_of_xml(gpu, len(devices))
    asked = (("driver", "driver_version"), ("cuda", "cuda_version"))
    attached = root.findtext("attached_gpus", "")
    return ToolOutput(
        source="nvidia-smi -q -x",
        devices=tuple(devices[:MOST]),
        versions={name: named(root.findtext(tag, "")) for name, tag in asked if root.findtext(tag)},
        why="" if devices else sentence("seen.driver_no_gpu"),
        notes=(*_fewer(root, attached), *together(devices)),
    )


def _fewer(root: "Element", attached: str) -> Iterator[str]:
    here = len(root.findall("gpu"))
    if attached.isdigit() and int(attached[:6]) != here:
        yield sentence("attached", count=int(attached[:6]), here=here)


def _root(text: str) -> "Element | None":
    """Return an XML text's root; None if it is broken, or declares entities, which can grow without
    end."""
    from xml.etree import ElementTree

    if "<!ENTITY" in text:
        return None
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None


def _devices_of_xml(gpu: "Element", index: int) -> Iterator[DetectedDevice]:
    parts = gpu.findall("mig_devices/mig_device")
    number = gpu.findtext("minor_number", "")
    card = int(number) if number.isdigit() and len(number) < 5 else index
    for part in parts:
        inner = part.findtext("index", "0")
        instance = named(part.findtext("gpu_instance_id", "?"))
        device = _told(part, gpu, int(inner) if inner.isdigit() and len(inner) < 5 else index)
        yield replace(device, mig="?", memory=f"{card}/{instance}")
    if not parts:
        mig = gpu.findtext("mig_mode/current_mig") == "Enabled"
        device = _told(gpu, gpu, card)
        none = sentence("seen.mig_no_slice")
        yield replace(device, total=None, free=None, why=none) if mig else device


def _told(of: "Element", gpu: "Element", index: int) -> DetectedDevice:
    memory = {name: of.findtext(f"fb_memory_usage/{name}", "") for name in FIGURES}
    total, reserved, used, free = map(size, memory.values())
    return _judged(
        DetectedDevice(
            name=named(gpu.findtext("product_name", "NVIDIA GPU")),
            kind="cuda",
            source="nvidia-smi -q -x",
            index=index,
            uuid=(of.findtext("uuid") or ""),
            raw={name: named(text) for name, text in memory.items() if text},
            total=total,
            reserved=reserved,
            used=used,
            free=free,
        )
    )


def profiled(seen: ToolOutput, names: ToolOutput) -> ToolOutput:
    """Return `seen` with the slices' profiles and ids from `nvidia-smi -L`, which has the same
    order."""
    known = [d for d in names.devices if d.mig]
    parts = [d for d in seen.devices if d.mig]
    if len(known) != len(parts):
        return seen
    profiles = {id(d): k for d, k in zip(parts, known, strict=True)}
    devices = (
        replace(d, mig=profiles[id(d)].mig, uuid=profiles[id(d)].uuid) if id(d) in profiles else d
        for d in seen.devices
    )
    return replace(seen, devices=tuple(devices))

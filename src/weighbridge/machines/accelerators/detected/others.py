"""Intel's xpu-smi, Huawei's npu-smi, Habana's hl-smi, Google's tpu-info, torch itself, and what
Windows reports of any card: dxdiag, wmic, PowerShell. nvidia-smi is better for NVIDIA's cards.

Win32_VideoController counts AdapterRAM in 32 bits: a card with 4 GiB or more shows a little less
than 4 GiB. The registry's HardwareInformation.qwMemorySize has 64. dxdiag's Display Memory adds
memory that is shared with the system; Dedicated Memory is the card's own.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.detected import nvidia
from weighbridge.machines.accelerators.detected.device import (
    MOST,
    SMALLEST,
    DetectedDevice,
    DeviceApi,
    ToolOutput,
    exact,
    named,
    size,
)

GAUDI = {"HL-205": "Gaudi (HL-205)", "HL-225": "Gaudi 2 (HL-225)", "HL-325": "Gaudi 3 (HL-325L)"}


def xpu_discovery(text: str) -> ToolOutput:
    """Return the devices in `xpu-smi discovery -d N`. Max Mem Alloc Size is the limit of one
    allocation."""
    devices = []
    for index, block in enumerate(re.split(r"(?=Device Name:)", text)[1 : MOST + 1]):
        name = re.match(r"Device Name: *([^|\n]+)", block)
        sizes = re.search(r"Memory Physical Size: *([\d.]+ [KMG]iB)", block)
        total = size(sizes[1]) if sizes else None
        why = "" if total else sentence("seen.xpu_memory")
        raw = {"Memory Physical Size": sizes[1]} if sizes else {}
        shown = name[1] if name else "Intel GPU"
        devices.append(_xpu(index, shown, "xpu-smi discovery", total=total, why=why, raw=raw))
    return ToolOutput(source="xpu-smi discovery", devices=tuple(devices))


def _xpu(
    index: int, name: str, source: str, *, total: int | None, why: str = "", raw: dict[str, str]
) -> DetectedDevice:
    return DetectedDevice(
        name=named(name), kind="xpu", source=source, index=index, total=total, why=why, raw=raw
    )


def xpu_dump(text: str) -> ToolOutput:
    """Return the devices in `xpu-smi discovery --dump 1,2,16`: lines of CSV."""
    import csv

    rows = csv.reader(text.splitlines()[: MOST + 1])
    devices = [
        _xpu(
            int(row[0]),
            row[1],
            "xpu-smi discovery --dump",
            total=size(row[2]),
            raw={"memory": row[2]},
        )
        for row in rows
        if len(row) == 3 and re.fullmatch(r"\d{1,4}", row[0])
    ]
    why = "" if devices else sentence("seen.xpu_no_gpu")
    return ToolOutput(source="xpu-smi discovery --dump", devices=tuple(devices), why=why)


def xpu_table(text: str) -> ToolOutput:
    return _boxes(text, "xpu-smi", "xpu")


def hl_smi(text: str) -> ToolOutput:
    return _boxes(text, "hl-smi", "hpu")


def _boxes(text: str, source: str, kind: DeviceApi) -> ToolOutput:
    boxes = []
    for row in nvidia.rows(text)[:MOST]:
        used, total = (size(n) for n in row.sizes) if row.sizes else (None, None)
        boxes.append(
            DetectedDevice(
                name=GAUDI.get(row.name[:6], named(row.name)),
                kind=kind,
                source=source,
                index=row.index,
                total=total,
                used=used,
                free=None if total is None or used is None else max(0, total - used),
                why="" if total else sentence("seen.no_memory"),
                raw={"Memory-Usage": named(row.memory)},
            )
        )
    driver = re.search(r"Driver(?: Version)?: *([\w.-]+)", text)
    why = "" if boxes else sentence("seen.no_row", source=source)
    versions = {"driver": named(driver[1])} if driver else {}
    return ToolOutput(source=source, devices=tuple(boxes), versions=versions, why=why)


NPU = re.compile(
    r"^\| *(\d{1,3}) +(\S+) *\|[^\n]*\n"
    r"\| *(\d{1,3})(?: +\d+)? *\|[^|\n]*\|[^\n]*?(\d+) */ *(\d+) *\|",
    re.M,
)


def npu_smi(text: str) -> ToolOutput:
    """Return the chips in npu-smi's table: two lines per chip, one or two chips per card. HBM-Usage
    is the last pair of figures."""
    rows = NPU.findall(text)[:MOST]
    devices = tuple(
        DetectedDevice(
            name=named(name if name.startswith("Ascend") else f"Ascend {name}"),
            kind="npu",
            source="npu-smi",
            index=index,
            total=size(total),
            used=size(used),
            free=max(0, (size(total) or 0) - (size(used) or 0)),
            raw={"HBM-Usage(MB)": f"{used} / {total}", "card": card, "chip": chip},
        )
        for index, (card, name, chip, used, total) in enumerate(rows)
    )
    version = re.search(r"npu-smi ([\d.]+)", text)
    cards = len({row[0] for row in rows})
    return ToolOutput(
        source="npu-smi",
        devices=devices,
        versions={"driver": version[1]} if version else {},
        why="" if devices else sentence("seen.npu_no_chip"),
        notes=(f"{len(devices)} chips on {cards} cards",) if cards != len(devices) else (),
    )


HBM = re.compile(r"^\| *(\d{1,4}) *\| *([\d.]+ GiB) / ([\d.]+ GiB) *\|", re.M)


def tpu_info(text: str) -> ToolOutput:
    kind = re.search(r"Accelerator type: *(\S+)", text) or re.search(r"\| TPU (v\w+) chip", text)
    name = f"TPU {kind[1]}" if kind else "TPU"
    devices = []
    for number, used, total in HBM.findall(text)[:MOST]:
        most, has = size(total), size(used)
        free = max(0, (most or 0) - (has or 0))
        raw = {"HBM Usage": f"{used} / {total}"}
        devices.append(
            DetectedDevice(
                name=named(name),
                kind="tpu",
                source="tpu-info",
                index=int(number),
                total=most,
                used=has,
                free=free,
                raw=raw,
            )
        )
    version = re.search(r"Libtpu version: *(\S+)", text)
    why = "" if devices else sentence("seen.tpu_idle")
    return ToolOutput(
        source="tpu-info",
        devices=tuple(devices),
        why=why,
        versions={"libtpu": named(version[1])} if version else {},
    )


def torch_properties(text: str) -> ToolOutput:
    """Return the device in a printed `_XpuDeviceProperties(...)` or
    `_CudaDeviceProperties(...)`."""
    match = re.search(r"name='([^']{1,200})'.*?total_memory=(\d+ ?[KMG]i?B)", text, re.S)
    if not match:
        return ToolOutput(source="torch", why=sentence("seen.cut_properties"))
    kind: DeviceApi = "xpu" if "Xpu" in text else "cuda"
    device = DetectedDevice(
        name=named(match[1]),
        kind=kind,
        source="torch",
        total=size(match[2]),
        raw={"total_memory": match[2]},
    )
    return ToolOutput(source="torch", devices=(device,))


def mem_get_info(
    pairs: Sequence[tuple[int, int]],
    *,
    names: Sequence[str] = (),
    kind: DeviceApi = "cuda",
    budgeted: bool = False,
) -> ToolOutput:
    """Return the devices of `torch.cuda.mem_get_info` pairs, (free, total) in bytes. The total is
    what CUDA can allocate of the card. `budgeted`: free is only this process's budget, as HIP on
    Windows reports it."""
    devices = tuple(
        DetectedDevice(
            name=named(names[i]) if i < len(names) else "GPU",
            kind=kind,
            source="torch.cuda.mem_get_info",
            index=i,
            total=total,
            reserved=0,
            used=None if budgeted else max(0, total - free),
            free=None if budgeted else free,
            raw={"mem_get_info": f"({free}, {total})"},
        )
        for i, (free, total) in enumerate(pairs[:MOST])
    )
    return ToolOutput(source="torch.cuda.mem_get_info", devices=devices)


def pairs(text: str) -> ToolOutput:
    """Return the devices in a printed list of (free, total) pairs in bytes."""
    figures = re.findall(r"\((\d{1,15}), (\d{1,15})\)", text)
    return mem_get_info([(exact(a) or 0, exact(b) or 0) for a, b in figures])


# ---- Windows

CEILING = (1 << 32) - (1 << 20)  # shown for any larger memory: from the outputs in our tests
OVER = "seen.adapter_ram"
BESIDE = re.compile(
    r"\b(?:U?HD|Iris)\b.*\bGraphics\b|Radeon\(TM\) Graphics$|Vega \d+ Graphics", re.I
)
# Run without nvidia-smi; prints one record or a list
REGISTRY = (
    "Get-ItemProperty 'HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Class\\"
    "{4d36e968-e325-11ce-bfc1-08002be10318}\\0*' -ErrorAction SilentlyContinue | "
    "Select-Object DriverDesc, DriverVersion, 'HardwareInformation.qwMemorySize' | ConvertTo-Json"
)


def _stack(name: str) -> DeviceApi:
    """Return the software stack ("cuda", ...) that runs on a card of that name."""
    makers: tuple[tuple[str, DeviceApi], ...] = (
        ("nvidia", "cuda"),
        ("radeon", "rocm"),
        ("amd", "rocm"),
    )
    makers += (("intel", "xpu"), ("geforce", "cuda"), ("quadro", "cuda"))
    return next((k for word, k in makers if word in name.lower()), "other")


def _card(index: int, name: str, source: str, total: int | None, **more: Any) -> DetectedDevice:
    small = total is not None and total < SMALLEST
    return DetectedDevice(
        name=named(name),
        kind=_stack(name),
        source=source,
        index=index,
        total=total,
        integrated=small or bool(BESIDE.search(name)),
        **more,
    )


def dxdiag(text: str) -> ToolOutput:
    blocks = re.split(r"(?=Card name:)", text)[1 : MOST + 1]
    devices = []
    for index, block in enumerate(blocks):
        fields = dict(re.findall(r"^\s*([A-Z][\w ]+): *(\S.*)$", block, re.M))
        dedicated = fields.get("Dedicated Memory", "")
        total = size(dedicated)
        raw = {k: named(fields[k]) for k in ("Display Memory", "Dedicated Memory") if k in fields}
        why = "" if total is not None else sentence("seen.dxdiag")
        devices.append(_card(index, fields["Card name"], "dxdiag", total, raw=raw, why=why))
    return ToolOutput(source="dxdiag", devices=tuple(devices))


def wmic(text: str) -> ToolOutput:
    """Return the devices in wmic's columns: `AdapterRAM  DeviceID  Name  VideoArchitecture`."""
    lines = [line for line in text.splitlines() if line.strip()][: MOST + 1]
    head = [(m[0], m.start()) for m in re.finditer(r"\S+", lines[0])]
    devices = []
    for index, line in enumerate(lines[1:]):
        ends = [start for _, start in head[1:]] + [len(line)]
        fields = {
            name.lower(): line[start:end].strip()
            for (name, start), end in zip(head, ends, strict=True)
        }
        devices.append(_adapter(index, fields, "wmic"))
    return ToolOutput(source="wmic", devices=tuple(devices))


def adapter_ram(text: str) -> ToolOutput:
    """Return the devices in `Select AdapterRAM`: sizes without names."""
    sizes = re.findall(r"^\s*(\d{4,20})\s*$", text, re.M)[:MOST]
    devices = (_adapter(i, {"adapterram": n}, "Win32_VideoController") for i, n in enumerate(sizes))
    return ToolOutput(source="Win32_VideoController", devices=tuple(devices))


def _adapter(index: int, fields: Mapping[str, str], source: str) -> DetectedDevice:
    nbytes = exact(fields.get("adapterram"))
    over = nbytes is None or nbytes >= CEILING
    why = "" if not over else sentence(OVER) if nbytes else sentence("seen.no_adapter_ram")
    name = fields.get("name") or "a graphics adapter"
    raw = {"AdapterRAM": named(fields.get("adapterram", ""))}
    return _card(index, name, source, None if over else nbytes, raw=raw, why=why)


def registry(text: str) -> ToolOutput:
    """Return the devices in the table that the command REGISTRY prints."""
    source = "registry (qwMemorySize)"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ToolOutput(source=source, why=sentence("seen.powershell"))
    records = document if isinstance(document, list) else [document]
    return ToolOutput(source=source, devices=tuple(_registered(records[:MOST], source)))


def _registered(records: list[Any], source: str) -> Iterator[DetectedDevice]:
    for one in records:
        name = one.get("DriverDesc") if isinstance(one, dict) else None
        if not name:
            continue
        nbytes = exact(one.get("HardwareInformation.qwMemorySize"))
        why = "" if nbytes is not None else sentence("seen.registry")
        yield _card(0, str(name), source, nbytes, why=why)

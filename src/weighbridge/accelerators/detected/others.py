"""Intel's xpu-smi, Huawei's npu-smi, Habana's hl-smi, Google's tpu-info, and torch itself."""

import re
from collections.abc import Sequence

from weighbridge.accelerators.detected import nvidia
from weighbridge.accelerators.detected.device import (
    MOST,
    DetectedDevice,
    DeviceApi,
    ToolOutput,
    exact,
    named,
    size,
)

GAUDI = {"HL-205": "Gaudi (HL-205)", "HL-225": "Gaudi 2 (HL-225)", "HL-325": "Gaudi 3 (HL-325L)"}


def xpu_discovery(text: str) -> ToolOutput:
    """Read `xpu-smi discovery -d N`. Max Mem Alloc Size is the limit of one allocation."""
    found = []
    for index, block in enumerate(re.split(r"(?=Device Name:)", text)[1 : MOST + 1]):
        name = re.match(r"Device Name: *([^|\n]+)", block)
        sizes = re.search(r"Memory Physical Size: *([\d.]+ [KMG]iB)", block)
        total = size(sizes[1]) if sizes else None
        why = "" if total else "this view tells no memory: xpu-smi discovery -d 0"
        raw = {"Memory Physical Size": sizes[1]} if sizes else {}
        shown = name[1] if name else "Intel GPU"
        found.append(_xpu(index, shown, "xpu-smi discovery", total=total, why=why, raw=raw))
    return ToolOutput(source="xpu-smi discovery", devices=tuple(found))


def _xpu(
    index: int, name: str, source: str, *, total: int | None, why: str = "", raw: dict[str, str]
) -> DetectedDevice:
    return DetectedDevice(
        name=named(name), kind="xpu", source=source, index=index, total=total, why=why, raw=raw
    )


def xpu_dump(text: str) -> ToolOutput:
    """Read `xpu-smi discovery --dump 1,2,16`: lines of CSV."""
    import csv

    rows = csv.reader(text.splitlines()[: MOST + 1])
    found = [
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
    why = "" if found else "xpu-smi has no GPU"
    return ToolOutput(source="xpu-smi discovery --dump", devices=tuple(found), why=why)


def xpu_table(text: str) -> ToolOutput:
    return _boxes(text, "xpu-smi", "xpu")


def hl_smi(text: str) -> ToolOutput:
    return _boxes(text, "hl-smi", "hpu")


def _boxes(text: str, source: str, kind: DeviceApi) -> ToolOutput:
    found = []
    for row in nvidia.rows(text)[:MOST]:
        used, total = (size(n) for n in row.sizes) if row.sizes else (None, None)
        found.append(
            DetectedDevice(
                name=GAUDI.get(row.name[:6], named(row.name)),
                kind=kind,
                source=source,
                index=row.index,
                total=total,
                used=used,
                free=None if total is None or used is None else max(0, total - used),
                why="" if total else "it tells no memory of it",
                raw={"Memory-Usage": named(row.memory)},
            )
        )
    driver = re.search(r"Driver(?: Version)?: *([\w.-]+)", text)
    why = "" if found else f"this view of {source} has no row of a device"
    versions = {"driver": named(driver[1])} if driver else {}
    return ToolOutput(source=source, devices=tuple(found), versions=versions, why=why)


NPU = re.compile(
    r"^\| *(\d{1,3}) +(\S+) *\|[^\n]*\n"
    r"\| *(\d{1,3})(?: +\d+)? *\|[^|\n]*\|[^\n]*?(\d+) */ *(\d+) *\|",
    re.M,
)


def npu_smi(text: str) -> ToolOutput:
    """Read two lines for each chip; a card has one or two. HBM-Usage is the last pair of
    figures."""
    rows = NPU.findall(text)[:MOST]
    found = tuple(
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
        devices=found,
        versions={"driver": version[1]} if version else {},
        why="" if found else "npu-smi shows no chip",
        notes=(f"{len(found)} chips on {cards} cards",) if cards != len(found) else (),
    )


HBM = re.compile(r"^\| *(\d{1,4}) *\| *([\d.]+ GiB) / ([\d.]+ GiB) *\|", re.M)


def tpu_info(text: str) -> ToolOutput:
    kind = re.search(r"Accelerator type: *(\S+)", text) or re.search(r"\| TPU (v\w+) chip", text)
    name = f"TPU {kind[1]}" if kind else "TPU"
    found = []
    for number, used, total in HBM.findall(text)[:MOST]:
        most, has = size(total), size(used)
        free = max(0, (most or 0) - (has or 0))
        raw = {"HBM Usage": f"{used} / {total}"}
        found.append(
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
    why = "" if found else "tpu-info tells memory only while a program runs on the chips"
    return ToolOutput(
        source="tpu-info",
        devices=tuple(found),
        why=why,
        versions={"libtpu": named(version[1])} if version else {},
    )


def torch_properties(text: str) -> ToolOutput:
    """Read a printed `_XpuDeviceProperties(...)` or `_CudaDeviceProperties(...)`."""
    found = re.search(r"name='([^']{1,200})'.*?total_memory=(\d+ ?[KMG]i?B)", text, re.S)
    if not found:
        return ToolOutput(source="torch", why="the properties are cut before total_memory")
    kind: DeviceApi = "xpu" if "Xpu" in text else "cuda"
    device = DetectedDevice(
        name=named(found[1]),
        kind=kind,
        source="torch",
        total=size(found[2]),
        raw={"total_memory": found[2]},
    )
    return ToolOutput(source="torch", devices=(device,))


def mem_get_info(
    pairs: Sequence[tuple[int, int]],
    *,
    names: Sequence[str] = (),
    kind: DeviceApi = "cuda",
    budgeted: bool = False,
) -> ToolOutput:
    """Turn pairs of `torch.cuda.mem_get_info`, (free, total) in bytes, into devices. The total is
    what CUDA gives out of the card. `budgeted`: HIP on Windows tells a process its own budget as
    free, whatever others hold."""
    found = tuple(
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
    return ToolOutput(source="torch.cuda.mem_get_info", devices=found)


def pairs(text: str) -> ToolOutput:
    """Read a printed list of (free, total) pairs in bytes."""
    found = re.findall(r"\((\d{1,15}), (\d{1,15})\)", text)
    return mem_get_info([(exact(a) or 0, exact(b) or 0) for a, b in found])

"""Windows: dxdiag, wmic, PowerShell. NVIDIA's cards are told better by nvidia-smi.

Win32_VideoController counts AdapterRAM in 32 bits: a card with 4 GiB or more shows a little less
than 4 GiB. The registry's HardwareInformation.qwMemorySize has 64. dxdiag's Display Memory adds
memory that is shared with the system; Dedicated Memory is the card's own.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.accelerators.detected.device import (
    MOST,
    SMALLEST,
    DetectedDevice,
    DeviceApi,
    ToolOutput,
    exact,
    named,
    size,
)

CEILING = (1 << 32) - (1 << 20)  # what is printed of more than it: from the outputs in our tests
OVER = "AdapterRAM ends at 4 GiB (32 bits): the card has that or more"
BESIDE = re.compile(
    r"\b(?:U?HD|Iris)\b.*\bGraphics\b|Radeon\(TM\) Graphics$|Vega \d+ Graphics", re.I
)
# Asked where nvidia-smi is not there; prints one record or a list
REGISTRY = (
    "Get-ItemProperty 'HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Class\\"
    "{4d36e968-e325-11ce-bfc1-08002be10318}\\0*' -ErrorAction SilentlyContinue | "
    "Select-Object DriverDesc, DriverVersion, 'HardwareInformation.qwMemorySize' | ConvertTo-Json"
)


def kind(name: str) -> DeviceApi:
    """Tell which maker's stack runs on a card of that name."""
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
        kind=kind(name),
        source=source,
        index=index,
        total=total,
        integrated=small or bool(BESIDE.search(name)),
        **more,
    )


def dxdiag(text: str) -> ToolOutput:
    blocks = re.split(r"(?=Card name:)", text)[1 : MOST + 1]
    found = []
    for index, block in enumerate(blocks):
        told = dict(re.findall(r"^\s*([A-Z][\w ]+): *(\S.*)$", block, re.M))
        own = told.get("Dedicated Memory", "")
        total = size(own)
        raw = {k: named(told[k]) for k in ("Display Memory", "Dedicated Memory") if k in told}
        why = "" if total is not None else "dxdiag tells no Dedicated Memory"
        found.append(_card(index, told["Card name"], "dxdiag", total, raw=raw, why=why))
    return ToolOutput(source="dxdiag", devices=tuple(found))


def wmic(text: str) -> ToolOutput:
    """Read columns under a header: `AdapterRAM  DeviceID  Name  VideoArchitecture`."""
    lines = [line for line in text.splitlines() if line.strip()][: MOST + 1]
    head = [(m[0], m.start()) for m in re.finditer(r"\S+", lines[0])]
    found = []
    for index, line in enumerate(lines[1:]):
        ends = [start for _, start in head[1:]] + [len(line)]
        told = {
            name.lower(): line[start:end].strip()
            for (name, start), end in zip(head, ends, strict=True)
        }
        found.append(_adapter(index, told, "wmic"))
    return ToolOutput(source="wmic", devices=tuple(found))


def adapter_ram(text: str) -> ToolOutput:
    """Read `Select AdapterRAM`: sizes without names."""
    found = re.findall(r"^\s*(\d{4,20})\s*$", text, re.M)[:MOST]
    devices = (_adapter(i, {"adapterram": n}, "Win32_VideoController") for i, n in enumerate(found))
    return ToolOutput(source="Win32_VideoController", devices=tuple(devices))


def _adapter(index: int, told: Mapping[str, str], source: str) -> DetectedDevice:
    own = exact(told.get("adapterram"))
    over = own is None or own >= CEILING
    why = "" if not over else OVER if own else "AdapterRAM is not told"
    name = told.get("name") or "a graphics adapter"
    raw = {"AdapterRAM": named(told.get("adapterram", ""))}
    return _card(index, name, source, None if over else own, raw=raw, why=why)


def registry(text: str) -> ToolOutput:
    """Read the table that the command REGISTRY prints."""
    source = "registry (qwMemorySize)"
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ToolOutput(source=source, why="PowerShell printed no JSON")
    records = told if isinstance(told, list) else [told]
    return ToolOutput(source=source, devices=tuple(_registered(records[:MOST], source)))


def _registered(records: list[Any], source: str) -> Iterator[DetectedDevice]:
    for one in records:
        name = one.get("DriverDesc") if isinstance(one, dict) else None
        if not name:
            continue
        own = exact(one.get("HardwareInformation.qwMemorySize"))
        why = "" if own is not None else "the registry tells no memory of it"
        yield _card(0, str(name), source, own, why=why)

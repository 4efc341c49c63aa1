"""rocm-smi (JSON, CSV, text, its short table) and amd-smi (static, metric, monitor, its table).

`VRAM Total` is the memory; `VIS_VRAM` is the window that the CPU sees, `GTT` memory of the host.
A card beside one with next to no memory of its own is graphics of the CPU: no device for models.
An MI300A has one memory with its CPU.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from weighbridge.accelerators.detected.device import (
    MOST,
    SMALLEST,
    DetectedDevice,
    ToolOutput,
    exact,
    named,
    size,
)

TOTAL, USED = "VRAM Total Memory (B)", "VRAM Total Used Memory (B)"
NAMES = ("Card Series", "Card series", "Device Name", "Card Model", "Card model")
SHARED = re.compile(r"\bMI300A\b|\bStrix Halo\b|\bRyzen AI Max", re.I)
PERCENT = "this view tells a percentage alone: rocm-smi --showmeminfo vram --json has the bytes"
UNTOLD = "it tells no memory of it"


def device(index: int, name: str, source: str, **more: Any) -> DetectedDevice:
    """Make a record of one of AMD's devices, with what follows from its name and its size."""
    found = DetectedDevice(name=named(name), kind="rocm", source=source, index=index, **more)
    small = found.total is not None and found.total < SMALLEST
    shared = bool(SHARED.search(found.name))
    free = found.free
    if free is None and found.total is not None and found.used is not None:
        free = max(0, found.total - found.used)
    why = found.why or (UNTOLD if found.total is None else "")
    return replace(found, integrated=small, unified=shared, free=free, why=why)


def _of_record(index: int, told: Mapping[str, Any], source: str) -> DetectedDevice:
    names = (str(told[key]) for key in NAMES if key in told)
    name = next((n for n in names if n and n != "N/A" and not n.startswith("0x")), "")
    part = told.get("GPU ID") or told.get("Device ID") or told.get("Card model") or ""
    return device(
        index,
        name or f"AMD GPU {part}".strip(),
        source,
        total=exact(told.get(TOTAL)),
        used=exact(told.get(USED)),
        uuid=str(told.get("Unique ID", "")),
        raw={key: named(told[key]) for key in (TOTAL, USED) if key in told},
    )


def rocm_json(text: str) -> ToolOutput:
    try:
        told = json.loads(text[max(0, text.find("{")) :])  # warnings stand before it
    except (ValueError, RecursionError):
        return ToolOutput(source="rocm-smi --json", why="it is cut, or is no JSON")
    cards = {
        k: v for k, v in told.items() if re.fullmatch(r"card\d{1,4}", k) and isinstance(v, dict)
    }
    driver = told.get("system", {})
    version = driver.get("Driver version") if isinstance(driver, dict) else None
    return ToolOutput(
        source="rocm-smi --json",
        devices=tuple(
            _of_record(int(k[4:]), v, "rocm-smi --json") for k, v in [*cards.items()][:MOST]
        ),
        versions={"driver": named(version)} if version else {},
        why="" if cards else "rocm-smi has no GPU",
    )


def rocm_csv(text: str) -> ToolOutput:
    import csv

    lines = [line for line in text.splitlines() if "," in line][: MOST + 1]
    found = [
        _of_record(int(row["device"][4:]), row, "rocm-smi --csv")
        for row in csv.DictReader(lines)
        if re.fullmatch(r"card\d{1,4}", row.get("device") or "")
    ]
    return ToolOutput(source="rocm-smi --csv", devices=tuple(found))


def rocm_text(text: str) -> ToolOutput:
    """Read `rocm-smi --showmeminfo vram`."""
    told: dict[int, dict[str, str]] = {}
    for found in re.finditer(r"GPU\[(\d{1,4})\]\s*: ([^:\n]+): (\d+)", text):
        told.setdefault(int(found[1]), {})[found[2].strip()] = found[3]
    source = "rocm-smi --showmeminfo vram"
    return ToolOutput(
        source=source,
        devices=tuple(_of_record(i, one, source) for i, one in [*told.items()][:MOST]),
    )


def rocm_short(text: str) -> ToolOutput:
    numbers = re.findall(r"^(\d{1,4})\s.*%\s*$", text, re.M)[:MOST]
    return ToolOutput(
        source="rocm-smi",
        devices=tuple(device(int(n), "AMD GPU", "rocm-smi", why=PERCENT) for n in numbers),
    )


def static(text: str) -> ToolOutput:
    """Read `amd-smi static`: a block of `KEY: value` lines for each GPU."""
    found = []
    for block in re.split(r"^GPU: *(?=\d)", text, flags=re.M)[1 : MOST + 1]:
        told = {m[1]: m[2] for m in re.finditer(r"^\s+(MARKET_NAME|SIZE|TYPE): (.+)$", block, re.M)}
        number = re.match(r"\d{1,4}", block)
        found.append(
            device(
                int(number[0]) if number else 0,
                told.get("MARKET_NAME", "AMD GPU"),
                "amd-smi static",
                total=size(told.get("SIZE")),
                raw={"VRAM SIZE": named(told.get("SIZE", ""))},
            )
        )
    return ToolOutput(source="amd-smi static", devices=tuple(found))


def monitor(text: str) -> ToolOutput:
    """Read `amd-smi monitor -v`: sizes, no names."""
    lines = text.splitlines()
    head = next(line for line in lines if "VRAM_TOTAL" in line)
    ends = [re.search(rf"\b{name}\b", head) for name in ("VRAM_USED", "VRAM_TOTAL")]
    found = []
    for line in lines:
        number = re.match(r"\s*(\d{1,4})\s", line)
        cells = [line[: m.end()] for m in ends if m]
        sizes = [re.search(r"(\d+(?:\.\d+)?) ([KMG]B)\s*$", cell) for cell in cells]
        if number and len(sizes) == 2:
            used, total = (m[0] if m else "" for m in sizes)
            raw = {"VRAM_USED": used, "VRAM_TOTAL": total}
            more = {"total": size(total), "used": size(used), "raw": raw}
            found.append(device(int(number[1]), "AMD GPU", "amd-smi monitor", **more))
    return ToolOutput(source="amd-smi monitor", devices=tuple(found[:MOST]))


PAIR = re.compile(
    r"\| *[0-9a-f:.]+ +(\S.*?) *\|[^\n]*\n\| *(\d{1,4}) +[^|\n]*\|.*?(\d+)/(\d+) MB *\|"
)


def amd_table(text: str) -> ToolOutput:
    """Read plain `amd-smi`: two lines for each GPU."""
    found = tuple(
        device(
            int(number),
            name,
            "amd-smi",
            total=size(total),
            used=size(used),
            raw={"Mem-Usage": f"{used}/{total} MB"},
        )
        for name, number, used, total in PAIR.findall(text)[:MOST]
    )
    return ToolOutput(
        source="amd-smi", devices=found, why="" if found else "it is cut before its rows"
    )


def metric(text: str, names: str = "") -> ToolOutput:
    """Read `amd-smi metric --mem-usage --json`, with the names of `amd-smi static --asic
    --json`."""
    known = {i: _at(one, "asic", "market_name") for i, one in _records(names)}
    found = []
    for index, one in _records(text):
        told = {
            key: _size(_at(one, "mem_usage", f"{key}_vram")) for key in ("total", "used", "free")
        }
        raw = {f"{k}_vram": named(_at(one, "mem_usage", f"{k}_vram")) for k in told}
        name = str(known.get(index) or "AMD GPU")
        found.append(device(index, name, "amd-smi metric --json", raw=raw, **told))
    why = "" if found else "it is cut, or names no GPU"
    return ToolOutput(source="amd-smi metric --json", devices=tuple(found), why=why)


def _records(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        told = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return
    told = told.get("gpu_data", []) if isinstance(told, dict) else told
    for one in told[:MOST] if isinstance(told, list) else ():
        if isinstance(one, dict) and isinstance(one.get("gpu"), int):
            yield one["gpu"], one


def _at(one: Mapping[str, Any], *keys: str) -> Any:
    found: Any = one
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _size(told: Any) -> int | None:
    if isinstance(told, dict):
        return size(f"{told.get('value')} {told.get('unit')}")
    return size(told)

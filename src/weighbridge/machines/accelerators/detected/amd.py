"""rocm-smi (JSON, CSV, text, its short table) and amd-smi (static, metric, monitor, its table).

`VRAM Total` is the memory; `VIS_VRAM` is the window that the CPU sees, `GTT` memory of the host. A
card with next to no memory of its own, next to another, is the CPU's graphics: no device for
models. An MI300A has one memory with its CPU.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.detected.device import (
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
PERCENT = "seen.percentage"
UNTOLD = "seen.no_memory"


def device(index: int, name: str, source: str, **more: Any) -> DetectedDevice:
    """Return a record of an AMD device, completed by what its name and its size imply."""
    card = DetectedDevice(name=named(name), kind="rocm", source=source, index=index, **more)
    small = card.total is not None and card.total < SMALLEST
    shared = bool(SHARED.search(card.name))
    free = card.free
    if free is None and card.total is not None and card.used is not None:
        free = max(0, card.total - card.used)
    why = card.why or (sentence(UNTOLD) if card.total is None else "")
    return replace(card, integrated=small, unified=shared, free=free, why=why)


def _device_of_record(index: int, record: Mapping[str, Any], source: str) -> DetectedDevice:
    names = (str(record[key]) for key in NAMES if key in record)
    name = next((n for n in names if n and n != "N/A" and not n.startswith("0x")), "")
    part = record.get("GPU ID") or record.get("Device ID") or record.get("Card model") or ""
    return device(
        index,
        name or f"AMD GPU {part}".strip(),
        source,
        total=exact(record.get(TOTAL)),
        used=exact(record.get(USED)),
        uuid=str(record.get("Unique ID", "")),
        raw={key: named(record[key]) for key in (TOTAL, USED) if key in record},
    )


def rocm_json(text: str) -> ToolOutput:
    try:
        document = json.loads(text[max(0, text.find("{")) :])  # warnings stand before it
    except (ValueError, RecursionError):
        return ToolOutput(source="rocm-smi --json", why=sentence("seen.cut_json"))
    cards = {
        k: v for k, v in document.items() if re.fullmatch(r"card\d{1,4}", k) and isinstance(v, dict)
    }
    driver = document.get("system", {})
    version = driver.get("Driver version") if isinstance(driver, dict) else None
    return ToolOutput(
        source="rocm-smi --json",
        devices=tuple(
            _device_of_record(int(k[4:]), v, "rocm-smi --json") for k, v in [*cards.items()][:MOST]
        ),
        versions={"driver": named(version)} if version else {},
        why="" if cards else sentence("seen.rocm_no_gpu"),
    )


def rocm_csv(text: str) -> ToolOutput:
    import csv

    lines = [line for line in text.splitlines() if "," in line][: MOST + 1]
    devices = [
        _device_of_record(int(row["device"][4:]), row, "rocm-smi --csv")
        for row in csv.DictReader(lines)
        if re.fullmatch(r"card\d{1,4}", row.get("device") or "")
    ]
    return ToolOutput(source="rocm-smi --csv", devices=tuple(devices))


def rocm_text(text: str) -> ToolOutput:
    """Return the devices in the output of `rocm-smi --showmeminfo vram`."""
    fields: dict[int, dict[str, str]] = {}
    for match in re.finditer(r"GPU\[(\d{1,4})\]\s*: ([^:\n]+): (\d+)", text):
        fields.setdefault(int(match[1]), {})[match[2].strip()] = match[3]
    source = "rocm-smi --showmeminfo vram"
    return ToolOutput(
        source=source,
        devices=tuple(_device_of_record(i, one, source) for i, one in [*fields.items()][:MOST]),
    )


def rocm_short(text: str) -> ToolOutput:
    numbers = re.findall(r"^(\d{1,4})\s.*%\s*$", text, re.M)[:MOST]
    return ToolOutput(
        source="rocm-smi",
        devices=tuple(
            device(int(n), "AMD GPU", "rocm-smi", why=sentence(PERCENT)) for n in numbers
        ),
    )


def static(text: str) -> ToolOutput:
    """Return the devices in the output of `amd-smi static`: a block of `KEY: value` lines per
    GPU."""
    devices = []
    for block in re.split(r"^GPU: *(?=\d)", text, flags=re.M)[1 : MOST + 1]:
        told_fields = {
            m[1]: m[2] for m in re.finditer(r"^\s+(MARKET_NAME|SIZE|TYPE): (.+)$", block, re.M)
        }
        number = re.match(r"\d{1,4}", block)
        devices.append(
            device(
                int(number[0]) if number else 0,
                told_fields.get("MARKET_NAME", "AMD GPU"),
                "amd-smi static",
                total=size(told_fields.get("SIZE")),
                raw={"VRAM SIZE": named(told_fields.get("SIZE", ""))},
            )
        )
    return ToolOutput(source="amd-smi static", devices=tuple(devices))


def monitor(text: str) -> ToolOutput:
    """Return the devices in the output of `amd-smi monitor -v`: sizes without names."""
    lines = text.splitlines()
    head = next(line for line in lines if "VRAM_TOTAL" in line)
    ends = [re.search(rf"\b{name}\b", head) for name in ("VRAM_USED", "VRAM_TOTAL")]
    devices = []
    for line in lines:
        number = re.match(r"\s*(\d{1,4})\s", line)
        cells = [line[: m.end()] for m in ends if m]
        sizes = [re.search(r"(\d+(?:\.\d+)?) ([KMG]B)\s*$", cell) for cell in cells]
        if number and len(sizes) == 2:
            used, total = (m[0] if m else "" for m in sizes)
            raw = {"VRAM_USED": used, "VRAM_TOTAL": total}
            more = {"total": size(total), "used": size(used), "raw": raw}
            devices.append(device(int(number[1]), "AMD GPU", "amd-smi monitor", **more))
    return ToolOutput(source="amd-smi monitor", devices=tuple(devices[:MOST]))


PAIR = re.compile(
    r"\| *[0-9a-f:.]+ +(\S.*?) *\|[^\n]*\n\| *(\d{1,4}) +[^|\n]*\|.*?(\d+)/(\d+) MB *\|"
)


def amd_table(text: str) -> ToolOutput:
    """Return the devices in the output of plain `amd-smi`: two lines per GPU."""
    devices = tuple(
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
        source="amd-smi", devices=devices, why="" if devices else sentence("seen.cut_rows")
    )


def metric(text: str, names: str = "") -> ToolOutput:
    """Return the devices in the output of `amd-smi metric --mem-usage --json`, with names from
    `amd-smi static --asic --json`."""
    known = {i: _at(one, "asic", "market_name") for i, one in _records(names)}
    devices = []
    for index, one in _records(text):
        fields = {
            key: _size(_at(one, "mem_usage", f"{key}_vram")) for key in ("total", "used", "free")
        }
        raw = {f"{k}_vram": named(_at(one, "mem_usage", f"{k}_vram")) for k in fields}
        name = str(known.get(index) or "AMD GPU")
        devices.append(device(index, name, "amd-smi metric --json", raw=raw, **fields))
    why = "" if devices else sentence("seen.cut_gpu")
    return ToolOutput(source="amd-smi metric --json", devices=tuple(devices), why=why)


def _records(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        document = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return
    document = document.get("gpu_data", []) if isinstance(document, dict) else document
    for one in document[:MOST] if isinstance(document, list) else ():
        if isinstance(one, dict) and isinstance(one.get("gpu"), int):
            yield one["gpu"], one


def _at(one: Mapping[str, Any], *keys: str) -> Any:
    place: Any = one
    for key in keys:
        place = place.get(key) if isinstance(place, dict) else None
    return place


def _size(field: Any) -> int | None:
    if isinstance(field, dict):
        return size(f"{field.get('value')} {field.get('unit')}")
    return size(field)

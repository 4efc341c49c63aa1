"""A Mac: system_profiler, sysctl, and what Metal reports through llama.cpp.

Memory is the machine's. Metal recommends a share of it as the most that a GPU works on:
`iogpu.wired_limit_mb` sets it, and 0 there stands for the system's own share. Source: Apple's
documentation of MTLDevice.recommendedMaxWorkingSetSize.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.detected.device import (
    MOST,
    DetectedDevice,
    ToolOutput,
    exact,
    named,
    size,
)

UNTOLD = "seen.view_no_memory"
FIELD = re.compile(r"^\s*([A-Z][\w ()]{1,40}): *(\S.*)$", re.M)
METAL = re.compile(r"recommendedMaxWorkingSetSize\s*[:=] *([\d.]+ [MG]i?B)")
DEVICE = re.compile(r"^\s*([A-Za-z]+)(\d{1,3}): (.+?) \((\d+) MiB, (\d+) MiB free\)", re.M)
KINDS = {"MTL": "mps", "METAL": "mps", "CUDA": "cuda", "ROCM": "rocm", "SYCL": "xpu"}


def _chip(name: str, source: str, **more: int | None) -> DetectedDevice:
    total = more.get("total")
    return DetectedDevice(
        name=named(name),
        kind="mps",
        source=source,
        total=total,
        limit=more.get("limit"),
        unified=True,
        why="" if total is not None else sentence(UNTOLD),
    )


def profiler(text: str) -> ToolOutput:
    """Return the GPU in SPDisplaysDataType, SPHardwareDataType or both."""
    source, fields = "system_profiler", FIELD.findall(text)
    chip = next((v for k, v in fields if k == "Chip"), "")
    memory = next((size(v) for k, v in fields if k == "Memory"), None)
    devices = [_graphics(name, more, source) for name, more in _displays(fields)]
    if chip.startswith("Apple"):
        devices = [_chip(chip, source, total=memory)]
    why = "" if devices else sentence("seen.no_gpu_named")
    return ToolOutput(source=source, devices=tuple(devices[:MOST]), ram=memory, why=why)


def _displays(fields: list[tuple[str, str]]) -> Iterator[tuple[str, dict[str, str]]]:
    name, more = "", dict[str, str]()
    for key, value in (*fields, ("Chipset Model", "")):
        if key == "Chipset Model":
            if name:
                yield name, more
            name, more = value, {}
        more[key] = value


def _graphics(name: str, more: dict[str, str], source: str) -> DetectedDevice:
    if name.startswith("Apple"):
        return _chip(name, source)
    memory = next((v for k, v in more.items() if k.startswith("VRAM")), "")
    return DetectedDevice(
        name=named(name),
        kind="mps",
        source=source,
        total=size(memory),
        integrated="Dynamic" in " ".join(more) or not memory,
        raw={"VRAM": named(memory)} if memory else {},
        why="" if size(memory) else sentence(UNTOLD),
    )


def memory(text: str) -> ToolOutput:
    """Return the memory in `system_profiler SPMemoryDataType -json`."""
    source = "system_profiler SPMemoryDataType -json"
    try:
        entries = json.loads(text)["SPMemoryDataType"]
        sizes = [size(one["SPMemoryDataType"]) for one in entries]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ToolOutput(source=source, why=sentence("seen.cut_list"))
    whole = sum(n for n in sizes if n)
    return ToolOutput(source=source, ram=whole or None, notes=(sentence("seen.same_memory"),))


def sysctl(text: str) -> ToolOutput:
    """Return the memory and GPU limit in `hw.memsize` and `iogpu.wired_limit_mb`, as printed or as
    set."""
    fields = dict(re.findall(r"^([\w.]+): *(?:\d+ *-> *)?(\S.*)$", text, re.M))
    limit = size(fields.get("iogpu.wired_limit_mb"))
    share = ("iogpu.wired_limit_mb is 0: the system's own share",) if limit == 0 else ()
    return ToolOutput(
        source="sysctl",
        ram=exact(fields.get("hw.memsize")),
        limit=limit or None,
        versions={"chip": named(c)} if (c := fields.get("machdep.cpu.brand_string")) else {},
        notes=share,
    )


def chip(text: str) -> ToolOutput:
    """Return the GPU of a Mac from one call to sysctl. Intel Macs are not supported."""
    machine = sysctl(text)
    name = machine.versions.get("chip", "")
    if not name.startswith("Apple") or machine.ram is None:
        return ToolOutput(source="sysctl", ram=machine.ram, why=sentence("seen.no_apple"))
    device = _chip(name, "sysctl", total=machine.ram, limit=machine.limit)
    return ToolOutput(source="sysctl", devices=(device,), ram=machine.ram, limit=machine.limit)


def metal(text: str) -> ToolOutput:
    """Return the GPU's working set in a log of Metal; the last line with one counts."""
    limits = [size(n) for n in METAL.findall(text)]
    name = re.search(r"GPU name: +(\S.*)", text)
    device = _chip(name[1] if name else "Apple GPU", "Metal", limit=limits[-1] if limits else None)
    several = sentence("seen.limits", sizes=", ".join(METAL.findall(text)))
    notes = (several,) if len(limits) > 1 else ()
    return ToolOutput(source="Metal", devices=(device,), limit=device.limit, notes=notes)


def llama(text: str) -> ToolOutput:
    """Return the devices in `llama-server --list-devices`. Metal's size is the GPU's limit, not the
    memory."""
    devices = []
    for backend, number, name, total, free in DEVICE.findall(text)[:MOST]:
        kind = KINDS.get(backend.upper(), "other")
        shared = kind == "mps"
        devices.append(
            DetectedDevice(
                name=named(name),
                kind=kind,  # type: ignore[arg-type]
                source="llama.cpp --list-devices",
                index=int(number),
                total=None if shared else size(total),
                limit=size(total) if shared else None,
                free=size(free),
                unified=shared,
                why=sentence(UNTOLD) if shared else "",
                raw={f"{backend}{number}": f"{total} MiB, {free} MiB free"},
            )
        )
    return ToolOutput(source="llama.cpp --list-devices", devices=tuple(devices))


def fastfetch(text: str) -> ToolOutput:
    """Return the devices in the `gpu` module of `fastfetch --json`. On a Mac the shared total is
    left out, since it differs at every call."""
    try:
        modules = json.loads(text)
        cards = [gpu for part in modules if part["type"] == "GPU" for gpu in part["result"]][:MOST]
        devices = tuple(_fetched(i, card) for i, card in enumerate(cards))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ToolOutput(source="fastfetch", why=sentence("seen.cut_module"))
    return ToolOutput(source="fastfetch", devices=devices)


def _fetched(index: int, card: dict[str, Any]) -> DetectedDevice:
    name = str(card["name"])
    if name.startswith("Apple"):
        return _chip(name, "fastfetch")
    total = card["memory"]["dedicated"]["total"]
    sized = exact(total) if total is not None else None
    return DetectedDevice(
        name=named(name),
        kind="other",
        source="fastfetch",
        index=index,
        total=sized,
        why="" if sized else sentence("seen.no_memory"),
    )

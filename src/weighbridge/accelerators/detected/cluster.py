"""Kubernetes nodes, and lines of logs that tell of a device: ollama, gpud, vLLM, torch on a Mac."""

import re
from dataclasses import replace

from weighbridge.accelerators.detected.device import MOST, DetectedDevice, ToolOutput, named, size
from weighbridge.accelerators.detected.nvidia import HOST

UNSIZED = "a node's capacity tells no sizes"


def kubernetes(text: str) -> ToolOutput:
    told = dict(re.findall(r'nvidia\.com/([\w.-]+): *"?([^"\n]+)', text))
    memory = re.search(r"^\s*memory: *(\d+Ki)", text, re.M)
    slices = [(k[4:], int(n)) for k, n in told.items() if k.startswith("mig-") and n.isdigit()]
    devices = [d for profile, n in slices for d in _slices(profile, min(n, MOST))]
    if "gpu.product" in told:
        count = told.get("gpu.count", "1")
        total = size(told.get("gpu.memory"))
        card = DetectedDevice(
            name=named(told["gpu.product"]),
            kind="cuda",
            source="Kubernetes labels",
            total=total,
            why="" if total else UNSIZED,
            raw={"nvidia.com/gpu.memory": named(told.get("gpu.memory", ""))},
        )
        number = min(int(count), MOST) if count.isdigit() and len(count) < 6 else 1
        devices += [replace(card, index=i) for i in range(number)]
    ram = size(memory[1]) if memory else None
    return ToolOutput(
        source="Kubernetes", devices=tuple(devices[:MOST]), ram=ram, why=_why(told, devices)
    )


def _slices(profile: str, count: int) -> list[DetectedDevice]:
    one = DetectedDevice(
        name="NVIDIA GPU", kind="cuda", source="Kubernetes", mig=named(profile), why=UNSIZED
    )
    return [replace(one, index=i) for i in range(count)]


def _why(told: dict[str, str], devices: list[DetectedDevice]) -> str:
    shares = told.get("gpu.shared", "0")
    if devices or shares == "0":
        return "" if devices else "it names no GPU"
    return (
        f"{named(shares)} are shares of GPUs in turns, not GPUs: those of one GPU have one memory, "
        "whose size the node does not tell"
    )


def ollama(text: str) -> ToolOutput:
    """Read Ollama's log: `[0] CUDA totalMem 84987740160`."""
    told: dict[str, dict[str, str]] = {}
    for number, key, value in re.findall(
        r"\[(\d{1,4})\] CUDA (device name|totalMem|freeMem):? (\S.*)", text
    ):
        told.setdefault(number, {})[key] = value
    found = []
    for number, one in [*told.items()][:MOST]:
        name, _, profile = one.get("device name", "NVIDIA GPU").partition(" MIG ")
        total, free = (size(one.get(key), 1) for key in ("totalMem", "freeMem"))
        used = None if total is None or free is None else max(0, total - free)
        found.append(
            DetectedDevice(
                name=named(name),
                kind="cuda",
                source="CUDA",
                index=int(number),
                total=total,
                reserved=0,
                free=free,
                used=used,
                mig=named(profile),
                why="" if total else "it tells no totalMem",
                raw={key: named(one[key]) for key in ("totalMem", "freeMem") if key in one},
            )
        )
    return ToolOutput(source="CUDA", devices=tuple(found))


def gpud(text: str) -> ToolOutput:
    """NVML says Not Supported of a chip that has the host's memory."""
    name = re.search(r'"product_name":"([^"]{1,100})"', text)
    shown = named(name[1].replace("-", " ")) if name else "NVIDIA GPU"
    device = DetectedDevice(name=shown, kind="cuda", source="NVML", unified=True, why=HOST)
    return ToolOutput(source="NVML", devices=(device,))


REFUSED = re.compile(r"Free memory on device.*?\(([\d.]+)/([\d.]+) GiB\)")


def vllm(text: str) -> ToolOutput:
    """What vLLM saw when it refused to start: others hold the card."""
    found = REFUSED.search(text)
    if found is None:
        return ToolOutput(source="vLLM", why="it is cut before the sizes")
    free, total = (size(f"{n} GiB") for n in found.groups())
    assert free is not None
    assert total is not None
    device = DetectedDevice(
        name="NVIDIA GPU",
        kind="cuda",
        source="vLLM",
        total=total,
        reserved=0,
        free=free,
        used=max(0, total - free),
        raw={"free/total": f"{found[1]}/{found[2]} GiB"},
    )
    return ToolOutput(source="vLLM", devices=(device,), notes=("other processes hold the card",))


def mps_refused(text: str) -> ToolOutput:
    """torch on a Mac: its limit is not the memory."""
    limit = re.search(r"max allowed: ([\d.]+) GB", text)
    most = f" ({limit[1]} GB)" if limit else ""
    return ToolOutput(
        source="torch on a Mac",
        why=f"it tells torch's own limit{most}: 1.7 times what Metal recommends, and so more than "
        "there may be. `sysctl hw.memsize` tells the memory",
    )

"""This machine: every program that reports accelerators is run, and their devices are gathered.

    Linux     NVML or nvidia-smi, rocm-smi or amd-smi, xpu-smi, npu-smi, hl-smi, tpu-info
    Windows   NVML or nvidia-smi; other makers' cards from the registry
    macOS     sysctl

torch is asked only if it already uses the card: a query takes memory of the card.

CUDA_VISIBLE_DEVICES, HIP_ and ROCR_VISIBLE_DEVICES select the devices that a process sees:

    0,1                     numbers, in the order that is wanted
    GPU-1a2b3c4d            an id, or as much of its beginning as is unique
    MIG-<uuid>              a slice; MIG-GPU-<uuid>/13/0 in drivers before 470
    ""  -1                  none: an item that is no device ends the list

CUDA gives a process one MIG slice at a time. Source: CUDA C++ programming guide, "CUDA Environment
Variables"; MIG user guide, "CUDA Device Enumeration"; ROCm documentation, "GPU isolation".
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.detected import amd, apple, nvidia, nvml, others
from weighbridge.machines.accelerators.detected.device import DetectedDevice, DeviceApi, ToolOutput
from weighbridge.machines.accelerators.detected.programs import Ask, say

KEPT = 10.0  # seconds for which an answer is kept: one question asks several times
MAKERS: tuple[
    tuple[tuple[str, ...], Callable[[str], ToolOutput]], ...
] = (  # program with arguments, and the parser of its output
    (("npu-smi", "info"), others.npu_smi),
    (("hl-smi",), others.hl_smi),
    (("tpu-info",), others.tpu_info),
)


@frozen_record
class Here:
    """The outputs of all programs that were run. `devices`: those that this process sees and can
    use."""

    seen: tuple[ToolOutput, ...]
    devices: tuple[DetectedDevice, ...]
    notes: tuple[str, ...] = ()


_last: list[tuple[float, Here]] = []


def here() -> Here:
    """Return the accelerators of this machine, detected now or within the last KEPT seconds."""
    now = time.monotonic()
    if not _last or now - _last[0][0] > KEPT:
        _last[:] = [(now, look(say))]
    return _last[0][1]


def forget() -> None:
    """Drop the cached detection, so that the next call detects anew."""
    _last.clear()


def look(
    ask: Ask, platform: str = sys.platform, environment: Mapping[str, str] | None = None
) -> Here:
    """Return the devices in the output of every program for this platform. `ask(program,
    *arguments)` returns an output or None."""
    seen = tuple(output for output in _told(ask, platform) if output is not None)
    devices, notes = _seen_by_process(
        [device for output in seen for device in output.devices], environment
    )
    return Here(
        seen=seen,
        devices=devices,
        notes=(*(note for output in seen for note in output.notes), *notes),
    )


def gathered(seen: tuple[ToolOutput, ...]) -> Here:
    """Return all devices in another machine's outputs, whichever of them a process there may
    see."""
    devices = [device for output in seen for device in output.devices]
    notes = (
        *(note for output in seen for note in output.notes),
        *map(_aside, filter(_integrated, devices)),
    )
    return Here(
        seen=seen, devices=tuple(device for device in devices if not device.integrated), notes=notes
    )


def _integrated(device: DetectedDevice) -> bool:
    return device.integrated


def _aside(device: DetectedDevice) -> str:
    return sentence("seen.graphics", name=device.name)


def _told(ask: Ask, platform: str) -> Iterator[ToolOutput | None]:
    if platform == "darwin":
        yield _first(ask, (("sysctl", "hw.memsize", "iogpu.wired_limit_mb", BRAND), apple.chip))
        return
    of_nvidia = (nvml.seen() if ask is say else None) or _nvidia(ask)
    yield of_nvidia
    if platform == "win32":
        command = ("powershell", "-NoProfile", "-NonInteractive", "-Command", others.REGISTRY)
        yield _beside(_first(ask, (command, others.registry)), of_nvidia)
        return
    yield _amd(ask)
    yield _intel(ask)
    for way in MAKERS:
        yield _first(ask, way)
    if not (of_nvidia and of_nvidia.devices):
        yield _cards_of_torch()


LINUX = ("nvidia-smi", "rocm-smi", "amd-smi", "xpu-smi", "npu-smi", "hl-smi", "tpu-info")
PROGRAMS = {"darwin": ("sysctl",), "win32": ("nvidia-smi", "powershell")}.get(sys.platform, LINUX)
BRAND = "machdep.cpu.brand_string"


def _first(ask: Ask, *ways: tuple[Sequence[str], Callable[[str], ToolOutput]]) -> ToolOutput | None:
    """Return the first output with a device; else the last output; None if no program answers."""
    output: ToolOutput | None = None
    for command, read in ways:
        text = ask(*command)
        if text is None or (not text.strip() and output is not None):
            continue
        output = read(text)
        if output.devices:
            break
    return output


def _nvidia(ask: Ask) -> ToolOutput | None:
    text = ask("nvidia-smi", "-q", "-x")
    if text is None:
        return None
    output = nvidia.xml(text) if "<nvidia_smi_log" in text else nvidia.failed(text)
    if any(device.mig for device in output.devices):
        names = ask("nvidia-smi", "-L")
        return nvidia.profiled(output, nvidia.listed(names or ""))
    return output


def _amd(ask: Ask) -> ToolOutput | None:
    command = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showuniqueid", "--json")
    output = _first(ask, (command, amd.rocm_json))
    if output is not None and output.devices:
        return output
    text = ask("amd-smi", "metric", "--mem-usage", "--json")
    if text is None:
        return output
    return amd.metric(text, ask("amd-smi", "static", "--asic", "--json") or "")


def _intel(ask: Ask) -> ToolOutput | None:
    dump = ("xpu-smi", "discovery", "--dump", "1,2,16")
    return _first(ask, (dump, others.xpu_dump), (("xpu-smi",), others.xpu_table))


def _beside(output: ToolOutput | None, of_nvidia: ToolOutput | None) -> ToolOutput | None:
    """Return an output without the cards that NVIDIA's own program has reported."""
    if output is None or of_nvidia is None or not of_nvidia.devices:
        return output
    others = tuple(device for device in output.devices if device.kind != "cuda")
    return replace(output, devices=others) if others else None


def _cards_of_torch() -> ToolOutput | None:
    """Return the cards that torch already uses in this process; None if it uses none."""
    torch: Any = sys.modules.get("torch")
    try:
        if torch is None or not torch.cuda.is_initialized():
            return None
        return asked_of_torch(torch)
    except Exception:  # a build without CUDA, a lost card: no report
        return None


def asked_of_torch(torch: Any) -> ToolOutput:
    count = torch.cuda.device_count()
    rocm = bool(getattr(torch.version, "hip", None))
    return others.mem_get_info(
        [torch.cuda.mem_get_info(i) for i in range(count)],
        names=[torch.cuda.get_device_name(i) for i in range(count)],
        kind="rocm" if rocm else "cuda",
        budgeted=rocm and sys.platform == "win32",
    )


def _seen_by_process(
    devices: Sequence[DetectedDevice], environment: Mapping[str, str] | None
) -> tuple[tuple[DetectedDevice, ...], tuple[str, ...]]:
    """Return (devices, notes): those that the environment makes visible, without the CPU's
    graphics."""
    visible: list[DetectedDevice] = []
    notes: list[str] = []
    kinds: dict[DeviceApi, list[DetectedDevice]] = {}
    for device in devices:
        kinds.setdefault(device.kind, []).append(device)
    for kind, some in kinds.items():
        usable = [device for device in some if not device.integrated]
        notes += map(_aside, filter(_integrated, some))
        set_to = asked(kind, environment)
        if set_to is not None and usable:
            left = chosen(set_to[1], usable)
            notes.append(f"{set_to[0]} leaves {len(left)} of {len(usable)}")
            usable = list(left)
        parts = [device for device in usable if device.mig]
        if len(parts) > 1:
            notes.append(sentence("first_slice"))
        visible += [device for device in usable if not device.mig] or parts[:1]
    return tuple(visible), tuple(notes)


# ---- Devices that a process sees

NAMES: Mapping[DeviceApi, tuple[str, ...]] = {  # the first that is set decides
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "rocm": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    "xpu": ("ZE_AFFINITY_MASK",),
    "npu": ("ASCEND_RT_VISIBLE_DEVICES",),
    "hpu": ("HABANA_VISIBLE_DEVICES",),
}
NUMBER = re.compile(r"\d{1,4}")
OLD_SLICE = re.compile(r"MIG-(GPU-[0-9a-fA-F-]+)/(\d{1,4})/(\d{1,4})")
ID = re.compile(r"(?:MIG|GPU)-[0-9a-fA-F-]{4,64}|(?:GPU-)?[0-9a-fA-F]{16}")


def form(item: str) -> str:
    """Return the kind of an item in a variable: "number", "id", "slice", "old slice" or ""."""
    if NUMBER.fullmatch(item):
        return "number"
    if OLD_SLICE.fullmatch(item):
        return "old slice"
    if not ID.fullmatch(item):
        return ""
    return "slice" if item.startswith("MIG-") else "id"


def asked(kind: DeviceApi, environment: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """Return (variable, value) for the first variable that is set for devices of a kind; None
    without one."""
    variables = os.environ if environment is None else environment
    return next(
        ((name, variables[name]) for name in NAMES.get(kind, ()) if name in variables), None
    )


def chosen(value: str, devices: Sequence[DetectedDevice]) -> tuple[DetectedDevice, ...]:
    """Return the devices that a variable's value lists, in its order."""
    devices_named: list[DetectedDevice] = []
    for item in (part.strip() for part in value[:65536].split(",")):
        one = _device_named(item, devices)
        if one is None or one in devices_named:
            break
        devices_named.append(one)
    return tuple(devices_named)


def _device_named(item: str, devices: Sequence[DetectedDevice]) -> DetectedDevice | None:
    kind = form(item)
    if kind == "number":
        return next(
            (device for device in devices if device.index == int(item) and not device.mig), None
        )
    if kind == "old slice":
        card, instance, _ = OLD_SLICE.fullmatch(item).groups()  # type: ignore[union-attr]
        cards = [str(device.index) for device in devices if device.uuid.startswith(card)]
        return next(
            (
                device
                for device in devices
                if device.memory in {f"{number}/{instance}" for number in cards}
            ),
            None,
        )
    if kind:
        named = [device for device in devices if device.uuid and device.uuid.startswith(item)]
        return named[0] if len(named) == 1 else None
    return None

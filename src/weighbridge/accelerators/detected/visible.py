"""Which devices a process sees: CUDA_VISIBLE_DEVICES, and HIP_ and ROCR_VISIBLE_DEVICES.

    0,1                     numbers, in the order in which they are wanted
    GPU-1a2b3c4d            an id, or as much of its beginning as names one
    MIG-<uuid>              a slice; MIG-GPU-<uuid>/13/0 in drivers before 470
    ""  -1                  none: what names no device ends the list

CUDA gives a process one MIG slice at a time. Source: CUDA C++ programming guide, "CUDA Environment
Variables"; MIG user guide, "CUDA Device Enumeration"; ROCm documentation, "GPU isolation".
"""

import os
import re
from collections.abc import Mapping, Sequence

from weighbridge.accelerators.detected.device import DetectedDevice, DeviceApi

NAMES: Mapping[DeviceApi, tuple[str, ...]] = {  # the first that is set counts
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
    """What kind of name it is: "number", "id", "slice", "old slice" or ""."""
    if NUMBER.fullmatch(item):
        return "number"
    if OLD_SLICE.fullmatch(item):
        return "old slice"
    if not ID.fullmatch(item):
        return ""
    return "slice" if item.startswith("MIG-") else "id"


def asked(kind: DeviceApi, environment: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """The variable that is set for such devices, and its value."""
    found = os.environ if environment is None else environment
    return next(((name, found[name]) for name in NAMES.get(kind, ()) if name in found), None)


def chosen(value: str, devices: Sequence[DetectedDevice]) -> tuple[DetectedDevice, ...]:
    """The devices that the value leaves, in its order."""
    found: list[DetectedDevice] = []
    for item in (part.strip() for part in value[:65536].split(",")):
        one = _one(item, devices)
        if one is None or one in found:
            break
        found.append(one)
    return tuple(found)


def _one(item: str, devices: Sequence[DetectedDevice]) -> DetectedDevice | None:
    kind = form(item)
    if kind == "number":
        return next((d for d in devices if d.index == int(item) and not d.mig), None)
    if kind == "old slice":
        card, instance, _ = OLD_SLICE.fullmatch(item).groups()  # type: ignore[union-attr]
        cards = [str(d.index) for d in devices if d.uuid.startswith(card)]
        return next((d for d in devices if d.memory in {f"{n}/{instance}" for n in cards}), None)
    if kind:
        named = [d for d in devices if d.uuid and d.uuid.startswith(item)]
        return named[0] if len(named) == 1 else None
    return None

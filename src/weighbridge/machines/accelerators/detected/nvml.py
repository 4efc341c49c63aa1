"""NVML itself, through pynvml (nvidia-ml-py) if that is installed.

Version 2 of its memory record separates what the driver reserves; version 1 counts that as used.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.detected.device import (
    MOST,
    DetectedDevice,
    ToolOutput,
    named,
)
from weighbridge.machines.accelerators.detected.nvidia import (
    FIGURES,
    HOST,
    SHARED,
    UNTOLD,
    failed,
    together,
)


def seen() -> ToolOutput | None:
    """Return the devices that NVML reports; None if pynvml is not installed."""
    from importlib.util import find_spec

    if find_spec("pynvml") is None:
        return None
    import pynvml as nv

    try:
        nv.nvmlInit()
    except nv.NVMLError as error:
        return replace(failed(str(error)), source="NVML")
    try:
        return _all(nv)
    finally:
        with suppress(nv.NVMLError):
            nv.nvmlShutdown()


def _all(nv: Any) -> ToolOutput:
    tell = _teller(nv)
    count = min(tell(nv.nvmlDeviceGetCount) or 0, MOST)
    devices: list[DetectedDevice] = []
    for index in range(count):
        handle = tell(nv.nvmlDeviceGetHandleByIndex, index)
        if handle is not None:
            devices += _devices(nv, handle, index)
    cuda = tell(nv.nvmlSystemGetCudaDriverVersion)
    driver = tell(nv.nvmlSystemGetDriverVersion)
    versions = {"driver": named(_text(driver))} if driver else {}
    if isinstance(cuda, int):  # 12020 is 12.2
        versions["cuda"] = f"{cuda // 1000}.{cuda % 1000 // 10}"
    why = "" if devices else sentence("seen.driver_no_gpu")
    notes = tuple(together(devices))
    return ToolOutput(
        source="NVML", devices=tuple(devices), versions=versions, why=why, notes=notes
    )


def _teller(nv: Any) -> Callable[..., Any]:
    """Return a function that calls NVML, and returns None for what the card does not support."""

    def tell(call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        try:
            return call(*arguments, **more)
        except (nv.NVMLError, TypeError, AttributeError):
            return None

    return tell


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _devices(nv: Any, handle: Any, index: int) -> Iterator[DetectedDevice]:
    tell = _teller(nv)
    whole = _device(nv, handle, index)
    mode = tell(nv.nvmlDeviceGetMigMode, handle)
    if not mode or mode[0] != 1:
        yield whole
        return
    handles = (
        tell(nv.nvmlDeviceGetMigDeviceHandleByIndex, handle, i)
        for i in range(min(tell(nv.nvmlDeviceGetMaxMigDeviceCount, handle) or 0, MOST))
    )
    parts = [_slice(nv, h, whole, i) for i, h in enumerate(h for h in handles if h is not None)]
    none = sentence("seen.mig_no_slice")
    yield from parts or [replace(whole, total=None, free=None, why=none)]


def _device(nv: Any, handle: Any, index: int) -> DetectedDevice:
    tell = _teller(nv)
    name = named(_text(tell(nv.nvmlDeviceGetName, handle) or "NVIDIA GPU"))
    version = getattr(nv, "nvmlMemory_v2", None)
    memory = tell(nv.nvmlDeviceGetMemoryInfo, handle, version=version) if version else None
    memory = memory or tell(nv.nvmlDeviceGetMemoryInfo, handle)
    figures = {key: getattr(memory, key, None) for key in FIGURES}
    total, reserved, used, free = (None if n is None else int(n) for n in figures.values())
    capability = tell(nv.nvmlDeviceGetCudaComputeCapability, handle)
    shared = bool(SHARED.search(name))
    return DetectedDevice(
        name=name,
        kind="cuda",
        source="NVML",
        index=index,
        uuid=_text(tell(nv.nvmlDeviceGetUUID, handle) or ""),
        capability=".".join(map(str, capability)) if capability else None,
        unified=shared,
        why="" if memory else sentence(HOST if shared else UNTOLD),
        raw={key: str(value) for key, value in figures.items() if value is not None},
        total=total,
        reserved=reserved,
        used=used,
        free=free,
    )


def _slice(nv: Any, handle: Any, whole: DetectedDevice, index: int) -> DetectedDevice:
    device = _device(nv, handle, index)
    name, _, profile = device.name.partition(" MIG ")
    instance = _teller(nv)(nv.nvmlDeviceGetGpuInstanceId, handle)
    return replace(
        device,
        name=name or whole.name,
        mig=profile or "?",
        memory=f"{whole.index}/{instance}",
        capability=whole.capability,
    )

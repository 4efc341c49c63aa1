"""What a process holds of the device, as the driver counts: asked every few milliseconds.

    process    NVML's figure for this process
    device     NVML's figure for the device, less what it was before; in a container NVML may not
               know the process
    all        total less free of cudaMemGetInfo, where nvidia-ml-py is not installed or NVML does
               not know the device (a slice of one): every process on it counts

A peak between two samples is missed: the figure is a lower bound.
"""

import os
import threading
from collections.abc import Callable
from importlib.util import find_spec

import torch

SECONDS = 0.005


class DriverMeter:
    """The most bytes of the driver since the last call. Made before anything is on the device."""

    def __init__(self, index: int = 0) -> None:
        self.kind, self._read = (_nvml(index) if find_spec("pynvml") else None) or _all(index)
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self) -> int:
        now = self._read()
        most, self._most = max(self._most, now), now
        return most

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            self._most = max(self._most, self._read())


def _all(index: int) -> tuple[str, Callable[[], int]]:
    def read() -> int:
        free, total = torch.cuda.mem_get_info(index)
        return int(total - free)

    return "all", read


def _nvml(index: int) -> tuple[str, Callable[[], int]] | None:
    import pynvml

    # NVML knows nothing of CUDA_VISIBLE_DEVICES: the device is found by its id
    uuid = torch.cuda.get_device_properties(index).uuid
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        before = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except pynvml.NVMLError:
        return None
    torch.cuda.synchronize()  # makes the context: NVML knows a process by it

    def process() -> int | None:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return next((p.usedGpuMemory for p in running if p.pid == os.getpid()), None)

    def device() -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) - before

    return ("device", device) if process() is None else ("process", lambda: process() or 0)

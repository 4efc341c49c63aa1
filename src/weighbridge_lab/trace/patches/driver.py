"""The driver, as programs ask it past torch: NVML (the module pynvml) and the program nvidia-smi.

Both answer of the cards that stand in: names, memory that is taken and free, this process. What
takes time or power is 0. Fields of nvidia-smi: `nvidia-smi --help-query-gpu`.

torch.profiler is told of the host alone, as no kernel runs. With stacks it notes every call of a
Python function, and a fake tensor makes thousands of them for each operation: gigabytes of notes,
which are sorted where no signal is heard. They are left out.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

from torch.autograd import profiler
from torch.cuda import nvtx

from weighbridge.base.units import MIB
from weighbridge_lab.trace.card import Card
from weighbridge_lab.trace.patches import Notes, Patch, Patches
from weighbridge_lab.trace.tape import Tape

MODULE = "pynvml"
VERSION = "580.65.06"  # of a driver for CUDA 13
SMI = "nvidia-smi"
SHOWS = "import sys; sys.stdout.write(sys.argv[1])"


class Driver:
    """The driver's answers about the cards, by index."""

    def __init__(self, card: Card, tapes: list[Tape]) -> None:
        self.card, self.tapes = card, tapes

    def used(self, index: int) -> int:
        reserved = self.tapes[index].allocator.reserved
        return reserved + self.card.context if reserved else 0

    def memory(self, index: int, *_: Any) -> SimpleNamespace:
        total, used = self.card.total_memory, self.used(index)
        return SimpleNamespace(total=total, used=used, free=max(0, total - used), reserved=0)

    def processes(self, index: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=os.getpid(), usedGpuMemory=self.used(index))]

    def uuid(self, index: int) -> str:
        return f"GPU-00000000-0000-0000-0000-{index:012x}"

    def nvml(self, module: ModuleType) -> Iterator[Patch]:
        """Yield patches of pynvml's functions; a handle is a card's index."""
        answers: dict[str, Callable[..., Any]] = {
            **dict.fromkeys(("nvmlInit", "nvmlInitWithFlags", "nvmlShutdown"), lambda *_: None),
            "nvmlDeviceGetCount": lambda: len(self.tapes),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetHandleByUUID": lambda uuid: int(str(uuid).rpartition("-")[2].strip("'")),
            "nvmlDeviceGetHandleByPciBusId": lambda _: 0,
            "nvmlDeviceGetIndex": lambda index: index,
            "nvmlDeviceGetName": lambda _: self.card.name,
            "nvmlDeviceGetUUID": self.uuid,
            "nvmlDeviceGetMemoryInfo": self.memory,
            "nvmlDeviceGetCudaComputeCapability": lambda _: self.card.capability,
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=0, memory=0),
            "nvmlDeviceGetTemperature": lambda *_: 0,
            "nvmlDeviceGetPowerUsage": lambda _: 0,
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: 0,
            "nvmlDeviceGetClockInfo": lambda *_: 0,
            "nvmlDeviceGetComputeRunningProcesses": self.processes,
            "nvmlDeviceGetGraphicsRunningProcesses": lambda _: [],
            "nvmlSystemGetDriverVersion": lambda: VERSION,
        }
        for name, answer in answers.items():
            yield Patch(module, name, answer)

    def table(self) -> dict[str, Patches]:
        return {MODULE: self.nvml}

    def patches(self) -> Iterator[Patch]:
        """Yield the patch that replaces nvidia-smi by a program that prints our answer."""
        start = subprocess.Popen.__init__

        def started(process: Any, args: Any, *more: Any, **kwargs: Any) -> None:
            words = shlex.split(args) if isinstance(args, str) else [os.fspath(a) for a in args]
            if words and os.path.basename(words[0]) == SMI:
                args = [sys.executable, "-c", SHOWS, self.smi(words[1:])]
                kwargs |= {"shell": False, "executable": None}
            start(process, args, *more, **kwargs)

        yield Patch(subprocess.Popen, "__init__", started)

    def smi(self, words: list[str]) -> str:
        """Return what nvidia-smi prints for the arguments `words`."""
        options = dict(word.lstrip("-").partition("=")[::2] for word in words)
        names = options.get("query-gpu", "index,name,memory.used,memory.total").split(",")
        form = options.get("format", "csv").split(",")
        lines = [] if "noheader" in form else [", ".join(names)]
        for index in range(len(self.tapes)):
            fields = self._fields(index, "" if "nounits" in form else " MiB")
            lines.append(", ".join(fields.get(name.strip(), "[N/A]") for name in names))
        return "\n".join(lines) + "\n"

    def _fields(self, index: int, unit: str) -> dict[str, str]:
        memory = self.memory(index)
        sizes = {f"memory.{n}": getattr(memory, n) // MIB for n in ("total", "used", "free")}
        return {name: f"{size}{unit}" for name, size in sizes.items()} | {
            "index": str(index),
            "name": self.card.name,
            "gpu_name": self.card.name,
            "uuid": self.uuid(index),
            "gpu_uuid": self.uuid(index),
            "count": str(len(self.tapes)),
            "driver_version": VERSION,
            "compute_cap": "{}.{}".format(*self.card.capability),
            "utilization.gpu": "0" + " %" * bool(unit),
            "utilization.memory": "0" + " %" * bool(unit),
            "temperature.gpu": "0",
        }


# torch.profiler

STACKS = "torch.profiler notes no stacks here: they would be of fake tensors"
HOST = "torch.profiler sees the host alone: no kernel runs here"


def profiling(notes: Notes) -> Iterator[Patch]:
    """Yield patches of the profiler, whose C++ would ask the driver at every operation if it
    profiled the device. Ranges of NVTX, with which DeepSpeed marks its functions, are dropped, as
    torch built without CUDA has none."""
    yield Patch(profiler.profile, "__init__", _hosted(profiler.profile.__init__, notes))
    yield Patch(nvtx, "_nvtx", Ranges())


class Ranges:
    """A stand-in for NVTX's ranges and marks, which are dropped. A range's depth, or its handle, is
    0."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_: 0


def _hosted(init: Callable[..., None], notes: Notes) -> Callable[..., None]:
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        device = kwargs.pop("use_device", None) or kwargs.pop("use_cuda", None)
        if device:
            notes(HOST)
            kwargs["use_cpu"] = True
        if kwargs.pop("with_stack", None):
            notes(STACKS)
        init(self, *args, **kwargs)

    return made

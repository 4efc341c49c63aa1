"""The program on the real GPU, and on the fake one: peaks of each phase, read by the same meter.

allocated   torch.cuda.max_memory_allocated     both counters start anew with each phase
reserved    torch.cuda.max_memory_reserved
driver      what a process holds of the device, asked every few milliseconds, at most since the last
            call. A peak between two samples is missed: the figure is a lower bound

    process     NVML's figure for this process
    device      NVML's figure for the device, less what it was before; in a container NVML may not
                know the process
    all         total less free of cudaMemGetInfo, where nvidia-ml-py is not installed or NVML does
                not know the device (a slice of one): every process on it counts
"""

import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memory import LEVELS
from weighbridge.base.records import replace
from weighbridge.faces.charts.tasks import TASKS
from weighbridge.machines.accelerators.names import find
from weighbridge_lab.golden import listening
from weighbridge_lab.measure import history
from weighbridge_lab.measure.record import (
    DONE,
    OOM,
    FakeCard,
    Levels,
    MeasuredMachine,
    MeasuredPhase,
    MeasuredRun,
)
from weighbridge_lab.measure.run import Target

if TYPE_CHECKING:
    from weighbridge_lab.trace.gpu import FakeGPU

START = "start"  # until the program names its first phase


# The driver

SECONDS = 0.005


# The machine

INSTEAD = "`weighbridge trace` answers for any GPU of the catalogue without one"
PACKAGES = ("transformers", "accelerate", "peft", "diffusers", "bitsandbytes", "nvidia-ml-py")
SETTINGS = (
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
)
DRIVER = "/proc/driver/nvidia/version"


# Both sides

SEED = 0


class Meter:
    """Records the peaks by phase of a program that names its phases (`phase`). `driver` returns the
    most bytes since its last call."""

    def __init__(self, driver: Callable[[], int], name: str = START) -> None:
        self._driver = driver
        self._name = name
        self._phases: list[MeasuredPhase] = []
        torch.cuda.reset_peak_memory_stats()

    def __call__(self, name: str) -> None:
        self._close()
        self._name = name

    def listening(self) -> AbstractContextManager[None]:
        """Return a context in which the program's phases are recorded."""
        return listening(self)

    def phases(self) -> tuple[MeasuredPhase, ...]:
        """Return all phases so far. A start phase without allocations is left out."""
        self._close()
        first, *later = self._phases
        idle = later and first.name == START and not first.peak.allocated
        return tuple(later if idle else self._phases)

    def _close(self) -> None:
        torch.cuda.synchronize()
        peak = Levels(
            torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), self._driver()
        )
        self._phases.append(MeasuredPhase(name=self._name, peak=peak))
        torch.cuda.reset_peak_memory_stats()


class TaskMeter:
    """Records the peaks of loading, training and inference of any program, whose task shows in the
    modules that it calls. Phases that it names are ignored."""

    def __init__(self, driver: Callable[[], int]) -> None:
        self._meter, self._task = Meter(driver, "load"), "load"
        self._depth, self._trained = 0, False

    def __call__(self, name: str) -> None:
        """Ignore the phases that the program names."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Watch modules and optimizers of this process."""
        hooks = (
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, always_call=True),
            register_optimizer_step_post_hook(self._stepped),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def phases(self) -> tuple[MeasuredPhase, ...]:
        """Return one phase per task. If no optimizer stepped, nothing was trained."""
        peaks: dict[str, list[Levels]] = {}
        for phase in self._meter.phases():
            name = "infer" if phase.name == "train" and not self._trained else phase.name
            peaks.setdefault(name, []).append(phase.peak)
        return tuple(
            MeasuredPhase(name=name, peak=Levels(*map(max, zip(*peaks[name], strict=True))))
            for name in TASKS
            if name in peaks
        )

    def _before(self, module: torch.nn.Module, _: Any) -> None:
        self._depth += 1
        if self._depth == 1 and next(module.parameters(), None) is not None:
            task = "train" if torch.is_grad_enabled() else "infer"
            if task != self._task:
                self._task = task
                self._meter(task)

    def _after(self, *_: Any) -> None:
        self._depth -= 1

    def _stepped(self, *_: Any) -> None:
        self._trained = True


class DriverMeter:
    """Returns the driver's most bytes since its last call. It must be made before the device is
    used."""

    def __init__(self, index: int = 0) -> None:
        self.kind, self._read = (_nvml(index) if find_spec("pynvml") else None) or _used_on_device(
            index
        )
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


def _used_on_device(index: int) -> tuple[str, Callable[[], int]]:
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


def machine() -> MeasuredMachine:
    """Return this machine's GPU and versions. Raises UnsupportedError without a GPU that torch can
    use."""
    why = _why_not()
    if why:
        raise UnsupportedError(f"{why}; {INSTEAD}")
    gpu = torch.cuda.get_device_properties(0)
    return MeasuredMachine(
        gpu=gpu.name,
        card=_card(gpu.name),
        capability=f"{gpu.major}.{gpu.minor}",
        total_memory=gpu.total_memory,
        driver=_driver(),
        versions=_versions(),
        settings={name: os.environ[name] for name in SETTINGS if name in os.environ},
    )


def _why_not() -> str:
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"measuring needs a GPU, and torch {torch.__version__} is built without CUDA"
    return f"measuring needs a GPU, and torch {torch.__version__} finds none here (nvidia-smi?)"


def _card(name: str) -> str | None:
    try:
        return find(name).part.id
    except UsageError:
        return None


def _driver() -> str | None:
    try:
        with open(DRIVER, encoding="utf-8") as lines:
            words = lines.readline().split()
    except OSError:
        return None
    return next((word for word in words if word[:1].isdigit() and "." in word), None)


def _versions() -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda or torch.version.hip),
        "cudnn": str(torch.backends.cudnn.version()),
    }
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def real(target: Target, events: bool, tasks: bool = False) -> MeasuredRun:
    """Run the target on this machine's GPU and return its peaks; with `events` also its
    allocations."""
    driver = DriverMeter()
    driver.start()
    if events:
        torch.cuda.memory._record_memory_history("all", context=None, max_entries=sys.maxsize)
    run = _metered(target, driver, driver.kind, tasks=tasks)
    driver.stop()
    if not events:
        return run
    entries = torch.cuda.memory._snapshot()["device_traces"][0]
    return replace(run, events=history.of_snapshot(entries))


def fake(target: Target, card: FakeCard, events: bool, tasks: bool = False) -> MeasuredRun:
    """Run the target on a fake card of the catalogue, whatever GPU is here, and return its
    peaks."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from weighbridge_lab.trace.gpu import FakeGPU

    with FakeGPU(card.name, gpu_memory=card.memory, torch_version=card.torch) as gpu:

        def driver() -> int:
            reserved: int = torch.cuda.max_memory_reserved()
            return gpu.card.context + reserved

        run = _metered(target, driver, "context and reserved", tasks=tasks)
        run = replace(run, phases=tuple(_between(phase, gpu) for phase in run.phases))
    if not events:
        return run
    return replace(run, events=history.of_tape(gpu.tape.events, gpu.tape.storages))


def _between(phase: MeasuredPhase, gpu: "FakeGPU") -> MeasuredPhase:
    """Return a traced phase with the interval that `weighbridge trace` gives to a whole program."""
    from weighbridge_lab.trace import levels
    from weighbridge_lab.trace.report import convolves

    like = levels.runs(convolves=convolves(gpu.tape))
    instant = levels.peak(phase.peak.allocated, phase.peak.reserved, gpu.card.outside, like)
    each = [instant.at(level) for level in LEVELS]
    low = Levels(*(min(b.low, point) for b, point in zip(each, phase.peak, strict=True)))
    high = Levels(*(max(b.high, point) for b, point in zip(each, phase.peak, strict=True)))
    return replace(phase, low=low, high=high)


def _metered(
    target: Target, driver: Callable[[], int], kind: str, *, tasks: bool = False
) -> MeasuredRun:
    torch.manual_seed(SEED)
    meter = TaskMeter(driver) if tasks and not target.asks else Meter(driver)
    outcome, started = DONE, perf_counter()
    with meter.listening():
        try:
            target.run()
        except torch.cuda.OutOfMemoryError:
            outcome = OOM
    seconds = perf_counter() - started
    return MeasuredRun(outcome=outcome, phases=meter.phases(), driver=kind, seconds=seconds)

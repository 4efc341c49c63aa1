"""The meter, the driver's figure and the machine, each with a stand-in for what a GPU would say."""

import os
import sys
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch

from weighbridge_lab.measure import meter
from weighbridge_lab.measure.meter import DriverMeter, Meter, TaskMeter
from weighbridge_lab.measure.record import Levels
from weighbridge_lab.trace.gpu import FakeGPU

MIB = 1 << 20
CONTEXT = 300 * MIB


class Counters:
    """torch's two, and the resets."""

    def __init__(self, monkeypatch):
        self.allocated = self.reserved = self.resets = 0
        for name, answer in (
            ("max_memory_allocated", lambda: self.allocated),
            ("max_memory_reserved", lambda: self.reserved),
            ("reset_peak_memory_stats", self.reset),
            ("synchronize", lambda: None),
        ):
            monkeypatch.setattr(torch.cuda, name, answer)

    def reset(self):
        self.resets += 1
        self.allocated = self.reserved = 0

    def hold(self, allocated, reserved):
        self.allocated, self.reserved = allocated, reserved


@pytest.fixture
def counters(monkeypatch):
    return Counters(monkeypatch)


def test_peaks_of_each_phase(counters):
    meter = Meter(lambda: counters.reserved + 5)
    meter("load")
    counters.hold(10, 20)
    meter("step 1")
    counters.hold(30, 40)
    assert [(p.name, p.peak) for p in meter.phases()] == [
        ("load", Levels(10, 20, 25)),
        ("step 1", Levels(30, 40, 45)),
    ]
    assert counters.resets == 4


def test_a_program_without_phases_has_one(counters):
    meter = Meter(lambda: 0)
    counters.hold(10, 20)
    assert [p.name for p in meter.phases()] == ["start"]


def test_a_start_that_allocates_is_kept(counters):
    meter = Meter(lambda: 0)
    counters.hold(10, 20)
    meter("load")
    assert [p.name for p in meter.phases()] == ["start", "load"]


def test_tasks_of_a_program_that_names_nothing(counters):
    meter, module = TaskMeter(lambda: 0), torch.nn.Linear(2, 2)
    steps = torch.optim.SGD(module.parameters(), lr=0.1)
    counters.hold(10, 20)
    with meter.listening():
        for _ in range(2):
            module(torch.ones(1, 2)).sum().backward()
            counters.hold(30, 40)
            steps.step()
            meter("its own name")
            with torch.no_grad():
                torch.nn.Sequential(module)(torch.ones(1, 2))
            counters.hold(15, 40)
    module(torch.ones(1, 2))  # nobody listens any more
    assert [(p.name, p.peak[:2]) for p in meter.phases()] == [
        ("load", (10, 20)),
        ("train", (30, 40)),
        ("infer", (15, 40)),
    ]


def test_a_program_without_an_optimizer_trains_nothing(counters):
    meter = TaskMeter(lambda: 0)
    with meter.listening():
        torch.nn.Linear(2, 2)(torch.ones(1, 2))
        counters.hold(30, 40)
    assert [p.name for p in meter.phases()] == ["load", "infer"]


# The driver's figure


class MissingError(Exception):
    """NVMLError"""


class NVML:
    """Answers as nvidia-ml-py does. `known` is whether it sees our process."""

    def __init__(self, monkeypatch, known=True, handled=True):
        self.used, self.known, self.handled = 1000 * MIB, known, handled
        self.context = threading.Event()
        module = SimpleNamespace(
            NVMLError=MissingError,
            nvmlInit=lambda: None,
            nvmlDeviceGetHandleByUUID=self.handle,
            nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=self.used),
            nvmlDeviceGetComputeRunningProcesses=self.running,
        )
        monkeypatch.setitem(sys.modules, "pynvml", module)
        monkeypatch.setattr(meter, "find_spec", lambda name: name)
        uuid = SimpleNamespace(uuid="f00")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: uuid)
        monkeypatch.setattr(torch.cuda, "synchronize", self.take)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (5000 - 700, 5000))

    def take(self):
        """The context is made."""
        if not self.context.is_set():
            self.context.set()
            self.used += CONTEXT

    def handle(self, uuid):
        assert uuid == "GPU-f00"
        if not self.handled:
            raise MissingError
        return "handle"

    def running(self, handle):
        other = SimpleNamespace(pid=1, usedGpuMemory=1000 * MIB)
        ours = SimpleNamespace(pid=os.getpid(), usedGpuMemory=self.used - 1000 * MIB)
        return [other, ours] if self.known and self.context.is_set() else [other]


@pytest.mark.parametrize(("known", "kind"), [(True, "process"), (False, "device")])
def test_what_others_hold_does_not_count(monkeypatch, known, kind):
    nvml = NVML(monkeypatch, known=known)
    read = DriverMeter()
    assert (read.kind, read()) == (kind, CONTEXT)
    nvml.used += 50 * MIB
    assert read() == CONTEXT + 50 * MIB


def test_a_peak_between_two_calls_is_seen(monkeypatch):
    nvml = NVML(monkeypatch)
    read, seen = DriverMeter(), threading.Event()
    monkeypatch.setattr(meter, "SECONDS", 0.001)
    inner = read._read

    def reading():
        value = inner()
        if value > CONTEXT:
            seen.set()
        return value

    read._read = reading
    read.start()
    nvml.used += 50 * MIB
    assert seen.wait(60)
    nvml.used -= 50 * MIB
    read.stop()
    assert read() == CONTEXT + 50 * MIB
    assert read() == CONTEXT


def test_where_nvml_does_not_know_the_device(monkeypatch):
    NVML(monkeypatch, handled=False)
    read = DriverMeter()
    assert (read.kind, read()) == ("all", 700)


def test_without_nvml(monkeypatch):
    monkeypatch.setattr(meter, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (1, 10))
    read = DriverMeter()
    assert (read.kind, read()) == ("all", 9)


# The machine


def test_a_machine():
    with FakeGPU("t4"):
        here = meter.machine()
    assert here.card == "nvidia-t4"
    assert here.capability == "7.5"
    assert here.versions["torch"] == torch.__version__


def test_a_gpu_that_the_catalogue_does_not_have(monkeypatch):
    assert meter._card("NVIDIA T4") == meter._card("Tesla T4") == "nvidia-t4"
    assert meter._card("Voodoo 2") is None


def test_the_driver_version_is_read(tmp_path, monkeypatch):
    version = tmp_path / "version"
    version.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release"
    )
    monkeypatch.setattr(meter, "DRIVER", str(version))
    assert meter._driver() == "580.65.06"
    monkeypatch.setattr(meter, "DRIVER", str(tmp_path / "nothing"))
    assert meter._driver() is None


def test_settings_that_change_the_outcome_are_kept(monkeypatch):
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:False")
    with FakeGPU("t4"):
        assert meter.machine().settings["PYTORCH_ALLOC_CONF"] == "expandable_segments:False"

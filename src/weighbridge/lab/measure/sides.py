"""The program on the real GPU, and on the fake one: the same meter reads both."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import torch

from weighbridge.lab.golden.phases import listening
from weighbridge.lab.measure import history
from weighbridge.lab.measure.driver import DriverMeter
from weighbridge.lab.measure.meter import Meter
from weighbridge.lab.measure.record import DONE, OOM, FakeCard, MeasuredRun
from weighbridge.lab.measure.target import Target

SEED = 0


def real(target: Target, events: bool) -> MeasuredRun:
    """Run the target on the GPU that is here. `events` keeps its history."""
    driver = DriverMeter()
    driver.start()
    if events:
        torch.cuda.memory._record_memory_history("all", context=None, max_entries=sys.maxsize)
    run = _metered(target, driver, driver.kind)
    driver.stop()
    if not events:
        return run
    entries = torch.cuda.memory._snapshot()["device_traces"][0]
    return replace(run, events=history.of_snapshot(entries))


def fake(target: Target, card: FakeCard, events: bool) -> MeasuredRun:
    """Run the target on a fake card of the catalogue, whatever is here."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from weighbridge.lab.trace.gpu import FakeGPU

    with FakeGPU(card.name, gpu_memory=card.memory, torch_version=card.torch) as gpu:

        def driver() -> int:
            reserved: int = torch.cuda.max_memory_reserved()
            return gpu.card.context + reserved

        run = _metered(target, driver, "context and reserved")
    if not events:
        return run
    return replace(run, events=history.of_tape(gpu.tape.events, gpu.tape.storages))


def _metered(target: Target, driver: Callable[[], int], kind: str) -> MeasuredRun:
    torch.manual_seed(SEED)
    meter, outcome, started = Meter(driver), DONE, perf_counter()
    with listening(meter):
        try:
            target.run()
        except torch.cuda.OutOfMemoryError:
            outcome = OOM
    seconds = perf_counter() - started
    return MeasuredRun(outcome=outcome, phases=meter.phases(), driver=kind, seconds=seconds)

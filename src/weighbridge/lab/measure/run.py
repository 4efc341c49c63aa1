"""Measures targets one after the other, while their predictions are traced beside.

real     on the GPU, one at a time         fake    on the CPU, a few at a time
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from weighbridge._version import __version__
from weighbridge.errors import UnsupportedError, WeighbridgeError
from weighbridge.lab.golden import PROGRAMS
from weighbridge.lab.measure import history
from weighbridge.lab.measure.apart import apart
from weighbridge.lab.measure.record import FakeCard, MeasuredMachine, MeasuredRun, Measurement
from weighbridge.lab.measure.target import Target

WORKERS = 4  # a trace is one thread, and up to a few GiB


class FailedError(WeighbridgeError):
    """A target that did not run to its end, and not for lack of memory."""


def measure(
    targets: Sequence[Target], *, events: bool = False
) -> Iterator[Measurement | FailedError]:
    """Yield a record of each target, as soon as it is there. Raises UnsupportedError without a
    GPU."""
    here = machine(warm=all(target.golden for target in targets))
    workers = min(WORKERS, max(1, (os.cpu_count() or 1) // 2))
    with ThreadPoolExecutor(workers) as pool:
        beside = [pool.submit(predict, target, here, events) for target in targets]
        for target, prediction in zip(targets, beside, strict=True):
            yield _one(target, here, prediction, events)


def machine(*, warm: bool) -> MeasuredMachine:
    """Return the GPU and the versions. Raises UnsupportedError."""
    measured_machine: MeasuredMachine = apart("weighbridge.lab.measure.machine:machine", warm=warm)
    return measured_machine


def predict(target: Target, here: MeasuredMachine, events: bool) -> MeasuredRun:
    """Trace `target` on the card that is here. Raises WeighbridgeError."""
    if here.card is None:
        raise UnsupportedError(f"{here.gpu} is not in our catalogue: `weighbridge gpus`")
    return traced(target, FakeCard(name=here.card, memory=f"{here.total_memory}B"), events=events)


def traced(target: Target, card: FakeCard, *, events: bool = False) -> MeasuredRun:
    """Trace `target` on any card. Raises WeighbridgeError."""
    run: MeasuredRun = apart(
        "weighbridge.lab.measure.sides:fake", target, card, events, warm=target.golden
    )
    return run


def _one(
    target: Target, here: MeasuredMachine, prediction: Future[MeasuredRun], events: bool
) -> Measurement | FailedError:
    missing = PROGRAMS[target.name].missing if target.golden else []
    if missing:
        return FailedError(f"{target}: needs {', '.join(missing)}: pip install {' '.join(missing)}")
    try:
        side = "weighbridge.lab.measure.sides:real"
        measured: MeasuredRun = apart(side, target, events, warm=target.golden)
    except WeighbridgeError as error:
        return FailedError(f"{target}: {error}")
    record = Measurement(
        target=str(target),
        date=datetime.now(UTC).date().isoformat(),
        version=__version__,
        machine=here,
        measured=measured,
    )
    try:
        return _beside(record, prediction.result())
    except WeighbridgeError as error:
        return replace(record, note=f"not predicted: {error}")


def _beside(record: Measurement, predicted: MeasuredRun) -> Measurement:
    events = record.measured.events
    if events is None or predicted.events is None:
        return replace(record, predicted=predicted)
    allocated, reserved = history.replay(events)
    compared = history.compare(events, predicted.events) | {
        "replayed": {"allocated": allocated, "reserved": reserved}
    }
    return replace(record, predicted=predicted, history=compared)

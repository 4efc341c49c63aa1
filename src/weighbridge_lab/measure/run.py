"""Measures targets one after another, while their predictions are traced in parallel.

real     on the GPU, one at a time         fake    on the CPU, a few at a time

A target is a golden program's name, `script.py`, or `script.py:function`. Each run is a function in
a process of its own: no cache, context or counter of another run is in it. The function is named
("module:function"), so that the caller need not import what it imports. A process for a golden
program starts from one that has torch imported and has done nothing with it (multiprocessing's fork
server), one for a script from nothing.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib import import_module
from multiprocessing import (
    get_all_start_methods,
    get_context,
    parent_process,
    set_start_method,
)
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from weighbridge.base._version import __version__
from weighbridge.base.errors import NotFoundError, UnsupportedError, UsageError, WeighbridgeError
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge_lab.golden import PROGRAMS, find
from weighbridge_lab.measure import history
from weighbridge_lab.measure.record import FakeCard, MeasuredMachine, MeasuredRun, Measurement
from weighbridge_lab.measure.tasks import TASKS, absent, paired, written
from weighbridge_lab.measure.tasks import run as run_question
from weighbridge_lab.trace.program import as_python, execute, request

WORKERS = 4  # a trace is one thread, and up to a few GiB


# Processes

WARM = ["torch", "transformers"]
LIMIT = 600  # seconds


# Targets

ALL = "golden"
DEVICE = "cuda"


@frozen_record
class Target:
    """A program to measure. `name` is a golden program's, or a script's path, with one `function`
    of it; or it is a task, such as `infer` or `train`, with command-line words as `arguments`."""

    name: str
    function: str = ""
    arguments: tuple[str, ...] = ()
    card: str = ""  # card of a task's prediction

    @property
    def golden(self) -> bool:
        return self.name in PROGRAMS

    @property
    def asks(self) -> bool:
        return self.name in TASKS

    @property
    def warm(self) -> bool:
        return self.golden or self.asks

    def __str__(self) -> str:
        if self.asks:
            return " ".join((self.name, *self.arguments))
        return f"{self.name}:{self.function}" if self.function else self.name

    def run(self) -> None:
        """Run it in this process, on the current CUDA device."""
        if self.asks:
            run_question(self.name, self.arguments, self.card)
        elif self.golden:
            find(self.name).load()(DEVICE)
        else:
            self._program()

    def _program(self) -> None:
        program = request(str(self), self.arguments)
        with as_python(program) as main:
            try:
                execute(program, main)
            except SystemExit as end:
                if end.code not in (None, 0):
                    line = sentence("script.exit", name=self.name, code=end.code)
                    raise UsageError(line) from None


def targets(text: str, arguments: tuple[str, ...] = ()) -> list[Target]:
    """Return the targets that `text` names. Raises UsageError."""
    if text in TASKS:
        return [] if written(text, arguments) else [Target(name=text, arguments=arguments)]
    path, _, function = text.rpartition(":")
    if text.endswith(".py") or path.endswith(".py"):
        script = path if path.endswith(".py") else text
        if not os.path.isfile(script):
            raise NotFoundError(sentence("path.none"), where=script)
        named = function if script == path else ""
        return [Target(name=script, function=named, arguments=arguments)]
    if arguments:
        raise UsageError(sentence("script.argument", word=arguments[0], text=text))
    if text == ALL:
        return [Target(name=name) for name in PROGRAMS]
    if "*" in text:
        matching = [Target(name=name) for name in PROGRAMS if fnmatchcase(name, text)]
        if not matching:
            raise NotFoundError(sentence("golden.like", name=text))
        return matching
    return [Target(name=find(text).name)]


class FailedError(WeighbridgeError):
    """Raised for a target that did not run to its end, for another reason than lack of memory."""


def measure(
    targets: Sequence[Target], *, events: bool = False, tasks: bool = False
) -> Iterator[Measurement | FailedError]:
    """Yield each target's record as soon as it is complete; with `tasks`, its phases are loading,
    training and inference. Raises UnsupportedError without a GPU."""
    if not targets:
        return
    here = machine(warm=all(target.warm for target in targets))
    targets = [replace(target, card=here.card or "") for target in targets]
    workers = min(WORKERS, max(1, (os.cpu_count() or 1) // 2))
    with ThreadPoolExecutor(workers) as pool:
        beside = [pool.submit(predict, target, here, events, tasks) for target in targets]
        for target, prediction in zip(targets, beside, strict=True):
            yield _measurement(target, here, prediction, events, tasks)


def machine(*, warm: bool) -> MeasuredMachine:
    """Return the GPU and the versions. Raises UnsupportedError."""
    measured_machine: MeasuredMachine = apart("weighbridge_lab.measure.meter:machine", warm=warm)
    return measured_machine


def predict(
    target: Target, here: MeasuredMachine, events: bool, tasks: bool = False
) -> MeasuredRun:
    """Return the traced run of `target` on this machine's card. Raises WeighbridgeError."""
    if here.card is None:
        raise UnsupportedError(sentence("card.not_ours", name=here.gpu))
    if target.asks:
        run: MeasuredRun = apart(
            "weighbridge_lab.measure.tasks:predicted", target.name, target.arguments, here.card
        )
        return run
    card = FakeCard(name=here.card, memory=f"{here.total_memory}B")
    return traced(target, card, events=events, tasks=tasks)


def traced(
    target: Target, card: FakeCard, *, events: bool = False, tasks: bool = False
) -> MeasuredRun:
    """Return the traced run of `target` on any card. Raises WeighbridgeError."""
    run: MeasuredRun = apart(
        "weighbridge_lab.measure.meter:fake", target, card, events, tasks, warm=target.golden
    )
    return run


def _measurement(
    target: Target,
    here: MeasuredMachine,
    prediction: Future[MeasuredRun],
    events: bool,
    tasks: bool,
) -> Measurement | FailedError:
    missing = PROGRAMS[target.name].missing if target.golden else []
    if missing:
        return FailedError(f"{target}: needs {', '.join(missing)}: pip install {' '.join(missing)}")
    try:
        side = "weighbridge_lab.measure.meter:real"
        measured: MeasuredRun = apart(side, target, events, tasks, warm=target.warm)
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
        predicted = prediction.result()
        if target.asks:
            measured, predicted = paired(measured, predicted)
        return _beside(replace(record, measured=measured), predicted)
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


def apart(function: str, *arguments: Any, warm: bool = False) -> Any:
    """Return the result of `function` in another process. Raises its error, if it is one of
    ours."""
    receive, process = _started(function, arguments, warm)
    try:
        if not receive.poll(LIMIT):
            raise UnsupportedError(sentence("process.silent", seconds=LIMIT))
        value = receive.recv()
    except EOFError:
        process.join()
        raise UnsupportedError(sentence("process.exit", code=process.exitcode)) from None
    finally:
        process.kill()
        process.join()
    if isinstance(value, WeighbridgeError):
        raise value
    return value


def _started(function: str, arguments: tuple[Any, ...], warm: bool) -> tuple[Connection, Any]:
    served = warm and "forkserver" in get_all_start_methods()
    context: Any = get_context("forkserver" if served else "spawn")
    if served:
        context.set_forkserver_preload(WARM)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(send, function, arguments))
    process.start()
    send.close()
    return receive, process


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended. It is no multiprocessing daemon, as these
    cannot start processes, which a DataLoader's workers are."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _answer(send: Connection, function: str, arguments: tuple[Any, ...]) -> None:
    _end_with_parent()
    set_start_method(None, force=True)  # the program starts processes as it does by itself
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the program prints goes to stderr
    value: Any
    try:
        module, _, name = function.partition(":")
        value = getattr(import_module(module), name)(*arguments)
    except WeighbridgeError as error:
        value = error
    except ModuleNotFoundError as error:
        value = absent(error)
    except Exception as error:
        value = UnsupportedError(f"{type(error).__name__}: {error}")
    send.send(value)

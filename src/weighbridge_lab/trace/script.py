"""Runs an unmodified script (`program`) on the fake GPU, in this process.

Its exceptions are shown as Python shows them; what was recorded before them stays.
"""

import contextlib
import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.records import field, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.budget import budget
from weighbridge.machines.allocator import OutOfMemory, parse
from weighbridge_lab.trace import levels, notebooks, places, program
from weighbridge_lab.trace.cards import classes
from weighbridge_lab.trace.differences import settled
from weighbridge_lab.trace.distributed import enough_cards, sharing, together
from weighbridge_lab.trace.inputs import Input, needs_torch
from weighbridge_lab.trace.places import Turns
from weighbridge_lab.trace.program import Request
from weighbridge_lab.trace.report import (
    STOPPED,
    DeviceTrace,
    Ending,
    Gpu,
    TracedProgram,
    TraceReport,
    needed,
    verdict,
)
from weighbridge_lab.trace.steady import LeftLoop, Loops
from weighbridge_lab.trace.tape import Tape
from weighbridge_lab.trace.unseen import on_left, untrained

WENT_ON = "{place}: {message} The run goes on as if the card were larger"
DEFAULT_GPU = "a100-80gb"  # used for its kernels if the user names no card
NO_END = "1024TiB"  # of memory in that case
LONGEST = 300  # characters of an error's line
ALL = -1  # rounds
INTERRUPTED = 130  # 128 + SIGINT
TIME_UP = 124  # as of timeout(1)


@frozen_record
class FakeGpuSettings:
    """The fake card: the arguments of FakeGPU as on a command line."""

    gpu: str | None = None
    gpu_memory: str | None = None
    torch_version: str | None = None
    alloc_conf: str | None = None
    history: bool = False  # what a snapshot needs
    processes: int | None = None  # of a launcher, on each of `nodes`; -1 is one per card
    nodes: int = 1
    node: int = 0
    world_size: int | None = None  # set by the user
    rank: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)  # environment variables
    assume: Mapping[str, float] = field(default_factory=dict)  # name or place -> value
    steps: int | None = ALL  # rounds of loops that train; None: until they are alike
    seconds: float | None = None  # that it may run
    host_memory: int | None = None  # bytes that it may have of the machine
    notes: tuple[str, ...] = ()  # what we do not know in a launcher's line
    network: bool = False
    stubs: tuple[str, ...] = ()  # packages that are missing
    sample: tuple[Input, ...] = ()  # of data sets that are missing
    second: Callable[[], Sequence[int]] | None = None  # cards that the second process uses


def trace(request: Request, card: FakeGpuSettings) -> tuple[TraceReport, Any]:
    """Run a program. Return (report, the FakeGPU with its tapes). Raises WeighbridgeError before
    the script runs; after that everything that happens is in the report."""
    needs_torch()
    _said_well(card)
    from weighbridge_lab.trace.gpu import version_of
    from weighbridge_lab.trace.keeping.apart import preserved
    from weighbridge_lab.trace.stopping import bounded, stoppable

    if card.alloc_conf is not None:
        parse(card.alloc_conf, version_of(card.torch_version), name="--alloc-conf")

    enough_cards(card.gpu, card.processes)
    gpu = simulated(card)
    keeping = preserved(gpu.notes, network=card.network)
    with program.as_python(request) as main, _set(card.variables), keeping, gpu:
        for tape in gpu.tapes:
            tape.goes_on = _larger(gpu.notes)
        turns = Turns()
        loops = Loops(gpu.tapes, lambda: gpu.recorder.worked, card.steps)
        gpu.loops = loops if card.steps != ALL else None
        following = program.following(loops) if gpu.loops else contextlib.nullcontext()
        stopped = stoppable(gpu.recorder, card.seconds)
        with following, bounded(card.host_memory), _isolated(card, gpu), stopped:
            gpu.notes.each(card.notes)
            ran = _run(request, main, turns, gpu.loops, card.gpu or DEFAULT_GPU)
        ran = _with_course(_stopped(ran, gpu.recorder.rang), request, gpu.tapes)
        gpu.notes.each(map(on_left, loops.left.values()))
        gpu.notes.each(turns.lines(gpu.recorder.looks.places.values()))
    shared = sharing(request.script, gpu, card.second)
    if shared > 1:
        gpu.notes(sentence("trace.one_card", processes=shared))
    return report_of(ran, gpu, card, tuple(loops.left.values()), shared), gpu


def _stopped(ran: TracedProgram, rang: tuple[BaseException, str] | None) -> TracedProgram:
    """Return the record of a program, noting that it was stopped from outside, even if it caught
    that and ended in its own way."""
    if rang is None or ran.ending in (*STOPPED, "out of memory"):
        return ran
    error, place = rang
    return replace(ran, place=place, advice="", error="", **_ended_by(error, ""))


def _with_course(ran: TracedProgram, request: Request, tapes: Sequence[Tape]) -> TracedProgram:
    """Return the record with how long a program's peak was settled, or how to run a net that it
    only defines."""
    from weighbridge_lab.trace.advice import of_unused

    if ran.ending in STOPPED:
        return replace(ran, settled=min(map(settled, filter(_used, tapes)), default=0))
    unused = ran.ended and not any(map(_used, tapes))
    return replace(ran, advice=of_unused(request.script)) if unused else ran


def simulated(card: FakeGpuSettings) -> Any:
    """Return the FakeGPU for these settings, with endless memory unless they name a card or a
    size."""
    from weighbridge_lab.trace.gpu import FakeGPU

    return FakeGPU(
        card.gpu or DEFAULT_GPU,
        gpu_memory=card.gpu_memory if _limited(card) else NO_END,
        torch_version=card.torch_version,
        alloc_conf=card.alloc_conf,
        history=card.history,
        assume=card.assume,
        **_processes(card),
    )


@contextlib.contextmanager
def _isolated(card: FakeGpuSettings, gpu: Any) -> Iterator[None]:
    """Isolate a script from this machine inside the block, with stand-ins for what is missing."""
    from weighbridge_lab.trace.keeping.audit import heard
    from weighbridge_lab.trace.patches import arriving, each_once, patched
    from weighbridge_lab.trace.patches.missing import MissingData
    from weighbridge_lab.trace.patches.outside import Outside
    from weighbridge_lab.trace.stubs import Stubs, extensions

    outside = Outside(gpu.notes, gpu.recorder, network=card.network)
    missing = MissingData(card.sample, gpu.notes).patches() if card.sample else ()
    with (
        patched((*outside.patches(), *missing)) as undo,
        heard(outside.hooks),
        arriving(outside.table() | extensions(card.stubs, gpu.notes), undo, gpu.notes),
        Stubs(card.stubs, gpu.notes),
        each_once(lambda: (*gpu.notes.lines, *gpu.recorder.looks.told)),
    ):
        yield


def _limited(card: FakeGpuSettings) -> bool:
    """Return whether the card's memory has an end."""
    return card.gpu is not None or card.gpu_memory is not None


def _said_well(card: FakeGpuSettings) -> None:
    """Check the settings before anything runs. Raises UsageError in the command line's terms."""
    if card.torch_version is not None and not re.match(r"\d+\.\d+", card.torch_version):
        raise UsageError(sentence("trace.torch_version", version=card.torch_version))
    size = card.world_size
    if size is not None and size < 1:
        raise UsageError(sentence("world.least"), where=f"--world-size {size}")
    if size is None and card.processes is not None:
        size = _processes(card)["world_size"]
    if card.rank is not None and size is not None and not 0 <= card.rank < size:
        line = sentence("world.rank", size=size, last=size - 1)
        raise UsageError(line, where=f"--rank {card.rank}")


def _processes(card: FakeGpuSettings) -> dict[str, Any]:
    """Return FakeGPU's arguments on which process of how many this is."""
    if card.world_size is not None:
        return {"world_size": card.world_size, "rank": card.rank or 0}
    if card.processes is None:
        return {}
    each = card.processes
    if each < 0:
        chosen = budget(card.gpu or DEFAULT_GPU, None, None)
        each = chosen.choice.count if chosen else 1
    first = card.node * each
    return {
        "world_size": each * card.nodes,
        "per_node": each,
        "rank": first if card.rank is None else card.rank,
    }


@contextlib.contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _larger(notes: Callable[[str], None]) -> Callable[[OutOfMemory], bool]:
    """Return a function that decides whether a run goes on after a refused request. If the program
    would not catch the error, its further run is as on a larger card."""
    import torch

    def goes_on(report: OutOfMemory) -> bool:
        frame = sys._getframe(1)
        if program.catches(torch.cuda.OutOfMemoryError, frame, program.execute.__code__):
            return False
        notes(WENT_ON.format(place=places.line() or "the script", message=report.message))
        return True

    return goes_on


def _refused(ran: TracedProgram, tapes: Sequence[Tape]) -> TracedProgram:
    """Return the record of a program that ran out of memory. Its card was too small, however it
    went on; or it caught the error, and the refused request was never granted, however it ended."""
    unserved = [tape for tape in tapes if tape.refused and not tape.recovered]
    if not unserved or ran.ending == "out of memory":
        return ran
    refused = unserved[0].refused[-1]
    went_on: Ending | None = None
    if unserved[0].outgrown:
        went_on = "finished" if ran.ended else ran.ending
    error = f"torch.OutOfMemoryError: {refused.report.message}"[:LONGEST]
    place = str(refused.storage.line or "")
    return replace(
        ran, ending="out of memory", went_on=went_on, exit_code=1, error=error, place=place
    )


def _used(tape: Tape) -> bool:
    return bool(tape.storages)


def _run(
    request: Request, main: types.ModuleType, turns: Turns, loops: Loops | None, card: str
) -> TracedProgram:
    ran = TracedProgram(
        script=f"-m {request.script}" if request.module else request.script,
        function=request.function,
        arguments=request.arguments,
    )
    ours = os.getpid()
    try:
        program.execute(request, main, turns, loops)
    except BaseException as error:
        if os.getpid() != ours:
            _child_left(error)
        if isinstance(error, UsageError | BadFileError) and _is_ours(request):
            raise
        place = places.ended(error.__traceback__)
        return replace(ran, place=str(place or ""), **_ended_by(error, card))
    if os.getpid() != ours:
        _child_left(SystemExit(0))
    return replace(ran, loss=getattr(request.then, "loss", ""))


def _child_left(error: BaseException) -> None:
    """End a copy of this process that the script made (os.fork) as Python would, since the report
    is its parent's."""
    code = _status(error) if isinstance(error, SystemExit) else bool(_shown(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_ours(request: Request) -> bool:
    """Return whether errors of ours are about what the user named: a net, or a notebook."""
    return request.then is not None or request.script.endswith(notebooks.SUFFIX)


def _ended_by(error: BaseException, card: str) -> dict[str, Any]:
    """Return how a program ended that raised `error`, as fields of TracedProgram."""
    from weighbridge_lab.trace.advice import advice
    from weighbridge_lab.trace.stopping import TimeUpError

    if isinstance(error, SystemExit):
        code = _status(error)
        return {"ending": "exit", "exit_code": code, "advice": advice(error, card) if code else ""}
    if isinstance(error, TimeUpError):
        return {"ending": "time is up", "exit_code": TIME_UP}
    if isinstance(error, KeyboardInterrupt):
        return {"ending": "interrupted", "exit_code": INTERRUPTED, "error": _shown(error)}
    ending: Ending = "out of memory" if _is_oom(error) else "exception"
    return {"ending": ending, "exit_code": 1, "error": _shown(error), "advice": advice(error, card)}


def _status(end: SystemExit) -> int:
    """Return the exit code of sys.exit: None is 0, a number its low byte, anything else is
    printed."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    sys.stdout.flush()
    sys.stderr.write(f"{end.code}\n")
    return 1


def _shown(error: BaseException) -> str:
    """Print an error as Python does, without our own frames. Return its last line."""
    from weighbridge_lab.trace import refusals

    for one in places.causes(error):
        one.__traceback__ = refusals.trimmed(one.__traceback__)
    explanation = refusals.explanation(error)
    sys.stdout.flush()
    if explanation:
        for line in traceback.format_tb(error.__traceback__):
            sys.stderr.write(line)
        sys.stderr.write(f"weighbridge: {explanation}\n")
        return explanation[:LONGEST]
    sys.excepthook(type(error), error, error.__traceback__)
    return traceback.format_exception_only(error)[-1].strip().partition("\n")[0][:LONGEST]


def _is_oom(error: BaseException | None) -> bool:
    """Return whether memory ran out, even if a library raised its own error because of it."""
    import torch

    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            return True
        error = error.__cause__
    return False


def _devices(gpu: Any, shared: int, *, later_rounds: bool) -> tuple[DeviceTrace, ...]:
    """Return the devices that were used, or the process's own; `shared` processes use each."""
    used = [i for i, tape in enumerate(gpu.tapes) if tape.storages or tape is gpu.tape]
    devices = tuple(map(gpu.device, used))
    more = levels.LATER if later_rounds else 0  # of what rounds take that were left
    return tuple(together(d, levels.widened(d.driver, more), shared) for d in devices)


def report_of(
    ran: TracedProgram,
    gpu: Any,
    card: FakeGpuSettings,
    loops: tuple[LeftLoop, ...] = (),
    shared: int = 1,
) -> TraceReport:
    """Return the report of a program that ran on a FakeGPU."""
    import torch

    ran, limited = _refused(ran, gpu.tapes), _limited(card)
    device_name = Gpu(
        id=gpu.card.id,
        name=gpu.card.name,
        count=len(gpu.tapes),
        memory=gpu.card.total_memory,
        limited=limited,
    )
    devices = _devices(gpu, shared, later_rounds=any(loop.still for loop in loops))
    limit = budget(card.gpu or DEFAULT_GPU, card.gpu_memory, None) if limited else None
    at_most = tuple(gpu.recorder.looks.most)
    least, most, judged = gpu.compiled(), needed(devices, ran), None
    compiled = None if least is None else most._replace(low=min(least, most.low))
    if limit:
        judged = verdict(device_name, limit.usable, devices, ran, at_most, loops, compiled=compiled)
    alone = len(devices) == 1 and shared == 1 and compiled is None and not gpu.tape.recovered
    whole = ran.ended and not untrained(loops) and bool(gpu.tape.storages)
    itself = judged.fits if judged and not card.gpu_memory else None
    known = (
        classes(devices[0], gpu.card, itself, whole=whole, at_most=bool(at_most)) if alone else ()
    )
    return TraceReport(
        program=ran,
        gpu=device_name,
        torch_version=torch.__version__,
        rules=".".join(map(str, gpu.version)),
        devices=devices,
        alloc_conf=card.alloc_conf or "",
        verdict=judged,
        warnings=(*gpu.recorder.looks.told, *gpu.notes.lines),
        looks=gpu.looks,
        at_most=at_most,
        compiled=compiled,
        loops=loops,
        cards=known,
    )

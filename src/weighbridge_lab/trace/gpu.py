"""A GPU of the catalogue that is not there: torch code inside runs as on it, and is recorded.

with FakeGPU("a100-80gb") as gpu:
    model = Net().to("cuda")
    ...
gpu.tape.allocated.nbytes
"""

import contextlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import release
from weighbridge.machines.allocator import (
    Allocator,
    AllocatorOptions,
    Journal,
    from_environment,
    parse,
)
from weighbridge.machines.kernels import workspaces
from weighbridge_lab.trace import fused, guard, levels
from weighbridge_lab.trace.attention import Chooser
from weighbridge_lab.trace.card import card
from weighbridge_lab.trace.carriers import carried
from weighbridge_lab.trace.distributed import launched, world
from weighbridge_lab.trace.distributed.groups import Groups, collectives
from weighbridge_lab.trace.distributed.parallel import replicas, sharding
from weighbridge_lab.trace.hidden import Hidden
from weighbridge_lab.trace.keeping import audit
from weighbridge_lab.trace.kernels import registered
from weighbridge_lab.trace.patches import Notes, Patch, arriving, libraries, patched, put
from weighbridge_lab.trace.patches.compilers import compilers
from weighbridge_lab.trace.patches.driver import Driver, profiling
from weighbridge_lab.trace.patches.files import FilePatches, both
from weighbridge_lab.trace.patches.repeats import MODULE as REPEATED
from weighbridge_lab.trace.patches.repeats import Repeats
from weighbridge_lab.trace.patches.runtime import runtime
from weighbridge_lab.trace.patches.streams import graphs
from weighbridge_lab.trace.patches.tensors import devices, modules, values
from weighbridge_lab.trace.places import Assume, ValueQuestion
from weighbridge_lab.trace.recorder import Recorder
from weighbridge_lab.trace.report import DeviceTrace, convolves, device
from weighbridge_lab.trace.standins import standins
from weighbridge_lab.trace.steady import Loops
from weighbridge_lab.trace.tape import Tape
from weighbridge_lab.trace.trainers import MODULE as TRAINER
from weighbridge_lab.trace.trainers import Trained
from weighbridge_lab.trace.watch import ModuleWatch

# torch's compiler: fake modes read its settings, and would import it, which takes seconds

COMPILER = "torch._dynamo"
LEFT_ALIGNED = torch.ops.aten._nested_tensor_from_mask_left_aligned.default


class FakeGPU:
    """A card of the catalogue, or several, on which torch code inside the block runs and is
    recorded.

    `torch_version` ("2.5") chooses rules of workspaces and kernels; the installed torch runs. With
    `world_size` this is process `rank` of that many, `per_node` of them on its machine. `history`
    keeps what a snapshot needs. `assume` gives values that a program looks at: {"loss": 1.0,
    "train.py:31": 0.5}, or a function of a ValueQuestion. Raises UnsupportedError if torch cannot.
    """

    def __init__(  # noqa: PLR0913  the card's settings, and the launcher's
        self,
        name: str = "a100-80gb",
        *,
        count: int = 1,
        torch_version: str | None = None,
        gpu_memory: str | None = None,
        alloc_conf: str | None = None,
        history: bool = False,
        world_size: int | None = None,
        rank: int = 0,
        per_node: int | None = None,
        assume: Assume | None = None,
    ) -> None:
        self.card, named = card(name, gpu_memory)
        self.world = None if world_size is None else world(world_size, rank, per_node)
        self.version = version_of(torch_version)
        self.alloc_conf = alloc_conf
        if alloc_conf is not None:
            parse(alloc_conf, self.version, name="alloc_conf")  # checked before anything runs
        self.history = history
        beside = self.world.per_node if self.world else 1
        self.tapes = [self._tape(index) for index in range(max(count, named, beside))]
        self.recorder = Recorder(self.tapes, Hidden(self.card, self.version), assume)
        self.notes = Notes()
        self.loops: Loops | None = None  # whose rounds are followed
        self.trained = Trained()
        self._files = FilePatches(self.notes)
        self._groups = Groups(self.world, self.notes)
        self._stack = contextlib.ExitStack()

    @property
    def tape(self) -> Tape:
        """Return the tape of the first device; in a launched process, of its own device."""
        return self.tapes[self.world.local_rank if self.world else 0]

    @property
    def devices(self) -> tuple[DeviceTrace, ...]:
        """Return each device's record so far: peaks, their moments and what was live then."""
        return tuple(map(self.device, range(len(self.tapes))))

    def device(self, index: int) -> DeviceTrace:
        """Return one device's record so far."""
        measured = workspaces.is_measured(self.card.capability, self.version)
        return device(index, self.tapes[index], self.card.outside, measured=measured)

    def compiled(self) -> int | None:
        """Return a lower bound of the driver level of the device with most memory, if code was to
        be compiled that ran eagerly here. None if none is compiled; 0 if no bound is known: a
        program recovered from a refused request, or its sizes are upper bounds."""
        ways = self.recorder.compiled
        if ways is None:
            return None
        if self.recorder.looks.most or any(tape.recovered for tape in self.tapes):
            return 0
        return max(self._least(tape, fused.least(tape, ways)) for tape in self.tapes)

    def _least(self, tape: Tape, nbytes: int) -> int:
        """Return the lower bound of the driver level for `nbytes` of allocated memory."""
        like = levels.runs(convolves=convolves(tape))
        return levels.peak(nbytes, nbytes, self.card.outside, like).at("driver").low

    @property
    def looks(self) -> tuple[ValueQuestion, ...]:
        """Return the places where the program looked at unknown values, and the values it got."""
        return tuple(look for _, look in self.recorder.looks.places.values())

    def _tape(self, index: int) -> Tape:
        """Return a device's tape. Its allocator reads its settings at the first request, as torch's
        does."""
        allocator = Allocator(
            capacity=self.card.total_memory - self.card.context,
            card=self.card.total_memory,
            journal=Journal(history=self.history),
            device=index,
        )
        return Tape(allocator, begin=lambda: allocator.configure(self._options()))

    def _options(self) -> AllocatorOptions:
        if self.alloc_conf is not None:
            return parse(self.alloc_conf, self.version, name="alloc_conf")
        return from_environment(os.environ, self.version)

    def __enter__(self) -> "FakeGPU":
        reason = guard.why_not()
        if reason:
            raise UnsupportedError(reason)
        with self._stack:
            enter = self._stack.enter_context
            if not audit.is_at_work():
                enter(audit.preserved(children=True))
            enter(guard.guarded())
            enter(_settings_restored())
            enter(_quiet())
            enter(launched(self.world))
            table = *runtime(self.card, self.recorder), *modules(), *values(), *carried()
            driver = Driver(self.card, self.tapes)
            table = *table, *graphs(self.recorder), *profiling(self.notes), *driver.patches()
            table = *table, *compilers(self.notes, self.recorder)
            processes = *self._groups.patches(), *replicas(self.recorder), *devices()
            undo = enter(patched([*table, *processes, *self._files.patches()]))
            self._stack.callback(self._files.close)
            self._stack.callback(self._groups.close)
            repeats = Repeats(self.recorder)
            late = (
                self._files.table()
                | driver.table()
                | standins(self.recorder)
                | libraries.detectors()
                | sharding(self.notes)
                | {
                    REPEATED: repeats.table,
                    libraries.CACHES: libraries.caches(self.recorder),
                    libraries.GENERATION: libraries.beams,
                    TRAINER: self.trained.patches,
                    libraries.CALLBACKS: both(
                        libraries.stopping(self.notes), libraries.steady(lambda: self.loops)
                    ),
                }
            )
            enter(arriving(late, undo, self.notes))
            waiting = libraries.Libraries()
            fakes = enter(without_compiler(partial(Fakes, allow_non_fake_inputs=True)))
            enter(fakes)
            self.recorder.replaced |= collectives()
            kernels = registered(Chooser(self.card, self.version), self.recorder.looks.bounded)
            self.recorder.replaced |= enter(kernels)
            self.recorder.replaced[LEFT_ALIGNED] = self.recorder.looks.padded
            enter(self.recorder)
            enter(patched(threads(fakes, self.recorder)))
            watch = ModuleWatch(self.recorder, lambda: undo.extend(map(put, waiting.arrived())))
            enter(watch)
            repeats.path = watch.path
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self.recorder.stop()


def version_of(text: str | None) -> tuple[int, int]:
    """Return (major, minor) of `text`, else of the installed torch. Raises UsageError."""
    version = release(text or torch.__version__)
    if version is None:
        raise UsageError(sentence("trace.torch"), where=f"torch_version={text!r}")
    return version


class Fakes(FakeTensorMode):  # type: ignore[misc]
    """The mode in which tensors are fake. torch wraps this method of modes to keep the compiler
    away, and imports it for that; nothing is compiled here. Whether a kernel runs is kept per
    thread."""

    __torch_dispatch__ = inspect.unwrap(FakeTensorMode.__torch_dispatch__)
    _kernel = threading.local()

    @property
    def in_kernel_invocation(self) -> bool:
        return getattr(self._kernel, "runs", False)

    @in_kernel_invocation.setter
    def in_kernel_invocation(self, runs: bool) -> None:
        self._kernel.runs = runs

    def __deepcopy__(self, _: Any) -> "Fakes":
        """Return the mode itself, as a tensor's copy has the same mode. torch would copy the mode
        and what it holds in C."""
        return self

    def create_symbolic_nested_int(self, *, nt_tensor_id: int | None = None) -> Any:
        """Return a number for a jagged dimension; it is no symbol here."""
        from torch.nested._internal.nested_int import NestedIntNode

        if nt_tensor_id is None:
            nt_tensor_id = self.nt_tensor_id_counter
            self.nt_tensor_id_counter += 1
        return torch.SymInt(NestedIntNode(nt_tensor_id, 1))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


@contextlib.contextmanager
def _settings_restored() -> Any:
    """Restore, after the block, what scripts set and torch keeps for the process."""
    dtype, grad, device = torch.get_default_dtype(), torch.is_grad_enabled(), _default_device()
    random, hook = torch.get_rng_state(), sys.excepthook  # a group of processes puts its own there
    try:
        yield
    finally:
        sys.excepthook = hook
        torch.set_rng_state(random)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if _default_device() is not device:
            torch.set_default_device(None if device is None else device.device)


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence, inside the block, the logger that shows errors of torch's fake kernels before the
    program sees them."""
    log = logging.getLogger(FakeTensorMode.__module__)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _default_device() -> Any:
    """Return the default device; torch.get_default_device would make a tensor on it."""
    return getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)


def threads(*modes: AbstractContextManager[Any]) -> Iterator[Patch]:
    """Yield the patches with which each thread of a program enters torch's modes, which are per
    thread. `run` may be a subclass's own; `_bootstrap_inner`, which calls it, is Thread's."""
    inner: Any = vars(threading.Thread)["_bootstrap_inner"]

    def entered(self: threading.Thread) -> None:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            inner(self)

    yield Patch(threading.Thread, "_bootstrap_inner", entered)


class CompilerSettings:
    """A stand-in for `torch._dynamo` until it is imported."""

    def __init__(self, config: ModuleType) -> None:
        self.config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(COMPILER), name)


@contextmanager
def without_compiler(make: Callable[[], Any]) -> Iterator[Any]:
    """Yield what `make` returns, without importing the compiler for it: its settings are imported
    from an empty package of its name. Afterwards `torch._dynamo` is an object that has them, and
    imports the compiler for anything else."""
    if COMPILER in sys.modules:
        yield make()
        return
    package: Any = ModuleType(COMPILER)
    package.__path__ = [os.path.join(os.path.dirname(torch.__file__), "_dynamo")]
    sys.modules[COMPILER] = vars(torch)["_dynamo"] = package
    try:
        mode, settings = make(), CompilerSettings(import_module(f"{COMPILER}.config"))
    finally:
        for name in [m for m in sys.modules if m == COMPILER or m.startswith(f"{COMPILER}.")]:
            del sys.modules[name]
        del vars(torch)["_dynamo"]
    vars(torch)["_dynamo"] = settings
    try:
        yield mode
    finally:
        if vars(torch).get("_dynamo") is settings:
            del vars(torch)["_dynamo"]

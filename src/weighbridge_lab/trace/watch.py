"""The place of an allocation in the program: its phase, and the module that runs.

    load       until the first module with parameters is called
    forward    that module runs, with gradients; `eval` without
    loss       after it, until backward
    backward   the engine runs
    step       from then until the next forward: clipping, the optimizer, the next batch

A node of backward belongs to the module in which it was made: nodes are numbered in order
(`Node._sequence_nr`), and the number is noted at every change of module.
"""

import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.variable import Variable
from torch.nn.modules import module as hooks
from torch.optim import optimizer as optimizers
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from weighbridge_lab.trace.patches import Patch, patched
from weighbridge_lab.trace.recorder import Recorder


class WatchedEngine:
    """torch's engine, with a context `around` each run of it. torch.autograd uses this one, and so
    do programs that call the engine directly, as Megatron's schedules do."""

    def __init__(self, engine: Any, around: Callable[[], AbstractContextManager[None]]) -> None:
        self._engine = engine
        self._around = around

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run_backward(self, *args: Any, **kwargs: Any) -> Any:
        with self._around():
            return self._engine.run_backward(*args, **kwargs)


class ModuleWatch:
    """Sets the phase and the module of `recorder`. `arrived` is called at each outermost module."""

    def __init__(self, recorder: Recorder, arrived: Callable[[], None]) -> None:
        self.recorder = recorder
        self.arrived = arrived
        self._running = Running()
        self.paths: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self.parameters: dict[int, weakref.ref[torch.Tensor]] = {}
        self.trails: dict[int, Trail] = {}  # by thread
        self.differentiated: list[Trail] = []  # of threads that called backward, innermost last
        self.outside = 0  # modules that were running when backward was called
        self._stack = ExitStack()

    def __enter__(self) -> "ModuleWatch":
        enter = self._stack.enter_context
        for remove in (
            hooks.register_module_forward_pre_hook(self._before),
            hooks.register_module_forward_hook(self._after, always_call=True),
            hooks.register_module_parameter_registration_hook(self._parameter),
            hooks.register_module_buffer_registration_hook(self._buffer),
            optimizers.register_optimizer_step_pre_hook(self._stepping),
            optimizers.register_optimizer_step_post_hook(self._stepped),
        ):
            self._stack.callback(remove.remove)
        engine = WatchedEngine(Variable._execution_engine, self._backward)
        enter(patched([Patch(Variable, "_execution_engine", engine)]))
        enter(patched(self._copies()))
        self.recorder.where = self.where
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self.stack.clear()
        self.parameters.clear()

    @property
    def stack(self) -> list[nn.Module]:
        """Return the modules that run in this thread, outermost first."""
        return self._running.modules

    def where(self, node: Any) -> str:
        """Return the path of the module that runs, or of the one that made `node`."""
        recomputes = len(self.stack) > self.outside
        if node is not None and self.differentiated and not recomputes:
            return self.differentiated[-1].at(node._sequence_nr())
        return self.path(self.stack[-1]) if self.stack else ""

    def _before(self, module: nn.Module, _: Any) -> None:
        if not self.stack:
            self._outermost(module)
        self.stack.append(module)
        self._note()
        recorder = self.recorder
        for parameter in module._parameters.values():
            if parameter is not None:
                self._weight(parameter)
        for buffer in module._buffers.values():
            if buffer is not None:
                recorder.mark(buffer, "buffer")

    def _after(self, module: nn.Module, _: Any, __: Any) -> None:
        if self.stack:
            self.stack.pop()
        self._note()
        if not self.stack and self.recorder.phase == "forward":
            self.recorder.phase = "loss"

    def _outermost(self, module: nn.Module) -> None:
        self.arrived()
        recorder = self.recorder
        if recorder.phase != "backward" and next(module.parameters(), None) is not None:
            recorder.phase = "forward" if torch.is_grad_enabled() else "eval"

    def path(self, module: nn.Module) -> str:
        if module not in self.paths:
            self.paths.update((m, name) for name, m in self.stack[0].named_modules())
        return self.paths.get(module) or type(module).__name__

    def _note(self) -> None:
        path = self.path(self.stack[-1]) if self.stack else ""
        self._trail().note(torch.autograd._get_sequence_nr(), path)

    def _trail(self) -> "Trail":
        return self.trails.setdefault(threading.get_ident(), Trail())

    def _parameter(self, _: nn.Module, __: str, parameter: Any) -> None:
        if parameter is not None:
            self._weight(parameter)

    def _buffer(self, _: nn.Module, __: str, buffer: Any) -> None:
        if buffer is not None:
            self.recorder.mark(buffer, "buffer")

    def _copies(self) -> Iterator[Patch]:
        """Yield patches of what moves and copies modules, which have weights even before they
        run."""
        apply, copied = nn.Module._apply, FakeTensor.__deepcopy__

        def moved(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
            for parameter in filter(is_traceable_wrapper_subclass, module._parameters.values()):
                self.parameters.pop(id(parameter), None)  # swap_tensors wants no weak references
            out: nn.Module = apply(module, *args, **kwargs)
            self._marked(module)
            return out

        def copy(tensor: FakeTensor, memo: Any) -> Any:
            out = copied(tensor, memo)
            role = self.recorder.role(tensor)
            if role in ("weight", "buffer"):
                self.recorder.mark(out, role)
            return out

        yield Patch(nn.Module, "_apply", moved)
        yield Patch(FakeTensor, "__deepcopy__", copy)

    def _marked(self, module: nn.Module) -> None:
        for parameter in module._parameters.values():
            if parameter is not None:
                self.recorder.mark(parameter, "weight")
        for buffer in module._buffers.values():
            self._buffer(module, "", buffer)

    def _weight(self, parameter: torch.Tensor) -> None:
        if id(parameter) not in self.parameters:
            forget = partial(self._forget, id(parameter))
            self.parameters[id(parameter)] = weakref.ref(parameter, forget)
        self.recorder.mark(parameter, "weight")

    def _forget(self, key: int, _: Any) -> None:
        self.parameters.pop(key, None)

    def _gradients(self) -> None:
        for reference in tuple(self.parameters.values()):
            parameter = reference()
            if parameter is not None and parameter.grad is not None:
                self.recorder.mark(parameter.grad, "gradient")

    @contextmanager
    def _backward(self) -> Iterator[None]:
        recorder = self.recorder
        outer = recorder.phase == "backward"  # a checkpoint's own backward
        recorder.phase = "backward"
        self.differentiated.append(self._trail())
        before, self.outside = self.outside, len(self.stack)
        try:
            # one queue: the engine may have started its threads before there was a device
            with torch.autograd.set_multithreading_enabled(False):
                yield
        finally:
            self.differentiated.pop()
            self.outside = before
            self._gradients()
            if not outer:
                recorder.phase = "step"
                passes, steps = recorder.worked
                recorder.worked = passes + 1, steps

    def _stepping(self, optimizer: Any, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._weight(parameter)
                if parameter.grad is not None:
                    self.recorder.mark(parameter.grad, "gradient")

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        passes, steps = self.recorder.worked
        self.recorder.worked = passes, steps + 1
        for state in optimizer.state.values():
            for value in state.values() if isinstance(state, dict) else ():
                if isinstance(value, torch.Tensor):
                    self.recorder.mark(value, "optimizer state")


class Running(threading.local):
    def __init__(self) -> None:
        self.modules: list[nn.Module] = []


class Trail:
    """The modules that ran when nodes got their numbers."""

    def __init__(self) -> None:
        self.numbers = [0]
        self.paths = [""]

    def note(self, number: int, path: str) -> None:
        if number == self.numbers[-1]:
            self.paths[-1] = path
        else:
            self.numbers.append(number)
            self.paths.append(path)

    def at(self, number: int) -> str:
        return self.paths[bisect_right(self.numbers, number) - 1]

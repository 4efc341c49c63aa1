"""Records the storages of fake CUDA tensors while torch code runs: who made each, and its end.

A dispatch mode sees every operation after autograd, so a storage is new when an operation returns
it for the first time, and its end is the end of its Python object, which torch keeps alive exactly
as long. Modules are known by global hooks, backward by its own thread of the engine.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from weighbridge.trace.tape import Tape

Hidden = Callable[["Recorder", Any, tuple[Any, ...], dict[str, Any], Any], None]


class Recorder(TorchDispatchMode):
    """Writes `tape`. `hidden` is told of every operation and may add what dispatch cannot see."""

    def __init__(self, tape: Tape, hidden: Hidden | None = None) -> None:
        super().__init__()
        self.tape = tape
        self.hidden = hidden
        self.modules: list[str] = []  # paths, innermost last
        self.numbers: dict[int, int] = {}  # a storage's address -> its number on the tape

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for t in tree_iter(out):
            if isinstance(t, torch.Tensor) and t.device.type == "cuda":
                self._seen(t, func, args)
        if self.hidden is not None:
            self.hidden(self, func, args, kwargs, out)
        return out

    def number(self, t: torch.Tensor) -> int | None:
        """The number of a tensor's storage on the tape."""
        return self.numbers.get(t.untyped_storage()._cdata)

    @property
    def module(self) -> str:
        return self.modules[-1] if self.modules else ""

    def _seen(self, t: torch.Tensor, func: Any, args: tuple[Any, ...]) -> None:
        storage = t.untyped_storage()
        address = storage._cdata
        nbytes = storage.nbytes()
        if address in self.numbers or not nbytes:
            return
        old = self._fan_in(func, args)
        name = str(func)
        if old is None:
            number = self.tape.malloc(nbytes, op=name, module=self.module)
        else:
            number = self.tape.grow(old, nbytes, op=name, module=self.module)
        self.numbers[address] = number
        weakref.finalize(storage, self._gone, address)

    def _fan_in(self, func: Any, args: tuple[Any, ...]) -> int | None:
        """The storage that a sum of gradients would be added into: the engine adds between two
        nodes, where no node is being evaluated."""
        if func is not torch.ops.aten.add.Tensor or self.tape.phase != "backward":
            return None
        if torch._C._current_autograd_node() is not None:
            return None
        return self.number(args[0])

    def _gone(self, address: int) -> None:
        self.tape.free(self.numbers.pop(address))


@contextmanager
def named(root: torch.nn.Module, recorder: Recorder) -> Iterator[None]:
    """Paths of `root`'s modules are known to the recorder while they run."""
    paths = {module: name for name, module in root.named_modules()}

    def before(module: torch.nn.Module, _: Any) -> None:
        recorder.modules.append(paths.get(module, type(module).__name__))

    def after(module: torch.nn.Module, _: Any, __: Any) -> None:
        recorder.modules.pop()

    hooks = (
        torch.nn.modules.module.register_module_forward_pre_hook(before),
        torch.nn.modules.module.register_module_forward_hook(after, always_call=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

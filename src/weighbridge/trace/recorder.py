"""Records the storages of fake CUDA tensors while torch code runs: who made each, and its end.

A dispatch mode sees every operation after autograd, so a storage is new when an operation returns
it for the first time, and its end is the end of its Python object, which torch keeps alive exactly
as long. The recorder is told where it is (`watch.py`) and what kernels take on the way (`hidden`).
"""

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from weighbridge.trace.tape import Role, Tape

Hidden = Callable[["Recorder", Any, tuple[Any, ...], dict[str, Any], Any], None]


class Recorder(TorchDispatchMode):
    """Writes one tape for each device."""

    def __init__(self, tapes: Sequence[Tape]) -> None:
        super().__init__()
        self.tapes = tapes
        self.where: Callable[[], str] = str
        self._numbers: dict[int, tuple[Tape, int]] = {}  # a storage's address -> its number
        self._ends: dict[int, Any] = {}

    @property
    def phase(self) -> str:
        return self.tapes[0].phase

    @phase.setter
    def phase(self, name: str) -> None:
        for tape in self.tapes:
            tape.phase = name

    def mark(self, tensor: torch.Tensor, role: Role) -> None:
        """What a tensor's storage is for."""
        found = self._numbers.get(tensor.untyped_storage()._cdata)
        if found is not None:
            tape, number = found
            tape.storages[number].role = role

    def stop(self) -> None:
        """Forgets what still lives: its end is after the trace's."""
        self._ends.clear()
        self._numbers.clear()
        self.where = str

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            if out.device.type == "cuda":
                self._seen(out, func, args)
        else:
            for t in tree_iter(out):
                if isinstance(t, torch.Tensor) and t.device.type == "cuda":
                    self._seen(t, func, args)
        return out

    def _seen(self, t: torch.Tensor, func: Any, args: tuple[Any, ...]) -> None:
        storage = t.untyped_storage()
        address = storage._cdata
        if address in self._numbers:
            return
        nbytes = storage.nbytes()
        if not nbytes:
            return
        tape = self.tapes[t.device.index or 0]
        old = self._fan_in(func, args)
        name, module = str(func), self.where()
        if old is None:
            number = tape.malloc(nbytes, op=name, module=module)
        else:
            number = tape.grow(old, nbytes, op=name, module=module)
        self._numbers[address] = tape, number
        self._ends[address] = weakref.ref(storage, partial(self._gone, address))

    def _fan_in(self, func: Any, args: tuple[Any, ...]) -> int | None:
        """The storage that a sum of gradients would be added into: the engine adds between two
        nodes, where no node is being evaluated (input_buffer.cpp: accumulate)."""
        if func is not torch.ops.aten.add.Tensor or self.phase != "backward":
            return None
        if torch._C._current_autograd_node() is not None:
            return None
        found = self._numbers.get(args[0].untyped_storage()._cdata)
        return None if found is None else found[1]

    def _gone(self, address: int, _: Any) -> None:
        del self._ends[address]
        tape, number = self._numbers.pop(address)
        tape.free(number)

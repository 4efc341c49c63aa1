"""A GPU of the catalogue that is not there: torch code inside runs as on it, and is recorded.

    with FakeGPU("a100-80gb") as gpu:
        model = Net().to("cuda")
        ...
    gpu.tape.allocated.nbytes
"""

import contextlib
import re
from types import TracebackType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.trace import guard
from weighbridge.trace.attention import Chooser, chosen, replaced
from weighbridge.trace.card import card
from weighbridge.trace.hidden import Hidden
from weighbridge.trace.patches import patched, put
from weighbridge.trace.patches.libraries import Libraries
from weighbridge.trace.patches.modules import modules
from weighbridge.trace.patches.runtime import runtime
from weighbridge.trace.patches.values import values
from weighbridge.trace.recorder import Recorder
from weighbridge.trace.tape import Tape
from weighbridge.trace.watch import Watch


class FakeGPU:
    """`count` cards; `torch_version` ("2.5") chooses the rules of workspaces and kernels alone, the
    code that runs is the installed torch's. Raises UnsupportedError where torch cannot do this."""

    def __init__(
        self,
        name: str = "a100-80gb",
        *,
        count: int = 1,
        torch_version: str | None = None,
        gpu_memory: str | None = None,
        alloc_conf: str | None = None,
    ) -> None:
        self.card, named = card(name, gpu_memory)
        self.tapes = [Tape() for _ in range(max(count, named))]
        self.version = _version(torch_version)
        self.recorder = Recorder(self.tapes, Hidden(self.card, self.version))
        self._stack = contextlib.ExitStack()

    @property
    def tape(self) -> Tape:
        """Of the first device."""
        return self.tapes[0]

    def __enter__(self) -> "FakeGPU":
        reason = guard.why_not()
        if reason:
            raise UnsupportedError(reason)
        with self._stack:
            enter = self._stack.enter_context
            enter(guard.guarded())
            enter(_as_before())
            undo = enter(patched([*runtime(self.card, self.tapes), *modules(), *values()]))
            libraries = Libraries()
            enter(FakeTensorMode(allow_non_fake_inputs=True))
            attention = enter(chosen(Chooser(self.card, self.version)))
            self.recorder.replaced.update(replaced(attention))
            enter(self.recorder)
            watch = Watch(self.recorder, lambda: undo.extend(map(put, libraries.arrived())))
            enter(watch)
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


def _version(text: str | None) -> tuple[int, int]:
    """(major, minor) of `text`, else of the torch that runs."""
    found = re.match(r"(\d+)\.(\d+)", text or torch.__version__)
    if found is None:
        raise UsageError(f"torch_version={text!r}: write it as 2.5")
    return int(found[1]), int(found[2])


@contextlib.contextmanager
def _as_before() -> Any:
    """What scripts set for themselves and torch keeps for the process."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    grad = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_grad_enabled(grad)

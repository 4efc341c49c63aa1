"""torch.profiler: no kernel runs, so it is told of the host alone.

With stacks it notes every call of a Python function, and a fake tensor makes thousands of them for
each operation: gigabytes of notes, which are sorted where no signal is heard. They are left out.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch.autograd import profiler

from weighbridge.lab.trace.notes import Notes
from weighbridge.lab.trace.patches import Patch

STACKS = "torch.profiler notes no stacks here: they would be of fake tensors"
HOST = "torch.profiler sees the host alone: no kernel runs here"


def profiling(notes: Notes) -> Iterator[Patch]:
    """Patch the profiler: asked for the device, its C++ would ask the driver at every operation."""
    yield Patch(profiler.profile, "__init__", _hosted(profiler.profile.__init__, notes))


def _hosted(init: Callable[..., None], notes: Notes) -> Callable[..., None]:
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        device = kwargs.pop("use_device", None) or kwargs.pop("use_cuda", None)
        if device:
            notes(HOST)
            kwargs["use_cpu"] = True
        if kwargs.pop("with_stack", None):
            notes(STACKS)
        init(self, *args, **kwargs)

    return made

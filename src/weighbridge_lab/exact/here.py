"""The card of this machine in place of a fake GPU: nothing is recorded of what runs.

A meter listens to the phases (`golden.phase`), and reads torch's own counters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from weighbridge.base.records import dataclass, field
from weighbridge_lab.trace.tape import Tape

_HERE: ContextVar[bool] = ContextVar("here", default=False)


class NoRecorder:
    """A recorder that records no storage."""

    looks = SimpleNamespace(told=())  # at values: nothing is told of them

    def number(self, _: Any) -> None:
        return None


@dataclass(frozen=True)
class CardHere:
    """A stand-in for a FakeGPU in a course: an empty tape and a recorder."""

    tape: Tape = field(default_factory=Tape)
    recorder: NoRecorder = field(default_factory=NoRecorder)


def here() -> bool:
    """Return whether classes run on this machine's real card."""
    return _HERE.get()


@contextmanager
def on_this_machine() -> Iterator[None]:
    """Run the classes of `--exact` on this machine's real card inside the block, with random
    parameters."""
    token = _HERE.set(True)
    try:
        yield
    finally:
        _HERE.reset(token)

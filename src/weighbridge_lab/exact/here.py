"""The card of this machine, where a fake GPU stands otherwise: nothing is recorded of what runs.

Whoever measures hears of the phases (`golden.phase`), and reads torch's own counters.
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
    """Knows no storage."""

    looks = SimpleNamespace(told=())  # at values: nothing is told of them

    def number(self, _: Any) -> None:
        return None


@dataclass(frozen=True)
class CardHere:
    """Stand in for a FakeGPU in a course: a tape, which stays empty, and a recorder."""

    tape: Tape = field(default_factory=Tape)
    recorder: NoRecorder = field(default_factory=NoRecorder)


def here() -> bool:
    """Tell whether classes run on the card of this machine."""
    return _HERE.get()


@contextmanager
def on_this_machine() -> Iterator[None]:
    """Let `--exact` run its classes on the card of this machine inside, with random parameters."""
    token = _HERE.set(True)
    try:
        yield
    finally:
        _HERE.reset(token)

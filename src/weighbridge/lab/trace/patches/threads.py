"""Threads that a program starts: torch's modes belong to a thread, so each enters them itself."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from weighbridge.lab.trace.patches import Patch


def threads(*modes: AbstractContextManager[Any]) -> Iterator[Patch]:
    """Patch what calls a thread's `run`, which may be a subclass's own."""
    inner: Any = vars(threading.Thread)["_bootstrap_inner"]

    def entered(self: threading.Thread) -> None:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            inner(self)

    yield Patch(threading.Thread, "_bootstrap_inner", entered)

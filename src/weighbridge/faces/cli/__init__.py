"""The command line. This module is only its entry point: it must start fast."""

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A model of 100,000 tensors makes a million objects, none of them garbage: with Python's own
# threshold (700), a fifth of the time would go into searching for it.
COLLECT_EVERY = 1_000_000
ALONE: list[bool] = []  # not empty if this command line owns the process, which may then fork


@contextmanager
def _quietly() -> Iterator[None]:
    """Let Ctrl-C end the program at once, without a traceback, while nothing can report it. A
    handler that is already set stays."""
    usual, alone = signal.default_int_handler, threading.current_thread() is threading.main_thread()
    if signal.getsignal(signal.SIGINT) is not usual or not alone:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def main(name: str = "weighbridge") -> None:
    """Run `weighbridge` or `weigh` and exit. `name`: the one that the user typed."""
    gc.set_threshold(COLLECT_EVERY)
    with _quietly():
        from weighbridge.faces.cli.menu import run

    ALONE.append(True)
    code = run(sys.argv[1:], name)
    if "duckdb" not in sys.modules:  # it complains about objects that are left
        gc.freeze()  # else Python searches for garbage once more at exit
    sys.exit(code)

"""The command line. This module is only the door: it must start in a blink."""

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A model of 100,000 tensors makes a million objects, and no garbage: Python's own threshold (700)
# would spend a fifth of the time on looking for it.
COLLECT_EVERY = 1_000_000
ALONE: list[bool] = []  # where the process is this command line's alone, and may be divided


@contextmanager
def _quietly() -> Iterator[None]:
    """Let Ctrl-C end the program at once, as long as there is nothing that would tell it in words;
    where somebody else minds it, it stays as it is."""
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
    """Entry point of `weighbridge` and `weigh`. `name`: what was typed for it."""
    gc.set_threshold(COLLECT_EVERY)
    with _quietly():
        from weighbridge.faces.cli.menu import run

    ALONE.append(True)
    code = run(sys.argv[1:], name)
    if "duckdb" not in sys.modules:  # it complains of all that is left
        gc.freeze()  # Python would look for garbage once more before it ends
    sys.exit(code)

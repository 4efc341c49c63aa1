"""Entry point of the command line; it imports little, so that the program starts fast."""

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
def _end_on_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the program at once and without a traceback inside this block. A SIGINT
    handler that is already set stays in place; outside the main thread nothing changes."""
    default_handler, is_main_thread = (
        signal.default_int_handler,
        threading.current_thread() is threading.main_thread(),
    )
    if signal.getsignal(signal.SIGINT) is not default_handler or not is_main_thread:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, default_handler)


def main(name: str = "weighbridge") -> None:
    """Run `weighbridge` or `weigh` on the process's arguments and exit. `name` is the program name
    that the user typed."""
    gc.set_threshold(COLLECT_EVERY)
    with _end_on_interrupt():
        from weighbridge.faces.cli.menu import run

    ALONE.append(True)
    code = run(sys.argv[1:], name)
    if "duckdb" not in sys.modules:  # duckdb complains about objects left at exit
        gc.freeze()  # skips Python's last garbage collection at exit
    sys.exit(code)

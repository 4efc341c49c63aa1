"""Work that is counted, not timed: a count is the same on a busy machine. What hangs is noticed in a
process of its own, after minutes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HANGS = 120  # seconds after which a process hangs that takes a few on a quiet machine
ROOT = Path(__file__).parent.parent
CALLS = {"call", "c_call"}


def calls_made(action: Callable[[], object]) -> int:
    """Return the number of functions that `action` calls in this thread, those written in C too."""
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in CALLS

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls


def is_linear(calls: Callable[[int], int], size: int) -> bool:
    """Return whether `calls` of a size grow no faster than it, from `size` to four times as much.
    Four times as much takes four times as many calls if they grow so, sixteen times if they are
    quadratic."""
    return calls(4 * size) <= 6 * calls(size)


def end(code: str, *arguments: str) -> None:
    """Run Python code in a process that has to end. Raises CalledProcessError if it fails, and
    TimeoutExpired if it hangs: no count tells that of a regular expression."""
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=True, timeout=HANGS)

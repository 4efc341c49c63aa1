"""The command line. This module is only the door: it must start in a blink."""

import gc
import sys

# A model of 100,000 tensors makes a million objects, and no garbage: Python's own threshold (700)
# would spend a fifth of the time on looking for it.
COLLECT_EVERY = 1_000_000


def main(name: str = "weighbridge") -> None:
    """Entry point of `weighbridge` and `weigh`. `name`: what was typed for it."""
    gc.set_threshold(COLLECT_EVERY)
    from weighbridge.cli.menu import run

    code = run(sys.argv[1:], name)
    gc.freeze()  # Python would look for garbage once more before it ends
    sys.exit(code)

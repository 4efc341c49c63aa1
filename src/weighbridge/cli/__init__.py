"""The command line. This module is only the door: it must start in a blink."""

import sys


def main() -> None:
    """Entry point of `weighbridge` and `weigh`."""
    from weighbridge.cli.menu import run

    sys.exit(run(sys.argv[1:]))

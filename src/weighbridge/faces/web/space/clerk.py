"""The process that answers: lines of JSON in, lines of JSON out; it knows no secrets of the server.

    python -P -m weighbridge.faces.web.space.clerk CACHE SECONDS

`office.py` starts it in an empty folder, with an environment that holds no token, so that no name
is a path here and nothing is read as the server's owner. An answer that takes longer than SECONDS
ends the process, as does one that needs more memory than MOST_MEMORY.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from weighbridge.base.units import GIB, MIB

MOST_MEMORY = 4 * GIB  # bytes of address space
MOST_CACHE = 256 * MIB  # bytes of Hub files on disk; above this all are deleted


def main(arguments: list[str]) -> None:
    cache, seconds = Path(arguments[0]), int(arguments[1])
    out = _own_stdout()
    _limit_memory()
    from weighbridge.faces.web.space.answering import SpaceDesk

    serve(
        sys.stdin.buffer, out, SpaceDesk(cache_dir=str(cache)).answer, seconds=seconds, cache=cache
    )


def serve(
    lines: IO[bytes],
    out: IO[bytes],
    answer: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    seconds: int,
    cache: Path,
) -> None:
    """Answer every line. If an answer takes over `seconds`, an uncaught SIGALRM ends the
    process."""
    for line in lines:
        if hasattr(signal, "alarm"):
            signal.alarm(seconds)
        out.write(json.dumps(answer(json.loads(line))).encode() + b"\n")
        out.flush()
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        _tidied(cache)


def _own_stdout() -> IO[bytes]:
    """Return a stream to stdout for answers only; all other output is dropped, as it may hold a
    request."""
    out = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return out


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold requests


def _tidied(cache: Path) -> None:
    sizes = (p.stat().st_size for p in cache.rglob("*") if p.is_file() and not p.is_symlink())
    if sum(sizes) > MOST_CACHE:
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The stand-in Hub of the tests in a process of its own, and a record of what it was asked.

    python -m benchmarks.standin ROOT LATENCY

It prints its endpoint, and then, for each line that it reads, the requests since the last one as
one line of JSON: [[path, status, bytes of body], ...].
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.hub import Hub


class Asked(NamedTuple):
    path: str
    status: int
    sent: int


class StandIn:
    """A running one. `env` points a client at it."""

    def __init__(self, process: subprocess.Popen, home: Path) -> None:
        self._process = process
        self.endpoint = process.stdout.readline().strip()
        self.env = client_env(home) | {"HF_ENDPOINT": self.endpoint}

    def asked(self) -> list[Asked]:
        """The requests since the last call."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [Asked(*request) for request in json.loads(self._process.stdout.readline())]


def client_env(home: Path) -> dict[str, str]:
    """A home without a token, where nothing was downloaded before."""
    return {
        "HF_HOME": str(home),
        "HF_TOKEN": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
    }


@contextmanager
def standin(root: Path, home: Path, *, latency: float = 0.0) -> Iterator[StandIn]:
    argv = [sys.executable, "-m", "benchmarks.standin", str(root), str(latency)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield StandIn(process, home)
        finally:
            process.terminate()


def main() -> None:
    root, latency = sys.argv[1:]
    with Hub(Path(root), latency=float(latency), static=True) as hub:
        print(hub.endpoint, flush=True)
        for _ in sys.stdin:
            asked = [(r.path, r.status, r.sent) for r in hub.requests]
            hub.requests.clear()
            print(json.dumps(asked), flush=True)


if __name__ == "__main__":
    main()

"""Other programs, run within bounds of time and output. What they print is not trusted.

Nothing is typed into them, no shell reads their command, and none is taken from the current folder.
Output beyond LARGEST is cut; a program that runs longer than SECONDS is ended.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

SECONDS = 10.0  # nvidia-smi takes 2 to 5 to wake up eight cards
LARGEST = 4 << 20  # bytes of output
PLACES = (  # folders outside PATH: WSL 2, ROCm, Ascend
    "/usr/lib/wsl/lib",
    "/opt/rocm/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
)
Ask = Callable[..., str | None]


def say(*command: str, seconds: float = SECONDS) -> str | None:
    """Run a program and return its output, "" if it prints nothing in time; None if it is not
    installed."""
    path = where(command[0])
    if path is None:
        return None
    try:
        process = subprocess.Popen(
            (path, *command[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=sys.platform != "win32",
        )
    except OSError:
        return None
    return _heard(process, seconds)


def _heard(process: "subprocess.Popen[bytes]", seconds: float) -> str:
    """Return a process's output, up to LARGEST bytes. A thread reads it, since pipes on Windows
    have no time limit."""
    chunks: list[bytes] = []
    stream = process.stdout
    assert stream is not None
    reader = Thread(target=lambda: chunks.append(stream.read(LARGEST)), daemon=True)
    reader.start()
    reader.join(seconds)
    late = reader.is_alive()
    with suppress(subprocess.TimeoutExpired):
        process.wait(0 if late or len(chunks[0]) == LARGEST else seconds)
    _end(process)
    reader.join(1)
    if not reader.is_alive():
        stream.close()
    if late or not chunks:
        return ""
    return chunks[0].decode("utf-8", "replace")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its child processes."""
    if process.poll() is not None:
        return
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, 9)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)


def where(name: str) -> str | None:
    """Return the path of a program: in PATH, else in PLACES, and never in the current folder."""
    import shutil

    here = os.getcwd()
    folders = [f for f in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(f)]
    elsewhere = [f for f in (*folders, *PLACES) if os.path.normpath(f) != here]
    path = shutil.which(name, path=os.pathsep.join(elsewhere))
    if path is None or os.path.dirname(os.path.abspath(path)) == here:
        return None
    return path

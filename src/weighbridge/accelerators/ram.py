"""Host memory that processes can have: a size as it was typed, or what this machine has left.

    64GiB    so much                 local    the machine that runs this, within its limits

Linux tells what can be had without swapping (MemAvailable), and a container's limit is that of its
control group and of each one above it; pages of files that a group holds are given back where it
needs room. Source: Linux Documentation/filesystems/proc.rst, admin-guide/cgroup-v2.rst and
cgroup-v1/memory.rst.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.units import parse_size

LOCAL = "local"
UNLIMITED = 1 << 60  # bytes: version 1 writes a number near 2^63 where there is no limit


@dataclass(frozen=True, slots=True)
class Ram:
    nbytes: int
    source: str


def ram(text: str | None) -> Ram | None:
    """None where nothing was said."""
    if text is None:
        return None
    if text.strip().lower() == LOCAL:
        return here()
    nbytes = parse_size(text)
    if nbytes <= 0:
        raise UsageError(f"--ram {text!r:.80}: a machine needs memory; write it as 64GiB")
    return Ram(nbytes, "as you said")


def here(root: Path = Path("/")) -> Ram:
    """What a process of this machine can have now. Raises UnsupportedError where nothing tells."""
    found = _available(root)
    if found is None:
        raise UnsupportedError(
            "--ram local: this system does not tell its memory; write --ram 64GiB"
        )
    least = min((found, *_groups(root)), key=lambda ram: ram.nbytes)
    return Ram(max(0, least.nbytes), least.source)


def _available(root: Path) -> Ram | None:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return Ram(1024 * int(value.split()[0]), "MemAvailable of /proc/meminfo")
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return Ram(pages * size, "physical memory") if root == Path("/") and pages > 0 else None


def _groups(root: Path) -> Iterator[Ram]:
    """What is left in the control group of this process, and in each above it."""
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if not names:
            yield from _up(root / "sys/fs/cgroup", path, "memory.max", "memory.current")
        elif "memory" in names.split(","):
            base = root / "sys/fs/cgroup/memory"
            yield from _up(base, path, "memory.limit_in_bytes", "memory.usage_in_bytes")


def _up(base: Path, path: str, limit: str, usage: str) -> Iterator[Ram]:
    """Inside a container the path may be the host's: what is missing tells nothing."""
    own = base / path.strip("/")
    for folder in (own, *own.parents):
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None and most < UNLIMITED:
            yield Ram(most - used + _cached(folder), "the limit of its control group")
        if folder == base:
            return


def _cached(folder: Path) -> int:
    """Pages of files that were not used of late."""
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []

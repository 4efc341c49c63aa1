"""Host memory that processes can use: a size that the user set, or what this machine has left.

    64GiB    that size               local    the machine that runs this, within its limits

Linux reports what can be used without swapping (MemAvailable), and a container's limit is that of
its control group and of each one above it; pages of files that a group holds are given back if it
needs room. Kernels before 3.14 have no MemAvailable: free memory, buffers and pages of files are a
little more than it. Source: Linux Documentation/filesystems/proc.rst, admin-guide/cgroup-v2.rst and
cgroup-v1/memory.rst. macOS and Windows have their own ways: vm_stat, GlobalMemoryStatusEx.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import dataclass
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, parse_size

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

LOCAL = "local"
ROOT = ""
HOME = 64 * GIB  # RAM of a machine with a card for models (assumed)
UNLIMITED = 1 << 60  # bytes: cgroup version 1 writes a number near 2^63 without a limit


@dataclass(frozen=True, slots=True)
class Ram:
    nbytes: int
    source: str


def ram(text: str | None) -> Ram | None:
    """Return the host memory that `--ram` sets; None if it is not set."""
    if text is None:
        return None
    if text.strip().lower() == LOCAL:
        return here()
    nbytes = parse_size(text)
    if nbytes <= 0:
        raise UsageError(sentence("ram_size", text=text))
    return Ram(nbytes, "as you said")


def usual(part: "Part", count: int) -> int:
    """Return the usual bytes of RAM of a machine with `count` such cards (assumed). 64 GiB for
    consumer cards; twice the cards' memory in a data center, as machines of clouds and DGX have."""
    if part.at_home:
        return HOME
    return max(HOME, 2 * count * part.total.bytes.low)


def here(root: str = ROOT) -> Ram:
    """Return the host memory that a process here can use now. Raises UnsupportedError if the system
    does not report it."""
    memory = _available(root)
    if memory is None:
        raise UnsupportedError(sentence("ram_untold"))
    least = min((memory, *limits(root)), key=lambda ram: ram.nbytes)
    return Ram(max(0, least.nbytes), least.source)


def installed(root: str = ROOT) -> int | None:
    """Return the bytes of memory that the machine has; None if not reported."""
    nbytes = meminfo("\n".join(_lines(f"{root}/proc/meminfo"))).get("MemTotal")
    if nbytes is not None or root != ROOT:
        return nbytes
    if sys.platform == "win32":
        return (_windows() or (None,))[0]
    return _pages("SC_PHYS_PAGES")


def meminfo(text: str) -> Mapping[str, int]:
    """Return the bytes in /proc/meminfo, by name."""
    fields = re.findall(r"^(\w+): +(\d{1,15}) kB", text, re.M)
    return {name: 1024 * int(kib) for name, kib in fields}


def _available(root: str) -> Ram | None:
    fields = meminfo("\n".join(_lines(f"{root}/proc/meminfo")))
    if "MemAvailable" in fields:
        return Ram(fields["MemAvailable"], "MemAvailable of /proc/meminfo")
    if "MemFree" in fields:
        freed = sum(fields.get(name, 0) for name in ("MemFree", "Buffers", "Cached"))
        return Ram(freed, "free memory and pages of files of /proc/meminfo")
    return _elsewhere() if root == ROOT else None


def _elsewhere() -> Ram | None:
    """Return the host memory on systems without /proc; None if not reported."""
    if sys.platform == "win32":
        memory = _windows()
        return Ram(memory[1], "available memory of GlobalMemoryStatusEx") if memory else None
    if sys.platform == "darwin":
        from weighbridge.machines.accelerators.detected.programs import say

        left = vm_stat(say("vm_stat") or "")
        if left is not None:
            return Ram(left, "free and inactive pages of vm_stat")
    whole = _pages("SC_PHYS_PAGES")
    return Ram(whole, "physical memory") if whole else None


def vm_stat(text: str) -> int | None:
    """Return the bytes that macOS can give without swapping, from vm_stat: free, inactive,
    speculative and purgeable pages."""
    page = re.search(r"page size of (\d{1,6}) bytes", text)
    kinds = ("free", "inactive", "speculative", "purgeable")
    counts = [re.search(rf"^Pages {kind}: +(\d{{1,12}})", text, re.M) for kind in kinds]
    if page is None or counts[0] is None:
        return None
    return int(page[1]) * sum(int(count[1]) for count in counts if count)


def _pages(name: str) -> int | None:
    try:
        pages, size = os.sysconf(name), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return pages * size if pages > 0 else None


def _windows() -> tuple[int, int] | None:
    """Return the bytes installed and available. Source: Microsoft, MEMORYSTATUSEX."""
    import ctypes
    import struct

    form = "<II7Q"  # its own size, load, then physical: total and available, and five more
    status = ctypes.create_string_buffer(struct.pack(form, struct.calcsize(form), *(0,) * 8))
    try:
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(status):  # type: ignore[attr-defined]
            return None
    except (AttributeError, OSError):
        return None
    figures = struct.unpack(form, status.raw[: struct.calcsize(form)])
    return figures[2], figures[3]


def limits(root: str = ROOT) -> Iterator[Ram]:
    """Yield the memory left in this process's control group, and in each group above it."""
    for line in _lines(f"{root}/proc/self/cgroup"):
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if not names:
            base = f"{root}/sys/fs/cgroup"
            yield from _up(base, path, "memory.max", "memory.current")
        elif "memory" in names.split(","):
            base = f"{root}/sys/fs/cgroup/memory"
            yield from _up(base, path, "memory.limit_in_bytes", "memory.usage_in_bytes")


def _up(base: str, path: str, limit: str, usage: str) -> Iterator[Ram]:
    """Yield the memory left in a control group and in those above it. Inside a container the path
    may be the host's, so missing files are skipped."""
    folder = f"{base}/{path.strip('/')}".rstrip("/")
    while len(folder) >= len(base):
        most, used = _most(folder, limit), _number(f"{folder}/{usage}")
        if most is not None and used is not None:
            yield Ram(most - used + _cached(folder), "the limit of its control group")
        folder = os.path.dirname(folder)


def _most(folder: str, limit: str) -> int | None:
    """Return a group's own limit in bytes, or in version 1 the least of those above it; None
    without one."""
    here = _number(f"{folder}/{limit}")
    above = _stat(folder, "hierarchical_memory_limit")
    limits = [n for n in (here, above) if n is not None and n < UNLIMITED]
    return min(limits, default=None)


def _cached(folder: str) -> int:
    """Return the bytes of file pages that were not used recently."""
    return _stat(folder, "inactive_file", "total_inactive_file") or 0


def _stat(folder: str, *names: str) -> int | None:
    for line in _lines(f"{folder}/memory.stat"):
        name, _, value = line.partition(" ")
        if name in names and value.strip().isdigit():
            return int(value)
    return None


def _number(path: str) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return []

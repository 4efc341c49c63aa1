"""Sums of a message's figures: what the allocator holds, what others hold, what was left over."""

from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.files.oom.record import OomReading


def unallocated(reading: OomReading) -> int | None:
    """Return the bytes that PyTorch reserves but no tensor uses. Messages call them "cached" (to
    1.3) or "unallocated" (from 2.1); "reserved in total" (1.4 to 2.0) includes what is
    allocated."""
    printed, reserved, allocated = (
        reading.size(n) for n in ("unallocated", "reserved", "allocated")
    )
    if printed is not None:
        return printed
    if reserved is None or allocated is None:
        return None
    return max(reserved - allocated, 0)


def in_process(reading: OomReading) -> int | None:
    """Return the bytes that PyTorch holds on the device: tensors, cached blocks, private pools."""
    allocated, cached = reading.size("allocated"), unallocated(reading)
    if allocated is None:
        return None
    return allocated + (cached or 0) + (reading.size("private_pool") or 0) * bool(cached is None)


def own_process(reading: OomReading) -> int | None:
    """Return this process's bytes on the device according to the driver, None if not stated (0
    bytes in the message). "Process N" is often this very process, seen from outside its container:
    without a line about this process, it is the smallest listed one that can hold all that PyTorch
    does."""
    if reading.size("process"):
        return reading.size("process")
    mine = in_process(reading)
    if mine is None or reading.size("process") is not None:
        return None
    fitting = [row["bytes"] for row in listed(reading) if row["bytes"] >= mine]
    return min(fitting, default=None)


def listed(reading: OomReading) -> list[dict[str, int]]:
    """Return the processes listed in the message whose memory the driver knew."""
    return [row for row in reading.parsed.get("listed_processes", ()) if row["bytes"]]


def others(reading: OomReading) -> int | None:
    """Return the bytes of other programs and contexts: capacity minus what is free and what this
    process holds. At least 0, since Windows may have moved some of it to host memory."""
    capacity, free = reading.size("capacity"), reading.size("free")
    mine = own_process(reading) or in_process(reading)
    if capacity is None or free is None or mine is None:
        return None
    return max(capacity - free - mine, 0)


def spilled(reading: OomReading) -> bool:
    """Return whether PyTorch holds more than the device has, because Windows then uses host
    memory."""
    capacity, allocated = reading.size("capacity"), reading.size("allocated")
    return capacity is not None and allocated is not None and allocated > capacity


def contradictions(reading: OomReading) -> tuple[str, ...]:
    """Return a warning if two figures contradict each other: more free than the device has, or more
    free and held together. Windows moves what is held to host memory."""
    capacity, free, mine = reading.size("capacity"), reading.size("free"), in_process(reading) or 0
    if not capacity or free is None:
        return ()
    if free > capacity:
        key = "oom.more_free"
    elif free + mine > capacity * MOST_HELD // 100 and not spilled(reading):
        key = "oom.more_held"
    else:
        return ()
    return (sentence(key, free=human(free), held=human(mine), size=human(capacity)),)


MOST_HELD = 105  # percent of a device: figures are rounded, so their sum may come to a little more


def share_between(reading: OomReading) -> int | None:
    """Return the limit in percent, a multiple of 5, that the request would have exceeded: one that
    the user set (set_per_process_memory_fraction takes such figures). None without one."""
    capacity, mine, requested = (
        reading.size("capacity"),
        in_process(reading),
        reading.size("requested"),
    )
    if not capacity or mine is None or requested is None:
        return None
    for share in range(5, 100, 5):
        if mine <= capacity * share // 100 < mine + requested:
            return share
    return None

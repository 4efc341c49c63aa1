"""`torch.cuda.memory_stats` from a tape: the keys that torch has, nested as its C++ returns them."""

from typing import Any

from weighbridge.trace.tape import Tape

POOLS = ("all", "large_pool", "small_pool")


def nested(tape: Tape) -> dict[str, Any]:
    a = tape.allocator
    used = _stat(a.allocated, a.peak_allocated)
    return {
        "allocated_bytes": used,
        "active_bytes": used,
        "requested_bytes": used,
        "reserved_bytes": _stat(a.reserved, a.peak_reserved),
        "inactive_split_bytes": _stat(a.reserved - a.allocated, a.peak_reserved),
        "num_alloc_retries": 0,
        "num_ooms": 0,
        "max_split_size": -1,
    }


def _stat(current: int, peak: int) -> dict[str, dict[str, int]]:
    return {pool: {"current": current, "peak": peak} for pool in POOLS[:1]}

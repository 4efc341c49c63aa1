"""Segments of torch's allocator that grow: which releases have them, on which cards."""

from typing import TYPE_CHECKING

from weighbridge.base.errors import TriedError, UsageError
from weighbridge.base.versions import numbers
from weighbridge.workload import Train

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

GROWS = (2, 1)  # torch


def refuse_segments(w: Train, part: "Part | None") -> None:
    """Raise UsageError where segments cannot grow."""
    if not w.expandable_segments:
        return
    torch = numbers(w.torch_version)
    if torch is not None and torch < GROWS:
        since = ".".join(map(str, GROWS))
        raise TriedError(
            f"--expandable-segments: torch has them since {since}; leave it out",
            seen="torch's releases before that one do not know the setting: Unrecognized "
            "CachingAllocator option",
        )
    if part is not None and part.stack == "own":
        raise UsageError(
            f"--expandable-segments: {part.name} has an allocator of its own; leave it out"
        )

"""Expandable segments of torch's allocator: the releases and cards that support them."""

from typing import TYPE_CHECKING

from weighbridge.base.errors import TriedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import numbers
from weighbridge.workload import Train

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

GROWS = (2, 1)  # torch


def refuse_segments(w: Train, part: "Part | None") -> None:
    """Raise UsageError if the user sets expandable segments, but the torch release or the GPU does
    not support them."""
    if not w.expandable_segments:
        return
    torch = numbers(w.torch_version)
    if torch is not None and torch < GROWS:
        since = ".".join(map(str, GROWS))
        raise TriedError(
            sentence("segments.since", since=since),
            seen="torch's releases before that one do not know the setting: Unrecognized "
            "CachingAllocator option",
        )
    if part is not None and part.stack == "own":
        raise UsageError(sentence("segments.own", card=part.name))

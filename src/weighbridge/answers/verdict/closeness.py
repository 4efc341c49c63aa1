"""How close a verdict is, and what tips it.

share      of what may be needed and what may be there, how much goes well: 1 where it fits, 0
           where it does not. An estimate is as likely below `expected` as above it, and evenly
           spread on either side; so is what a process can have
tight      it fits, and less than a tenth of what is usable is left by the expected estimate
tipped_by  what every process has (context) is in already; then the model, then what the method
           keeps, then what the workload adds, then the allocator: the component with which the
           sum passes what is usable
"""

from collections.abc import Iterable, Sequence
from math import fsum

from weighbridge.base.memory import HIGH, LOW, Bytes, Instant, binding

TENTH = 10  # of what is usable: under that the margin is amber (contract)
STEPS = 64  # of what may be there, where that is an interval
# In the order in which people decide them; the first that passes the limit is what tips
_ORDER = """
weights buffers adapters master_weights gradients optimizer_states kv_cache recurrent_state
activations logits temporaries workspaces cuda_graphs communication rounding fragmentation other
context
"""
ORDER = tuple(_ORDER.split())
ALWAYS = ("context",)  # a process has it before anything is loaded


def share(needed: Bytes, usable: Bytes) -> float:
    """The chance that what is needed is within what is usable, each as its bounds say."""
    if needed.high <= usable.low:
        return 1.0
    if needed.low > usable.high:
        return 0.0
    rooms = [_at(usable, (i + 0.5) / STEPS) for i in range(STEPS)]
    return fsum(_below(needed, room) for room in rooms) / STEPS  # `sum` adds otherwise since 3.12


def percent(needed: Bytes, usable: Bytes) -> int:
    """The share of an open verdict in percent: neither none nor all."""
    return min(99, max(1, round(100 * share(needed, usable))))


def tight(margin: int, usable: int) -> bool:
    return TENTH * margin < usable


def tipped_by(phases: Sequence[Instant], usable: Bytes, *, surely: bool) -> str | None:
    """The component that tips the fullest phase over; `surely`: by the low estimates. None where
    nothing does."""
    bound, limit = (LOW, usable.high) if surely else (HIGH, usable.low)
    parts = binding(phases, bound).components
    return passes(((c.name, c.bytes[bound]) for c in parts), limit)


def passes(parts: Iterable[tuple[str, int]], limit: int) -> str | None:
    """Name the component that takes the sum beyond `limit`, in the order in which a reader adds
    them."""
    sums: dict[str, int] = {}
    for name, nbytes in parts:
        sums[name] = sums.get(name, 0) + nbytes
    so_far = sum(sums.pop(name, 0) for name in ALWAYS)
    for name in sorted(sums, key=ORDER.index):
        so_far += sums[name]
        if sums[name] and so_far > limit:
            return name
    return ALWAYS[0] if so_far > limit else None


def _below(size: Bytes, nbytes: float) -> float:
    """Return the part of an interval that lies at or below so many bytes, with half below the
    middle."""
    if nbytes < size.low:
        return 0.0
    if nbytes >= size.high:
        return 1.0
    if nbytes < size.expected:
        return (nbytes - size.low) / (size.expected - size.low) / 2
    return 0.5 + (nbytes - size.expected) / (size.high - size.expected) / 2


def _at(size: Bytes, rank: float) -> float:
    """Return the bytes below which that part of an interval lies: the inverse of `_below`."""
    if rank < 0.5:
        return size.low + 2 * rank * (size.expected - size.low)
    return size.expected + (2 * rank - 1) * (size.high - size.expected)

"""How close a verdict is, and which component tips it.

share      the chance that needed memory is within usable memory: 1 if it surely fits, 0 if it
           surely does not. An estimate is as likely below `expected` as above it, and uniform on
           either side; so is the usable memory
tight      it fits, but by the expected estimate less than a tenth of the usable bytes is left
tipped_by  the component with which the sum exceeds the usable bytes, added in this order: what
           every process has (context), the model, what the method keeps, what the workload adds,
           the allocator
"""

from collections.abc import Iterable, Sequence
from math import fsum

from weighbridge.base.memory import HIGH, LOW, Bytes, Instant, binding

TENTH = 10  # a margin under a tenth of the usable bytes is amber (contract)
STEPS = 64  # steps over the usable bytes, if those are an interval
# In the order in which people decide them; the first that exceeds the limit tips it
_ORDER = """
weights buffers adapters master_weights gradients optimizer_states kv_cache recurrent_state
activations logits temporaries workspaces cuda_graphs communication rounding fragmentation other
context
"""
ORDER = tuple(_ORDER.split())
ALWAYS = ("context",)  # present before anything is loaded


def share(needed: Bytes, usable: Bytes) -> float:
    """Return the chance, 0 to 1, that `needed` is within `usable`, each spread over its bounds."""
    if needed.high <= usable.low:
        return 1.0
    if needed.low > usable.high:
        return 0.0
    rooms = [_at(usable, (i + 0.5) / STEPS) for i in range(STEPS)]
    return fsum(_below(needed, room) for room in rooms) / STEPS  # `sum` adds otherwise since 3.12


def percent(needed: Bytes, usable: Bytes) -> int:
    """Return the share of an open verdict in percent, from 1 to 99."""
    return min(99, max(1, round(100 * share(needed, usable))))


def tight(margin: int, usable: int) -> bool:
    return TENTH * margin < usable


def tipped_by(phases: Sequence[Instant], usable: Bytes, *, surely: bool) -> str | None:
    """Return the component that tips the fullest phase; `surely`: by the low estimates. None if
    nothing does."""
    bound, limit = (LOW, usable.high) if surely else (HIGH, usable.low)
    parts = binding(phases, bound).components
    return passes(((c.name, c.bytes[bound]) for c in parts), limit)


def passes(parts: Iterable[tuple[str, int]], limit: int) -> str | None:
    """Return the component that takes the sum beyond `limit`, added in ORDER; None if nothing
    does."""
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
    """Return the share of an interval at or below `nbytes`; half of it is below `expected`."""
    if nbytes < size.low:
        return 0.0
    if nbytes >= size.high:
        return 1.0
    if nbytes < size.expected:
        return (nbytes - size.low) / (size.expected - size.low) / 2
    return 0.5 + (nbytes - size.expected) / (size.high - size.expected) / 2


def _at(size: Bytes, rank: float) -> float:
    """Return the bytes below which a share `rank` of an interval lies, inverse to `_below`."""
    if rank < 0.5:
        return size.low + 2 * rank * (size.expected - size.low)
    return size.expected + (2 * rank - 1) * (size.high - size.expected)

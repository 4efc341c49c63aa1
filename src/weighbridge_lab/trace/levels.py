"""Bytes of a traced program at each level, as one interval wherever they are shown.

    allocated    a count
    reserved     and the free room inside segments: it depends on the order of releases and on
                 workspaces that libraries choose by timing, so it may be a quarter less or more
    driver       and the context

Each with the margin of published programs that were re-run.
"""

from weighbridge.answers import bounds
from weighbridge.base.memory import Bytes, Component, Instant, exactly

SPARE = 4  # one part in SPARE of the free room
# A batch after a loop was left with a settled peak may be larger: of packed sequences the longest
# of 120 came 2.9 % higher than the 51 that were run (assumed for all)
LATER = 5  # percent, upwards


def widened(driver: Bytes, percent: int) -> Bytes:
    """Return the driver level if up to `percent` more than expected may come."""
    return driver._replace(high=max(driver.high, driver.expected * (100 + percent) // 100))


def runs(*, convolves: bool = False) -> bounds.RunForm:
    """Return the form of published programs like this one; `convolves`: cuDNN chooses
    workspaces."""
    return bounds.RunForm("trace", "torch", bounds.CONVOLUTIONS if convolves else bounds.PLAIN)


def peak(
    allocated: int,
    reserved: int,
    context: Bytes,
    like: bounds.RunForm,
    table: bounds.MarginTable | None = None,
) -> Instant:
    """Return one device's peak, with its margin, as an instant of components."""
    free = reserved - allocated
    parts = (
        ("temporaries", exactly(allocated)),
        ("fragmentation", Bytes(free - free // SPARE, free, free + free // SPARE)),
        ("context", context),
    )
    phase = Instant("peak", tuple(Component(name=n, bytes=b, basis="traced") for n, b in parts))
    return bounds.phase(phase, like, table)

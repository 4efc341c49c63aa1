"""Words and spans of bytes that the tables of a trace share."""

from weighbridge.memory import Bytes
from weighbridge.units import human

FITS = {"yes": "fits", "no": "does not fit", "unknown": "cannot say"}


def span(interval: Bytes, unit: str | None) -> str:
    """One size where it is exact, else the expected one and its bounds."""
    text = human(interval.expected, unit)
    return (
        text
        if interval.exact
        else f"{text} ({human(interval.low, unit)} to {human(interval.high, unit)})"
    )

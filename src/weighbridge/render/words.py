"""Words and spans of bytes that the tables of a trace share."""

from weighbridge.memory import Bytes
from weighbridge.units import human

FITS = {"yes": "fits", "no": "does not fit", "unknown": "cannot say"}


def span(b: Bytes, unit: str | None) -> str:
    """One size where it is exact, else the expected one and its bounds."""
    text = human(b.expected, unit)
    return text if b.exact else f"{text} ({human(b.low, unit)} to {human(b.high, unit)})"

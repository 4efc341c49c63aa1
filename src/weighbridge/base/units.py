"""Whole numbers of bytes, and the words for them. `GiB` is 2^30 and `GB` is 10^9."""

import re

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
UNITS = {
    "B": 1,
    "KIB": KIB,
    "MIB": MIB,
    "GIB": GIB,
    "TIB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
SHOWN = ("GiB", "GB", "MiB")  # units that the user can choose for all sizes


def ceil_div(count: int, size: int) -> int:
    return -(-count // size)


def power_of_two(nbytes: int) -> int:
    """Return the next power of two, `nbytes` itself if it is one; 0 for 0."""
    return 1 << (nbytes - 1).bit_length() if nbytes > 0 else 0


def align_up(nbytes: int, quantum: int) -> int:
    """Return `nbytes` rounded up to a multiple of `quantum`."""
    return ceil_div(nbytes, quantum) * quantum


def coarse(n: int) -> int:
    """Return a number rounded to two digits, so that nearby costs count as equal."""
    return round(n, -max(0, len(str(abs(n))) - 2))


def human(nbytes: int, unit: str | None = None) -> str:
    """Return `nbytes` with two decimals in `unit`, by default in the fitting binary unit."""
    if unit is None:
        sizes = ("TiB", "GiB", "MiB", "KiB")
        unit = next((u for u in sizes if abs(nbytes) >= UNITS[u.upper()]), "B")
    if unit == "B":
        return f"{nbytes:,} B"
    return f"{nbytes / UNITS[unit.upper()]:,.2f} {unit}"


def typed_size(nbytes: int) -> str:
    """Return bytes as people type them, in the largest unit that is exact: 500GiB, 500GB."""
    exact = (u for u in ("GiB", "GB", "MiB", "MB") if nbytes and nbytes % UNITS[u.upper()] == 0)
    unit = next(exact, "B")
    return f"{nbytes // UNITS[unit.upper()]}{unit}"


def parse_size(text: str) -> int:
    """Return the bytes of "24GiB", "24 GB" or "512M"; a bare letter is binary, as in ulimit and
    torch."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)\s*", text.upper())
    if not match:
        raise UsageError(sentence("memory_value", value=text))
    number, unit = match.groups()
    if not unit and 0 < float(number) < MIB:  # programs mean bytes, people mean GiB
        raise UsageError(sentence("no_unit", text=text, number=text.strip()))
    if unit and not unit.endswith("B"):
        unit = unit[0] + "IB"
    return round(float(number) * UNITS[unit or "B"])


def parse_count(text: str) -> int:
    """Return the number in "8192", "8k" (8,000), "8K" (8,192), as vLLM's suffixes, or "5e8"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE]\d{1,2})?)\s*([kKmM]?)\s*", text)
    if not match:
        raise UsageError(sentence("no_tokens", text=text))
    number, suffix = match.groups()
    scale = {"": 1, "k": 1000, "K": KIB, "m": 10**6, "M": MIB}[suffix]
    exact = float(number) * scale
    if not suffix and exact != round(exact):  # 1.3K is what people write; half a token is a slip
        raise UsageError(sentence("no_whole", text=text))
    return round(exact)


def human_count(count: int) -> str:
    """Return a count as on model cards: 8030261248 -> "8.03 B"."""
    for scale, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= scale:
            return f"{count / scale:.2f} {letter}"
    return str(count)

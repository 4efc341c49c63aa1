"""Bytes as one reads them on a screen: one unit for all that is compared, one decimal."""

from typing import NamedTuple

from weighbridge.memory import Bytes
from weighbridge.units import GIB, KIB, MIB, UNITS

FINEST = 2  # decimals, where one does not tell two numbers apart
FEW = 10  # below so many of a unit there is a decimal


class SizeFormat(NamedTuple):
    """A unit and its decimals."""

    unit: str
    decimals: int = 1

    def bare(self, nbytes: int) -> str:
        text = f"{nbytes / UNITS[self.unit.upper()]:,.{self.decimals}f}"
        return text.removeprefix("-") if not text.strip("-0.,") else text

    def of(self, nbytes: int) -> str:
        return f"{self.bare(nbytes)} {self.unit}"

    def range(self, b: Bytes) -> tuple[str, str] | None:
        """Return both ends of a range as text; None where they are written alike."""
        low, high = self.bare(b.low), self.bare(b.high)
        return None if low == high else (low, high)


def sizes(like: int, unit: str | None = None) -> SizeFormat:
    """Choose how to write numbers that are compared with `like` bytes. Who names a unit wants to
    compare, and gets all decimals."""
    if unit is not None:
        return SizeFormat(unit, FINEST)
    if like >= GIB:
        return SizeFormat("GiB")
    if like >= FEW * MIB:
        return SizeFormat("MiB", 0)
    if like >= MIB:
        return SizeFormat("MiB")
    return SizeFormat("KiB") if like >= KIB else SizeFormat("B", 0)


def apart(found: SizeFormat, difference: int) -> SizeFormat:
    """Return the format with enough decimals for a difference to be seen."""
    shown = abs(difference) * 10**found.decimals * 2 >= UNITS[found.unit.upper()]
    if shown or found.decimals >= FINEST:
        return found
    return apart(found._replace(decimals=found.decimals + 1), difference)

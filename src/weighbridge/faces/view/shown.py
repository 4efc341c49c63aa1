"""The part of an answer that the first screen shows: one device, one phase, one unit.

Sizes that are compared have one unit, with one decimal.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, Device, Instant
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import GIB, KIB, MIB, UNITS
from weighbridge.base.wording import printable, several
from weighbridge.base.words import Words
from weighbridge.memory.report import Report

if TYPE_CHECKING:
    from weighbridge.memory.report.fit import Fit

FINEST = 2  # most decimals, if one does not distinguish two sizes
FEW = 10  # sizes below this many MiB have a decimal


class SizeFormat(NamedTuple):
    """A unit of bytes and the number of decimals to write in it."""

    unit: str
    decimals: int = 1

    def bare(self, nbytes: int) -> str:
        text = f"{nbytes / UNITS[self.unit.upper()]:,.{self.decimals}f}"
        return text.removeprefix("-") if not text.strip("-0.,") else text

    def of(self, nbytes: int) -> str:
        return f"{self.bare(nbytes)} {self.unit}"

    def range(self, interval: Bytes) -> tuple[str, str] | None:
        """Return both bounds as text without the unit; None if they are written alike."""
        low, high = self.bare(interval.low), self.bare(interval.high)
        return None if low == high else (low, high)


def sizes(like: int, unit: str | None = None) -> SizeFormat:
    """Return the format for sizes that are compared with `like` bytes. A `unit` that the user sets
    gets two decimals."""
    if unit is not None:
        return SizeFormat(unit, FINEST)
    if like >= GIB:
        return SizeFormat("GiB")
    if like >= FEW * MIB:
        return SizeFormat("MiB", 0)
    if like >= MIB:
        return SizeFormat("MiB")
    return SizeFormat("KiB") if like >= KIB else SizeFormat("B", 0)


def apart(chosen: SizeFormat, difference: int) -> SizeFormat:
    """Return `chosen` with as many decimals as it takes to show a difference of `difference` bytes,
    at most two."""
    shown = abs(difference) * 10**chosen.decimals * 2 >= UNITS[chosen.unit.upper()]
    if shown or chosen.decimals >= FINEST:
        return chosen
    return apart(chosen._replace(decimals=chosen.decimals + 1), difference)


def left(words: Words, needs: int, nbytes: int, unit: str | None) -> str:
    """Return `nbytes` left or lacking (if negative) as text, in the unit of `needs` if it suits."""
    size = sizes(max(needs, abs(nbytes)) if abs(nbytes) >= GIB else needs, unit)
    key = "margin.spare" if nbytes >= 0 else "margin.short"
    return words(key, size=apart(size, nbytes).of(abs(nbytes)))


class ShownPage(NamedTuple):
    """Options of an answer on a page, which has controls in place of flags."""

    sought: bool = True  # whether remedies were searched for
    least: bool = False  # whether only a lower bound is shown, before the answer is known


class ShownAnswer(NamedTuple):
    """A report with the choices that its screen shares: device, phase, unit and words."""

    report: Report
    say: Words
    unit: str | None  # as the user set it, None if they did not
    sizes: SizeFormat
    device: Device  # the fullest accelerator; the host if there is none
    phase: Instant  # the phase of the headline and the bar
    peak: Bytes
    full: bool = False  # whether all tables are shown
    sought: bool = True  # whether remedies were searched for
    fit: "Fit | None" = None  # the answer of `fit` with this report; None for other questions

    def size(self, nbytes: int) -> str:
        """Return `nbytes` as text, in the unit that suits it or the user set."""
        return sizes(nbytes, self.unit).of(nbytes)

    @property
    def gpus(self) -> int:
        return sum(d.kind == "gpu" for d in self.report.devices)

    @property
    def sees(self) -> bool:
        """Return whether the model classifies images and reads no text."""
        return self.report.model.architecture.endswith("ForImageClassification")

    @property
    def pictures(self) -> str:
        """Return how many images of which size a timm network runs at once, as text; "" for other
        models."""
        if not self.report.sees:
            return ""
        w = self.report.workload
        size = w["image_size"]
        number = self.say.some("images.one", "images.many", w["batch_size"])
        return self.say("title.images", images=number, height=size[0], width=size[1])

    @property
    def split(self) -> bool:
        """Return whether the peak is one device's share of a phase whose components are listed for
        all devices."""
        return self.peak.expected != self.device.peak("driver").expected


def shown(
    report: Report,
    say: Words,
    unit: str | None = None,
    *,
    full: bool = False,
    sought: bool = True,
    fit: "Fit | None" = None,
) -> ShownAnswer:
    device = fullest(report)
    phase, verdict = deciding(report, device), report.verdict
    peak = device.peak("driver")
    if verdict is not None and verdict.count and device.kind == "gpu":
        peak = verdict.per_device
    sought = sought and "search_stopped" not in report.derived
    return ShownAnswer(
        report, say, unit, sizes(peak.expected, unit), device, phase, peak, full, sought, fit
    )


def fullest(report: Report) -> Device:
    """Return the accelerator with the highest peak, the host if there is none; if cards differ, the
    one that decides the verdict."""
    gpus, v = [d for d in report.devices if d.kind == "gpu"], report.verdict
    if v is None or not v.usable_each:
        return report.fullest
    gpus = [d for d in gpus if d.peak("driver") == v.per_device] or gpus
    return max(gpus or report.devices, key=lambda d: d.peak("driver").expected)


def deciding(report: Report, device: Device) -> Instant:
    """Return the phase of a device that the answer is about.

    The allocator keeps the memory it reserved, so later phases show as much as the phase that
    needed it: among phases of equal size it is the one with the most allocated, then the one whose
    bound decides.
    """
    most = device.peak("driver").expected
    size = sizes(most)
    lower = report.verdict is not None and report.verdict.fits == "no"

    def need(phase: Instant) -> tuple[int, int]:
        sums = phase.at("driver")
        return phase.at("allocated").expected, sums.low if lower else sums.high

    alike = [p for p in device.phases if size.bare(p.at("driver").expected) == size.bare(most)]
    return max(alike, key=need)


def distinct(device: Device) -> Iterator[Instant]:
    """Yield the phases of a card; for the host, only those whose need differs from the phase
    before."""
    before: Bytes | None = None
    for phase in device.phases:
        if device.kind == "gpu" or phase.needed != before:
            yield phase
        before = phase.needed


def ranges(numbers: Sequence[int]) -> str:
    """Return device numbers as text, with a dash for consecutive ones: [0, 1, 2, 5] is "0-2, 5"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def card(report: Report) -> str:
    """Return the name of the accelerator without its maker, with its count: "RTX 4090", "2 x A100
    80GB"; "" without one."""
    v = report.verdict
    if v is None or not v.count:
        return ""
    name = printable(v.accelerator).removeprefix("NVIDIA ").replace("GeForce ", "")
    return several(v.count, name)

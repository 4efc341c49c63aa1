"""`trace` on a screen: how the program ended, what the card would have shown, what filled it."""

from typing import TYPE_CHECKING

from weighbridge.memory import Bytes
from weighbridge.view.answer import VERDICTS
from weighbridge.view.messages import Say, say
from weighbridge.view.parts import LEAST, MOST
from weighbridge.view.records import Bar, Headline, Mark, Screen, ShownSegment
from weighbridge.view.sizes import SizeFormat, apart, sizes
from weighbridge.wording import printable, redacted

if TYPE_CHECKING:
    from weighbridge.trace.report import DeviceTrace, TraceReport

DIED = "out of memory"  # how a program ended that the card was too small for


def screen(report: "TraceReport", *, lang: str = "en", unit: str | None = None) -> Screen:
    words, device = say(lang), report.fullest
    scale = sizes(device.driver.expected, unit)
    gpu = report.gpu.name if report.gpu.count == 1 else f"{report.gpu.count} x {report.gpu.name}"
    program = " ".join((report.program.script, *report.program.arguments))
    return Screen(
        title=printable(words("trace.title", program=program, card=gpu.replace("GeForce ", ""))),
        sections=((_headline(report, words, scale), _bar(report, words, scale)),),
        warnings=tuple(printable(redacted(line)) for line in report.warnings),
        lang=lang,
    )


def _headline(report: "TraceReport", words: Say, scale: SizeFormat) -> Headline:
    b, v = report.peak, report.verdict
    if v is None:
        return Headline(_about(words, scale, b), words("headline.trace"), needs=b.expected)
    unit = apart(scale, v.margin_bytes)
    mark: Mark = "no" if report.program.ending == DIED else v.fits
    needs, has = unit.of(b.expected), sizes(v.usable_bytes, unit.unit).of(v.usable_bytes)
    reason = words("trace.died") if report.program.ending == DIED else ""
    return Headline(
        verdict=words(VERDICTS[mark]),
        figures=words("figures.no", needs=needs, has=has),
        mark=mark,
        margin=_margin(report, words, scale),
        reason=reason,
        needs=b.expected,
        has=v.usable_bytes,
    )


def _about(words: Say, scale: SizeFormat, b: Bytes) -> str:
    ends = scale.range(b)
    if ends is None:
        return words("size.alone", size=scale.of(b.expected))
    return words("size.range", size=scale.of(b.expected), low=ends[0], high=ends[1])


def _margin(report: "TraceReport", words: Say, scale: SizeFormat) -> str:
    v = report.verdict
    if v is None or report.program.ending == DIED:  # what it would have needed is not known
        return ""
    key = "margin.spare" if v.margin_bytes >= 0 else "margin.short"
    return words(key, size=apart(scale, v.margin_bytes).of(abs(v.margin_bytes)))


def _bar(report: "TraceReport", words: Say, scale: SizeFormat) -> Bar:
    device = report.fullest
    found = tuple(
        ShownSegment(key, name, nbytes, scale.bare(nbytes))
        for key, name, nbytes in _parts(device, words)
    )
    seen = [f"{one.name} {one.size}" for one in found if one.size.strip("0.,")]
    v = report.verdict
    listed = ", ".join(f"{text} {scale.unit}" for text in seen)
    return Bar(
        segments=found,
        total=sum(one.nbytes for one in found),
        capacity=None if v is None else v.usable_bytes,
        low=device.driver.low,
        high=device.driver.high,
        label=words("bar.peak", phase=printable(device.allocated.phase)),
        margin=_margin(report, words, scale),
        legend=" · ".join(seen),
        words=words("bar.words", parts=listed),
    )


def _parts(device: "DeviceTrace", words: Say) -> list[tuple[str, str, int]]:
    """(key, name, bytes) of what was allocated by role, of what the allocator held beside it, and
    of the context: at most MOST."""
    top = device.allocated
    held = [(role, printable(role), n) for role, n in top.roles.items()]
    overhead = max(0, device.reserved.reserved - sum(n for _, _, n in held))
    context = max(0, device.driver.expected - device.reserved.reserved)
    held += [
        ("allocator", words("part.allocator"), overhead),
        ("context", words("part.context"), context),
    ]
    whole = sum(n for _, _, n in held)
    ordered = sorted(held, key=lambda part: -part[2])
    large = [part for part in ordered if part[2] * LEAST >= whole and part[2]][: MOST - 1]
    rest = whole - sum(n for _, _, n in large)
    return [*large, *([("other", words("part.other"), rest)] if rest else [])]

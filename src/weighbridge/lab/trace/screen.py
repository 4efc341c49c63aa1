"""`trace` on a screen: how the program ended, what the card would have shown, what filled it."""

from typing import TYPE_CHECKING

from weighbridge.memory import Bytes
from weighbridge.view.parts import LEAST, MOST
from weighbridge.view.records import Bar, Headline, Lines, Screen, ShownSegment, lines
from weighbridge.view.shown import SizeFormat, apart, sizes
from weighbridge.wording import printable, redacted
from weighbridge.words import Words, words_in

if TYPE_CHECKING:
    from weighbridge.lab.trace.report import DeviceTrace, TraceReport


def screen(report: "TraceReport", *, lang: str = "en", unit: str | None = None) -> Screen:
    words = words_in(lang)
    gpu = report.gpu.name if report.gpu.count == 1 else f"{report.gpu.count} x {report.gpu.name}"
    program = " ".join((report.program.script, *report.program.arguments))
    bar = (_bar(report, words, unit),) if report.used else ()
    return Screen(
        title=printable(words("trace.title", program=program, card=gpu.replace("GeForce ", ""))),
        sections=((_headline(report, words, unit), *bar, *_left(report, words)),),
        warnings=tuple(printable(redacted(line)) for line in report.warnings),
        lang=lang,
    )


def _headline(report: "TraceReport", words: Words, unit: str | None) -> Headline:
    b, v, reason = report.peak, report.verdict, _reason(report, words)
    if v is None:
        about = _about(words, sizes(b.expected, unit), b)
        return Headline(about, words("headline.trace"), reason=reason, needs=b.expected)
    needs, has = (apart(sizes(n, unit), v.margin_bytes).of(n) for n in (b.expected, v.usable_bytes))
    return Headline(
        verdict=words(f"verdict.{v.fits}"),
        figures=words(_figures(report), needs=needs, has=has),
        mark=v.fits,
        margin=_margin(report, words, unit),
        reason=reason,
        needs=b.expected,
        has=v.usable_bytes,
    )


def _left(report: "TraceReport", words: Words) -> tuple[Lines, ...]:
    """Which loops were left early."""
    told = [
        words("trace.alike" if loop.alike else "trace.enough", place=loop.place, rounds=loop.rounds)
        for loop in report.loops[:LOOPS]
    ]
    return (lines(*map(printable, told)),) if told else ()


def _figures(report: "TraceReport") -> str:
    """Which sentence has the two sizes: what a whole course needs, or what a part of one took."""
    if not report.used:
        return "figures.unused"
    if not report.program.ended:
        return "figures.so_far"
    return "figures.no"


def _reason(report: "TraceReport", words: Words) -> str:
    """How it ended, where that is not the end of the script."""
    program, last = report.program, report.refusal
    told = []
    if not report.used:
        told.append(words("trace.unused"))
    if program.ending == "out of memory":
        at = program.place or (last.phase if last else program.script)
        how = "trace.larger" if program.went_on else "trace.died"
        told.append(words(how, place=at))
    ending = program.went_on or program.ending
    if not program.ended and ending != "out of memory":
        at, error = program.place or program.script, program.error
        if program.went_on:
            error = ""
        told.append(words(f"trace.{ENDINGS[ending]}", place=at, error=error or ending).strip())
    return printable("; ".join(told))


LOOPS = 3  # that are named
ENDINGS = {"exception": "crashed", "exit": "left", "interrupted": "interrupted"}


def _about(words: Words, scale: SizeFormat, b: Bytes) -> str:
    ends = scale.range(b)
    if ends is None:
        return words("size.alone", size=scale.of(b.expected))
    return words("size.range", size=scale.of(b.expected), low=ends[0], high=ends[1])


def _margin(report: "TraceReport", words: Words, unit: str | None) -> str:
    """What is left, or lacking; "" where a part of the course alone is known."""
    v = report.verdict
    if v is None or not report.used or not report.program.ended:
        return ""
    key = "margin.spare" if v.margin_bytes >= 0 else "margin.short"
    return words(key, size=sizes(abs(v.margin_bytes), unit).of(abs(v.margin_bytes)))


def _bar(report: "TraceReport", words: Words, unit: str | None) -> Bar:
    device = report.fullest
    scale = sizes(device.driver.expected, unit)
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
        margin=_margin(report, words, unit),
        legend=" · ".join(seen),
        words=words("bar.words", parts=listed),
    )


def _parts(device: "DeviceTrace", words: Words) -> list[tuple[str, str, int]]:
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

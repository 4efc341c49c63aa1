"""`trace` on a screen: how the program ended, what the card would have shown, what filled it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes
from weighbridge.base.wording import printable, redacted
from weighbridge.base.words import Words, words_in
from weighbridge.faces.view.parts import LEAST, MOST
from weighbridge.faces.view.records import Bar, Headline, Lines, Screen, ShownSegment, lines
from weighbridge.faces.view.shown import SizeFormat, apart, sizes

if TYPE_CHECKING:
    from weighbridge_lab.trace.cards import CardClass
    from weighbridge_lab.trace.report import DeviceTrace, TracedProgram, TraceReport
    from weighbridge_lab.trace.steady import LeftLoop


def screen(report: "TraceReport", *, lang: str = "en", unit: str | None = None) -> Screen:
    """Return a trace as one screen of sections."""
    words = words_in(lang)
    gpu = report.gpu.name if report.gpu.count == 1 else f"{report.gpu.count} x {report.gpu.name}"
    program = " ".join((report.program.script, *report.program.arguments))
    bar = (_bar(report, words, unit),) if report.used else ()
    return Screen(
        title=printable(words("trace.title", program=program, card=gpu.replace("GeForce ", ""))),
        sections=((_headline(report, words, unit), *bar, *_closing_lines(report, words)),),
        warnings=tuple(printable(redacted(line)) for line in report.warnings),
        lang=lang,
    )


def _headline(report: "TraceReport", words: Words, unit: str | None) -> Headline:
    peak, verdict, reason = report.peak, report.verdict, why(report, words)
    if verdict is None:
        about = _about(words, sizes(peak.expected, unit), peak)
        return Headline(about, words("headline.trace"), reason=reason, needs=peak.expected)
    needs, has = (
        apart(sizes(n, unit), verdict.margin_bytes).of(n)
        for n in (peak.expected, verdict.usable_bytes)
    )
    low, high = _ends(report, unit)
    return Headline(
        verdict=words(f"verdict.{verdict.fits}"),
        figures=words(_figures(report), needs=needs, has=has, low=low, high=high),
        mark=verdict.fits,
        margin=_margin(report, words, unit),
        reason=reason,
        needs=peak.expected,
        has=verdict.usable_bytes,
    )


def _closing_lines(report: "TraceReport", words: Words) -> tuple[Lines, ...]:
    """Return lines on cards with room, on the loss used for a net, and on loops that were left
    early."""
    known = report.used and report.cards
    left_lines = [on_cards(report.cards, report.gpu.name, words)] if known else []
    left_lines = [line for line in left_lines if line]
    left_lines += [words.told(report.program.loss)] if report.program.loss else []
    left_lines += [
        words(f"trace.{_why(loop)}", place=loop.place, rounds=loop.rounds)
        for loop in report.loops[:LOOPS]
    ]
    return (lines(*map(printable, left_lines)),) if left_lines else ()


def on_cards(judged: "Sequence[CardClass]", traced: str, words: Words) -> str:
    """Return a line on which of the catalogue's cards have room, by their sizes. It names the size
    of which only the traced card's answer is known; "" if nothing is known of any size."""
    from weighbridge_lab.trace.cards import spans

    span = spans(judged)
    if len(span.unknown) == len(judged):
        return ""
    parts = [words("trace.cards.fit", gb=span.fits)] if span.fits else []
    if span.apart:
        answer = words(f"trace.cards.traced_{span.apart.traced}", card=traced)
        parts.append(words("trace.cards.apart", gb=span.apart.gb, answer=answer))
    if span.unknown:
        listed = ", ".join(map(str, span.unknown))
        ends = f"{span.unknown[0]}\u2013{span.unknown[-1]}"
        parts.append(words("trace.cards.unknown", gb=listed if len(span.unknown) <= FEW else ends))
    if span.no:
        parts.append(words("trace.cards.no", gb=span.no))
    return "; ".join(parts)


def _why(loop: "LeftLoop") -> str:
    return "alike" if loop.alike else "still" if loop.still else "enough"


def _figures(report: "TraceReport") -> str:
    """Return the key of the sentence with two sizes: what a whole run needs, or what a part of one
    took."""
    if not report.used:
        return "figures.unused"
    if report.program.ended:
        if _bounded(report) and report.verdict and report.verdict.fits != "yes":
            return "figures.unknown"
        return "figures.at_most" if report.at_most or report.compiled else "figures.enough"
    return "figures.asked" if report.program.ending == "out of memory" else "figures.so_far"


def _shared(report: "TraceReport", words: Words) -> tuple[str, ...]:
    processes = report.fullest.processes if report.devices else 1
    return (words("trace.shared", processes=processes),) if processes > 1 else ()


def _bounded(report: "TraceReport") -> bool:
    """Return whether a lower bound of compiled code is known."""
    return report.compiled is not None and report.compiled.low > 0


def _ends(report: "TraceReport", unit: str | None) -> tuple[str, str]:
    """Return (lower, upper) bound of what compiled code takes, as text."""
    interval = report.compiled or report.peak
    scale = sizes(interval.expected, unit)
    return scale.of(interval.low), scale.of(interval.high)


def why(report: "TraceReport", words: Words) -> str:
    """Return how the run ended, if not at the end of the script, and what bounds it."""
    return printable("; ".join((*_reasons(report, words), *_shared(report, words))))


def _reasons(report: "TraceReport", words: Words) -> Iterator[str]:
    """Yield the reasons: if it stopped, the cause and how to go on first; then what bounds the
    sizes."""
    yield from _endings(report, words)
    last, ended = report.refusal, report.program.ending
    if not report.used and report.program.ended and not report.program.advice:
        yield words("trace.unused")
    if last is not None and ended != "out of memory":
        yield words("trace.recovered", count=sum(len(each.refusals) for each in report.devices))
    if report.at_most:
        yield words("trace.at_most", places=", ".join(report.at_most[:PLACES]))
    yield from _unseen(report, words)
    if report.compiled is not None:
        yield words("trace.eager")
    if _bounded(report):
        low, high = _ends(report, None)
        yield words("trace.compiled", low=low, high=high)


def _unseen(report: "TraceReport", words: Words) -> Iterator[str]:
    """Yield what is assumed if loops were left early: later batches, lines that never ran."""
    from weighbridge_lab.trace.unseen import later, untrained

    trains = untrained(report.loops)
    if trains:
        yield words("trace.untrained", places=", ".join(trains[:PLACES]))
    others = dict.fromkeys(line for loop in report.loops for line in loop.untaken)
    never = [line for line in others if line not in trains]
    if never:
        yield words("trace.never_ran", places=", ".join(never[:PLACES]))
    if later(report.loops):
        yield words("trace.if_no_later")


def _endings(report: "TraceReport", words: Words) -> Iterator[str]:
    program, last = report.program, report.refusal
    place = program.place or (last.phase if last else program.script)
    if program.ending == "out of memory":
        yield words("trace.larger" if program.went_on else "trace.died", place=place)
    if program.settled and program.ended:
        yield words("trace.settled", place=program.place, steps=program.settled)
    elif not program.ended:
        yield from _stopped(program, place, words)
    if program.advice:
        yield words.told(program.advice)


def _stopped(program: "TracedProgram", place: str, words: Words) -> Iterator[str]:
    """Yield the line at which a program stopped, and its error."""
    ending = program.went_on or program.ending
    if ending != "out of memory":
        error = "" if program.went_on else program.error
        yield words(f"trace.{ENDINGS[ending]}", place=place, error=error or ending).strip()


LOOPS = 3  # that are listed
FEW = 6  # sizes of cards that are listed
PLACES = 3
ENDINGS = {
    "exception": "crashed",
    "exit": "left",
    "interrupted": "interrupted",
    "time is up": "time_up",
}


def _about(words: Words, scale: SizeFormat, peak: Bytes) -> str:
    ends = scale.range(peak)
    if ends is None:
        return words("size.alone", size=scale.of(peak.expected))
    return words("size.range", size=scale.of(peak.expected), low=ends[0], high=ends[1])


def _margin(report: "TraceReport", words: Words, unit: str | None) -> str:
    """Return the memory to spare or lacking; "" if only a part of the run is known."""
    verdict = report.verdict
    if verdict is None or not report.used or not report.program.ended:
        return ""
    key = "margin.spare" if verdict.margin_bytes >= 0 else "margin.short"
    return words(key, size=sizes(abs(verdict.margin_bytes), unit).of(abs(verdict.margin_bytes)))


def _bar(report: "TraceReport", words: Words, unit: str | None) -> Bar:
    device = report.fullest
    scale = sizes(device.driver.expected, unit)
    segments = tuple(
        ShownSegment(key, name, nbytes, scale.bare(nbytes))
        for key, name, nbytes in _parts(device, words)
    )
    seen = [f"{one.name} {one.size}" for one in segments if one.size.strip("0.,")]
    verdict = report.verdict
    listed = ", ".join(f"{text} {scale.unit}" for text in seen)
    return Bar(
        segments=segments,
        total=sum(one.nbytes for one in segments),
        capacity=None if verdict is None else verdict.usable_bytes,
        low=device.driver.low,
        high=device.driver.high,
        label=words("bar.peak", phase=words(f"phase.{device.allocated.phase or 'load'}")),
        margin=_margin(report, words, unit),
        legend=" · ".join(seen),
        words=words("bar.words", parts=listed),
    )


def _parts(device: "DeviceTrace", words: Words) -> list[tuple[str, str, int]]:
    """Return at most MOST of (key, name, bytes): of allocated memory by role, of what the allocator
    holds besides, and of the context."""
    top = device.allocated
    parts = [(role, printable(role), n) for role, n in top.roles.items()]
    overhead = max(0, device.reserved.reserved - sum(n for _, _, n in parts))
    each = device.driver.expected // device.processes
    context = max(0, each - device.reserved.reserved)
    parts += [
        ("allocator", words("part.allocator"), overhead),
        ("context", words("part.context"), context),
        ("processes", words("part.processes"), device.driver.expected - each),
    ]
    whole = sum(n for _, _, n in parts)
    ordered = sorted(parts, key=lambda part: -part[2])
    large = [part for part in ordered if part[2] * LEAST >= whole and part[2]][: MOST - 1]
    smaller = whole - sum(n for _, _, n in large)
    return [*large, *([("other", words("part.other"), smaller)] if smaller else [])]

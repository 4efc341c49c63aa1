"""The headline: does it fit, by how much, and why, in everyday words.

Numbers speak for themselves where the verdict compares them. Where something else decides (host
memory, too few devices, a flag that an engine needs, what is not counted), that is the reason.
"""

from typing import TYPE_CHECKING

from weighbridge.memory import Bytes
from weighbridge.units import GIB
from weighbridge.view.parts import NAMES
from weighbridge.view.records import Headline, Mark
from weighbridge.view.shown import ShownAnswer, SizeFormat, apart, card, sizes
from weighbridge.wording import printable

if TYPE_CHECKING:
    from weighbridge.report.verdict import HostVerdict, Verdict

# How the sentences begin that compare two numbers (sentences.py): the figures say that
OPENINGS = ("needs about ", "too close to call: ")


def mark(v: "Verdict") -> Mark:
    return "tight" if v.fits == "yes" and v.tight else v.fits


def headline(s: ShownAnswer) -> Headline:
    v = s.report.verdict
    if v is None:
        return _size(s)
    if not v.count:
        return _host_alone(s, v)
    on, sign = card(s.report), mark(v)
    if sign == "yes" and _by_unwritten_flags(s, v):
        sign = "tight"
    where = s.say("headline.on", card=on)
    return Headline(
        verdict=f"{s.say(f'verdict.{mark(v)}')}{where}",
        figures=_figures(s, v),
        mark=sign,
        margin=margin(s),
        reason=_reason(s, v),
        needs=s.peak.expected,
        has=v.usable_bytes,
    )


def _by_unwritten_flags(s: ShownAnswer, v: "Verdict") -> bool:
    """Tell whether the engine may not start by its defaults, and no line says the flags."""
    by_flags = "launch_serves" in s.report.derived and v.reason.startswith("with its defaults")
    return by_flags and not s.report.derived.get("launch")


def _size(s: ShownAnswer) -> Headline:
    """Make the headline of an answer without a device: what is needed."""
    where = s.say("headline.host" if s.device.kind == "host" else "headline.card")
    return Headline(about(s, s.sizes, s.peak), where, needs=s.peak.expected)


def about(s: ShownAnswer, unit: SizeFormat, b: Bytes) -> str:
    """One number and one range, where they differ."""
    ends = unit.range(b)
    if ends is None:
        return s.say("size.alone", size=unit.of(b.expected))
    return s.say("size.range", size=unit.of(b.expected), low=ends[0], high=ends[1])


def _figures(s: ShownAnswer, v: "Verdict") -> str:
    """Return the bytes that are needed beside those that there are, as a sentence."""
    unit = apart(s.sizes, v.margin_bytes)
    if _too_few(v):
        needs = unit.of(v.per_device.expected)
        return s.say("figures.devices", needs=needs, count=v.devices_used)
    if compared(v) == "unknown":
        return _overlap(s, unit, v)
    has = _same(unit, v.usable_bytes)
    if v.margin_bytes < 0:
        short = unit.of(-v.margin_bytes)
        key = "figures.no" if v.count < 2 or v.usable_each else "figures.no.each"
        needs = unit.of(v.per_device.expected)
        return s.say(key, needs=needs, has=has, short=short, count=v.count)
    ends = unit.range(v.per_device)
    told = {"needs": unit.of(v.per_device.expected), "has": has}
    if ends is None:
        return s.say("figures.yes.exact", **told)
    return s.say("figures.yes", **told, low=ends[0], high=ends[1])


def _too_few(v: "Verdict") -> bool:
    """Tell whether a device has room, and there are fewer than it takes: nothing is to spare."""
    return v.devices_used > v.count and v.margin_bytes >= 0


def _overlap(s: ShownAnswer, unit: SizeFormat, v: "Verdict") -> str:
    usable = unit.bare(v.usable.low)
    if unit.range(v.usable) is not None:
        usable = f"{usable}-{unit.bare(v.usable.high)}"
    low, high = unit.bare(v.per_device.low), unit.of(v.per_device.high)
    return s.say("figures.unknown", low=low, high=high, has=usable)


def _same(unit: SizeFormat, nbytes: int) -> str:
    """A size beside one in that unit, with its own unit where that is another."""
    own = sizes(nbytes, unit.unit if unit.unit in ("GB", "GiB") else None)
    return unit.bare(nbytes) if own.unit == unit.unit else own.of(nbytes)


def compared(v: "Verdict") -> str:
    """Return the verdict of the device's numbers alone: yes, no or unknown."""
    if v.per_device.high <= v.usable.low:
        return "yes"
    return "no" if v.per_device.low > v.usable.high else "unknown"


def margin(s: ShownAnswer) -> str:
    """Return the bytes left or lacking, in words; the share that fits where nobody can say."""
    v = s.report.verdict
    if v is None or not v.count or _too_few(v):
        return ""
    if compared(v) == "unknown" and v.share_that_fits is not None:
        share = min(99, max(1, round(100 * v.share_that_fits)))  # it is neither none nor all
        return s.say("margin.share", share=share)
    key, left = ("margin.spare" if v.margin_bytes >= 0 else "margin.short"), abs(v.margin_bytes)
    unit = s.sizes if left < GIB or s.sizes.unit == "GiB" else sizes(left, s.unit)
    return s.say(key, size=apart(unit, left).of(left))


def _reason(s: ShownAnswer, v: "Verdict") -> str:
    """Return the sentence that says what decides, where the numbers beside it do not."""
    if v.devices_used > v.count:
        key = "reason.devices.one" if v.count == 1 else "reason.devices"
        return s.say(key, needs=v.devices_used, count=v.count)
    if _by_host(v):
        assert v.host is not None
        return _host(s, v.host)
    missing, d = s.report.derived.get("not_counted"), s.report.derived
    if missing:
        return s.say("reason.not_counted", what=s.say.told("; ".join(missing)))
    if v.fits == "yes" and d.get("launch_serves") and not d.get("serves_by_default", True):
        return s.say("reason.flags" if d.get("launch") else "reason.flags.alone")
    lead = printable(_lead(v))
    return lead or "; ".join(filter(None, (_tipped(s, v), _each(s, v), _nodes(s, v))))


def _tipped(s: ShownAnswer, v: "Verdict") -> str:
    """The component with which the sum is more than there is."""
    if v.fits != "no" or v.tipped_by is None or s.split:
        return ""
    if weights_too_big(s):
        return s.say("reason.weights")
    return s.say("reason.tipped", part=s.say(NAMES[v.tipped_by]))


def weights_too_big(s: ShownAnswer) -> bool:
    """Tell whether the weights of the fullest device alone are more than it has."""
    held = sum(c.bytes.low for c in s.phase.components if c.name == "weights")
    return s.report.verdict is not None and held > s.report.verdict.usable.high


def _nodes(s: ShownAnswer, v: "Verdict") -> str:
    return s.say("reason.nodes", count=v.count, nodes=v.nodes) if v.nodes > 1 else ""


def _lead(v: "Verdict") -> str:
    """Return the part of a reason before it compares two numbers; all of it where it does not."""
    starts = (v.reason.find(opening) for opening in OPENINGS)
    at = min((n for n in starts if n >= 0), default=len(v.reason))
    return v.reason[:at].rstrip(" :;")


def _by_host(v: "Verdict") -> bool:
    """Tell whether host memory tips the verdict."""
    return v.host is not None and v.host.fits == v.fits != "yes" and v.fits != compared(v)


def _host(s: ShownAnswer, h: "HostVerdict") -> str:
    """Return the sentence on the host memory that one machine lacks."""
    assert h.available is not None
    room = h.available - h.needed.expected
    unit = apart(sizes(h.needed.expected, s.unit), room)
    if h.fits == "no":
        return s.say(
            "reason.host.no",
            needs=unit.of(h.needed.expected),
            has=unit.of(h.available),
            short=unit.of(-room),
        )
    return s.say(
        "reason.host.unknown",
        low=unit.bare(h.needed.low),
        high=unit.of(h.needed.high),
        has=unit.of(h.available),
    )


def _each(s: ShownAnswer, v: "Verdict") -> str:
    """Return the sentence on several devices: their memory does not add up."""
    if v.count == 1:
        return ""
    if v.devices_used == 1 and v.fits != "yes":
        return s.say("reason.one_holds_all", count=v.count)
    idle = v.count - v.devices_used
    if v.fits == "yes":
        return s.say("reason.idle", idle=idle, count=v.count) if idle else ""
    if idle or not v.devices_used or not s.split:
        return ""
    if v.usable_each:
        summed = " + ".join(map(s.sizes.bare, v.usable_each))
        whole = s.sizes.of(sum(v.usable_each))
        return s.say("reason.not_their_sum", summed=summed, whole=whole)
    each = s.sizes.of(v.usable_bytes)
    whole = s.sizes.of(v.count * v.usable_bytes)
    return s.say("reason.not_the_sum", count=v.count, each=each, whole=whole)


def _host_alone(s: ShownAnswer, v: "Verdict") -> Headline:
    """A verdict on host memory, where no device was named."""
    assert v.host is not None
    h = v.host
    unit = sizes(h.needed.expected, s.unit)
    needs, has = unit.of(h.needed.expected), unit.of(h.available or 0)
    reason = "" if h.fits == v.fits else s.say("reason.no_device")
    return Headline(
        verdict=f"{s.say(f'verdict.{v.fits}')}{s.say('headline.on_host')}",
        figures=s.say("figures.host", needs=needs, has=has),
        mark=v.fits,
        reason=reason,
        needs=h.needed.expected,
        has=h.available,
    )

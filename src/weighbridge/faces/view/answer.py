"""The headline: does it fit, by how much, and why, in everyday words.

Numbers speak for themselves where the verdict compares them. Where something else decides (host
memory, too few devices, a flag that an engine needs, what is not counted), that is the reason.
"""

from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes
from weighbridge.base.sentences import before, clauses, key_of, keys_of, parts_of
from weighbridge.base.units import GIB, ceil_div
from weighbridge.engines.table import ENGINES
from weighbridge.faces.view.parts import NAMES
from weighbridge.faces.view.records import Headline, Mark
from weighbridge.faces.view.shown import ShownAnswer, SizeFormat, apart, card, sizes

if TYPE_CHECKING:
    from weighbridge.memory.report.verdict import HostVerdict, Verdict


LIKELY = 75  # percent of a range: what is said of pictures in words


def mark(verdict: "Verdict") -> Mark:
    return "tight" if verdict.fits == "yes" and verdict.tight else verdict.fits


def headline(answer: ShownAnswer) -> Headline:
    v = answer.report.verdict
    if v is None:
        return _size(answer)
    if not v.count:
        return _host_alone(answer, v)
    on, sign = card(answer.report), mark(v)
    if sign == "yes" and _by_unwritten_flags(answer, v):
        sign = "tight"
    where = answer.say("headline.on", card=on)
    word = answer.say("verdict.spills") if v.spilled else answer.say(f"verdict.{mark(v)}")
    return Headline(
        verdict=f"{word}{where}",
        figures=_of_host(answer, v.host) if v.host and _by_host(v) else _figures(answer, v),
        mark=sign,
        margin="" if _by_host(v) else margin(answer),
        reason=_reason(answer, v),
        needs=answer.peak.expected,
        has=v.usable_bytes,
    )


def _by_unwritten_flags(answer: ShownAnswer, verdict: "Verdict") -> bool:
    """Tell whether the engine may not start by its defaults, and no line says the flags."""
    first = key_of(parts_of(verdict.reason)[0])
    by_flags = "launch_serves" in answer.report.derived and first.startswith("defaults_")
    return by_flags and not answer.report.derived.get("launch")


def _size(answer: ShownAnswer) -> Headline:
    """Make the headline of an answer without a device: what is needed."""
    where = answer.say("headline.host" if answer.device.kind == "host" else "headline.card")
    return Headline(about(answer, answer.sizes, answer.peak), where, needs=answer.peak.expected)


def about(answer: ShownAnswer, unit: SizeFormat, interval: Bytes) -> str:
    """Return a size in words: one number, and the range around it where both ends differ."""
    ends = unit.range(interval)
    if ends is None:
        return answer.say("size.alone", size=unit.of(interval.expected))
    return answer.say("size.range", size=unit.of(interval.expected), low=ends[0], high=ends[1])


def _figures(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the bytes that are needed beside those that there are, as a sentence."""
    unit = apart(answer.sizes, verdict.margin_bytes)
    if _too_few(verdict):
        needs = unit.of(verdict.per_device.expected)
        return answer.say("figures.devices", needs=needs, count=verdict.devices_used)
    if compared(verdict) == "unknown":
        return _overlap(answer, unit, verdict)
    has = _same(unit, verdict.usable_bytes)
    if verdict.margin_bytes < 0:
        short = unit.of(-verdict.margin_bytes)
        key = "figures.no" if verdict.count < 2 or verdict.usable_each else "figures.no.each"
        needs = unit.of(verdict.per_device.expected)
        return answer.say(key, needs=needs, has=has, short=short, count=verdict.count)
    return _of(answer, unit, verdict.per_device, has)


def figures(answer: ShownAnswer, needed: Bytes, usable: int) -> str:
    """Return what is needed of what a device has, as a sentence."""
    unit = apart(sizes(needed.expected, answer.unit), usable - needed.expected)
    return _of(answer, unit, needed, _same(unit, usable))


def _of(answer: ShownAnswer, unit: SizeFormat, needed: Bytes, has: str) -> str:
    ends = unit.range(needed)
    values = {"needs": unit.of(needed.expected), "has": has}
    if ends is None:
        return answer.say("figures.yes.exact", **values)
    return answer.say("figures.yes", **values, low=ends[0], high=ends[1])


def _too_few(verdict: "Verdict") -> bool:
    """Tell whether a device has room, and there are fewer than it takes: nothing is to spare."""
    return verdict.devices_used > verdict.count and verdict.margin_bytes >= 0


def _overlap(answer: ShownAnswer, unit: SizeFormat, verdict: "Verdict") -> str:
    usable = unit.bare(verdict.usable.low)
    if unit.range(verdict.usable) is not None:
        usable = f"{usable}-{unit.bare(verdict.usable.high)}"
    low, high = unit.bare(verdict.per_device.low), unit.of(verdict.per_device.high)
    return answer.say("figures.unknown", low=low, high=high, has=usable)


def _same(unit: SizeFormat, nbytes: int) -> str:
    """A size beside one in that unit, with its own unit where that is another."""
    scale = sizes(nbytes, unit.unit if unit.unit in ("GB", "GiB") else None)
    return unit.bare(nbytes) if scale.unit == unit.unit else scale.of(nbytes)


def compared(verdict: "Verdict") -> str:
    """Return the verdict of the device's numbers alone: yes, no or unknown."""
    if verdict.per_device.high <= verdict.usable.low:
        return "yes"
    return "no" if verdict.per_device.low > verdict.usable.high else "unknown"


def margin(answer: ShownAnswer) -> str:
    """Return the bytes of a device left or lacking, in words; the share of its range that fits
    where nobody can say. That of the host is told with the host."""
    v = answer.report.verdict
    if v is None or not v.count or _too_few(v):
        return ""
    if compared(v) == "unknown" and v.share_that_fits is not None:
        share = _percent(v.per_device, v.usable)
        key = _in_words(share) if answer.report.pictures else "margin.share"
        return answer.say(key, share=share)
    key, left = ("margin.spare" if v.margin_bytes >= 0 else "margin.short"), abs(v.margin_bytes)
    unit = answer.sizes if left < GIB or answer.sizes.unit == "GiB" else sizes(left, answer.unit)
    return answer.say(key, size=apart(unit, left).of(left))


def _in_words(percent: int) -> str:
    """Return the key of how likely pictures fit, by the share of their range that does."""
    if percent >= LIKELY:
        return "margin.likely"
    return "margin.unlikely" if percent <= 100 - LIKELY else "margin.open"


def _reason(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the sentence that says what decides, where the numbers beside it do not."""
    if verdict.devices_used > verdict.count:
        key = "reason.devices.one" if verdict.count == 1 else "reason.devices"
        return answer.say(key, needs=verdict.devices_used, count=verdict.count)
    if _by_host(verdict):
        assert verdict.host is not None
        return _beside_host(answer, verdict, verdict.host)
    both = verdict.host is not None and verdict.host.fits == verdict.fits == "unknown"
    if both and compared(verdict) == "unknown":
        assert verdict.host is not None
        return _host(answer, verdict.host)
    missing, d = answer.report.derived.get("not_counted"), answer.report.derived
    if missing:
        return answer.say("reason.not_counted", what=answer.say.told(clauses(*missing)))
    if "layers_on_card" in d:
        return _divided(answer)
    if verdict.fits == "yes" and d.get("launch_serves") and not d.get("serves_by_default", True):
        return answer.say("reason.flags" if d.get("launch") else "reason.flags.alone")
    lead = answer.say.told(_lead(verdict))
    reasons = (_tipped(answer, verdict), _each(answer, verdict), _nodes(answer, verdict))
    return lead or "; ".join(filter(None, (*reasons, _host_too(answer, verdict))))


def _divided(answer: ShownAnswer) -> str:
    """Return the sentence on a model that the engine divides by itself: where it is, and how much
    slower that makes it."""
    w, d = answer.report.workload, answer.report.derived
    slower = answer.say("divided.much_slower")
    if "times_slower" in d:
        low, high = d["times_slower"]
        slower = answer.say("divided.slower", low=f"{low:.2g}", high=f"{high:.2g}")
    line = answer.say(
        f"divided.{d['divided_by']}",
        engine=ENGINES[w["engine"]].title,
        kept=d["layers_on_card"][0],
        whole=d["layers_on_card"][1],
        share=f"{d['share_in_ram']:.0%}",
        slower=slower,
    )
    verdict = answer.report.verdict
    if verdict is None or verdict.host is None or verdict.fits != "unknown":
        return line
    if verdict.host.fits is not None:  # what leaves it open is not the RAM
        return f"{line}; {answer.say.told(verdict.reason)}"
    host = verdict.host.needed.expected
    return f"{line}; {answer.say('divided.ram', size=sizes(host, answer.unit).of(host))}"


def _tipped(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the sentence that names the part with which the sum is more than the device has, or
    ""."""
    if verdict.fits != "no" or verdict.tipped_by is None or answer.split:
        return ""
    if weights_too_big(answer):
        return answer.say("reason.weights")
    return answer.say("reason.tipped", part=answer.say(NAMES[verdict.tipped_by]))


def weights_too_big(answer: ShownAnswer) -> bool:
    """Tell whether the weights of the fullest device alone are more than it has."""
    weights = answer.phase.of("weights").low
    return answer.report.verdict is not None and weights > answer.report.verdict.usable.high


def _nodes(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the sentence on several machines: as many as were said, else as many as are filled."""
    each = answer.report.setting("ranks_per_machine")
    nodes = ceil_div(verdict.count, each) if each else verdict.nodes
    return answer.say("reason.nodes", count=verdict.count, nodes=nodes) if nodes > 1 else ""


def _host_too(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the sentence on host memory that is short beside a device that is; else ""."""
    if verdict.host is None or verdict.fits != "no" or verdict.host.fits != "no":
        return ""
    return answer.say("reason.host.too", figures=_of_host(answer, verdict.host))


def _lead(verdict: "Verdict") -> str:
    """Return the part of a reason before it compares two numbers; all of it where it does not."""
    from weighbridge.answers.verdict.reasons import (
        COMPARED,  # of verdicts, which a size has none of
    )

    leading: list[str] = []
    for part in parts_of(verdict.reason):
        if COMPARED in keys_of(part):
            leading += [] if key_of(part) == COMPARED else [before(part)]
            break
        leading.append(part)
    return clauses(*leading)


def _by_host(verdict: "Verdict") -> bool:
    """Tell whether it is host memory, and not the device, that decides the verdict."""
    return (
        verdict.host is not None
        and verdict.host.fits == verdict.fits != "yes"
        and verdict.fits != compared(verdict)
    )


def _lacking(answer: ShownAnswer, host: "HostVerdict") -> tuple[SizeFormat, int]:
    """Return the unit of a machine's figures, and the bytes that it lacks."""
    assert host.available is not None
    lacks = host.needed.expected - host.available
    return apart(sizes(host.needed.expected, answer.unit), lacks), lacks


def _of_host(answer: ShownAnswer, host: "HostVerdict") -> str:
    """Return the host memory that is needed beside that of the machine, as a sentence."""
    unit, _ = _lacking(answer, host)
    if host.fits == "no":
        key = "figures.host.shared" if host.shared else "figures.host"
        needs, has = unit.of(host.needed.expected), unit.of(host.available or 0)
        return answer.say(key, needs=needs, has=has)
    key = "figures.host.unknown.shared" if host.shared else "figures.host.unknown"
    return answer.say(key, **_ends(unit, host))


def _ends(unit: SizeFormat, host: "HostVerdict") -> dict[str, str]:
    """Return both ends of what a machine needs, and what it has, as texts."""
    assert host.room is not None
    low, high = unit.bare(host.room.low), unit.of(host.room.high)
    has = high if host.room.exact else f"{low}-{high}"
    return {"low": unit.bare(host.needed.low), "high": unit.of(host.needed.high), "has": has}


def _beside_host(answer: ShownAnswer, verdict: "Verdict", host: "HostVerdict") -> str:
    """Return the sentence on what the machine lacks, and on the device, which does not decide."""
    where = answer.say("reason.host.card" if verdict.count == 1 else "reason.host.cards")
    device = {"where": where, "figures": _figures(answer, verdict)}
    unit, lacks = _lacking(answer, host)
    if host.fits == "no":
        return answer.say("reason.host.no", short=unit.of(lacks), **device)
    assert host.room is not None
    share = _percent(host.needed, host.room)
    return answer.say("reason.host.beside", share=share, **device)


def _host(answer: ShownAnswer, host: "HostVerdict") -> str:
    """Return the sentence on host memory that is too close to call."""
    assert host.room is not None
    unit, _ = _lacking(answer, host)
    share = _percent(host.needed, host.room)
    return answer.say("reason.host.unknown", **_ends(unit, host), share=share)


def _percent(needed: Bytes, usable: Bytes) -> int:
    from weighbridge.answers.verdict import (
        closeness,  # an answer without a verdict has no use for it
    )

    return closeness.percent(needed, usable)


def _each(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the sentence on several devices: their memory does not add up."""
    if verdict.count == 1:
        return ""
    of_stages = "picture_stages" in answer.report.derived  # components may go on several
    if verdict.devices_used == 1 and verdict.fits != "yes" and not of_stages:
        return answer.say("reason.one_holds_all", count=verdict.count)
    idle = verdict.count - verdict.devices_used
    if verdict.fits == "yes":
        return answer.say("reason.idle", idle=idle, count=verdict.count) if idle else ""
    if idle or not verdict.devices_used or not answer.split:
        return ""
    if verdict.usable_each:
        summed = " + ".join(map(answer.sizes.bare, verdict.usable_each))
        whole = answer.sizes.of(sum(verdict.usable_each))
        return answer.say("reason.not_their_sum", summed=summed, whole=whole)
    each = answer.sizes.of(verdict.usable_bytes)
    whole = answer.sizes.of(verdict.count * verdict.usable_bytes)
    return answer.say("reason.not_the_sum", count=verdict.count, each=each, whole=whole)


def _host_alone(answer: ShownAnswer, verdict: "Verdict") -> Headline:
    """A verdict on host memory, where no device was named."""
    assert verdict.host is not None
    h = verdict.host
    unit = sizes(h.needed.expected, answer.unit)
    needs, has = unit.of(h.needed.expected), unit.of(h.available or 0)
    reason = "" if h.fits == verdict.fits else answer.say("reason.no_device")
    if h.fits == verdict.fits == "unknown":
        reason = _host(answer, h)
    return Headline(
        verdict=f"{answer.say(f'verdict.{verdict.fits}')}{answer.say('headline.on_host')}",
        figures=answer.say("figures.host", needs=needs, has=has),
        mark=verdict.fits,
        reason=reason,
        needs=h.needed.expected,
        has=h.available,
    )

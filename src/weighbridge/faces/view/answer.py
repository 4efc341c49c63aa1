"""The headline: does it fit, by how much, and why, in everyday words.

If the verdict compares numbers, they are reason enough. If something else decides (host memory, too
few devices, a flag that an engine needs, what is not counted), that is the reason.
"""

from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes
from weighbridge.base.records import replace
from weighbridge.base.sentences import before, clauses, key_of, keys_of, parts_of
from weighbridge.base.units import ceil_div
from weighbridge.base.words import Words
from weighbridge.engines.table import ENGINES
from weighbridge.faces.view.parts import NAMES, bar
from weighbridge.faces.view.records import Bar, Headline, Mark
from weighbridge.faces.view.shown import ShownAnswer, SizeFormat, apart, card, left, sizes

if TYPE_CHECKING:
    from weighbridge.memory.report.verdict import HostVerdict, Verdict

LIKELY = 75  # percent of the range that fits, from which a picture is called likely to fit


def mark(verdict: "Verdict") -> Mark:
    return "tight" if verdict.fits == "yes" and verdict.tight else verdict.fits


def headline(answer: ShownAnswer) -> Headline:
    say, verdict, d = answer.say, answer.report.verdict, answer.report.derived
    if verdict is None:  # without a device the answer is a size
        where = say("headline.host" if answer.device.kind == "host" else "headline.card")
        return Headline(about(answer, answer.sizes, answer.peak), where, needs=answer.peak.expected)
    if not verdict.count:
        return _host_headline(answer, verdict)
    sign = mark(verdict)
    # the engine may not start with its defaults, and no launch line has the flags
    first = key_of(parts_of(verdict.reason)[0])
    if first.startswith("defaults_") and "launch_serves" in d and not d.get("launch"):
        sign = "tight" if sign == "yes" else sign
    word = say("verdict.spills") if verdict.spilled else say(f"verdict.{mark(verdict)}")
    return Headline(
        verdict=word + say("headline.on", card=card(answer.report)),
        figures=_host_figures(answer, verdict.host)
        if verdict.host and by_host(verdict)
        else _device_figures(answer, verdict),
        mark=sign,
        margin="" if by_host(verdict) else margin(answer),
        reason=_reason(answer, verdict),
        needs=answer.peak.expected,
        has=verdict.usable_bytes,
    )


def filled(answer: ShownAnswer) -> Bar:
    """Return the bar of the parts that fill the device, with the bytes left or lacking."""
    return bar(answer, margin=margin(answer))


def about(answer: ShownAnswer, unit: SizeFormat, interval: Bytes) -> str:
    """Return the expected bytes of `interval` as text in `unit`, with both bounds if they
    differ."""
    size, ends = unit.of(interval.expected), unit.range(interval)
    if ends is None:
        return answer.say("size.alone", size=size)
    return answer.say("size.range", size=size, low=ends[0], high=ends[1])


def _device_figures(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return a sentence with the bytes that a device needs and has, and those lacking."""
    say, unit = answer.say, apart(answer.sizes, verdict.margin_bytes)
    needs = unit.of(verdict.per_device.expected)
    if _too_few(verdict):
        return say("figures.devices", needs=needs, count=verdict.devices_used)
    if compared(verdict) == "unknown":
        low, high = unit.bare(verdict.per_device.low), unit.of(verdict.per_device.high)
        has = "-".join(unit.range(verdict.usable) or (unit.bare(verdict.usable.low),))
        return say("figures.unknown", low=low, high=high, has=has)
    has = _comparable_size(unit, verdict.usable_bytes, answer.unit)
    if verdict.margin_bytes >= 0:
        return _figures_sentence(answer, unit, verdict.per_device, has)
    key = "figures.no" if verdict.count < 2 or verdict.usable_each else "figures.no.each"
    return say(key, needs=needs, has=has, short=unit.of(-verdict.margin_bytes), count=verdict.count)


def figures(answer: ShownAnswer, needed: Bytes, usable: int) -> str:
    """Return a sentence with the `needed` bytes, out of the `usable` bytes that a device has."""
    unit = apart(sizes(needed.expected, answer.unit), usable - needed.expected)
    return _figures_sentence(answer, unit, needed, _comparable_size(unit, usable, answer.unit))


def _figures_sentence(answer: ShownAnswer, unit: SizeFormat, needed: Bytes, has: str) -> str:
    needs, ends = unit.of(needed.expected), unit.range(needed)
    if ends is None:
        return answer.say("figures.yes.exact", needs=needs, has=has)
    return answer.say("figures.yes", needs=needs, has=has, low=ends[0], high=ends[1])


def _too_few(verdict: "Verdict") -> bool:
    """Return whether each device has room, but the run needs more devices than there are; then
    there is no margin."""
    return verdict.devices_used > verdict.count and verdict.margin_bytes >= 0


def _is_refused_at_start(verdict: "Verdict") -> bool:
    """Return whether a device has room, but the engine refuses to start; then there is no
    margin."""
    room = verdict.fits == "no" and verdict.margin_bytes >= 0
    return room and any(one.name == "starts" for one in verdict.conditions)


def _comparable_size(unit: SizeFormat, nbytes: int, asked: str | None) -> str:
    """Return `nbytes` as text to compare with a size in `unit`: without the unit if both share it.
    `asked` is the unit that the user set, None if they set none."""
    scale = sizes(nbytes, asked or (unit.unit if unit.unit in ("GB", "GiB") else None))
    return unit.bare(nbytes) if scale.unit == unit.unit else scale.of(nbytes)


def compared(verdict: "Verdict") -> str:
    """Return whether the bytes needed per device fit into its usable bytes: "yes", "no" or
    "unknown"."""
    if verdict.per_device.high <= verdict.usable.low:
        return "yes"
    return "no" if verdict.per_device.low > verdict.usable.high else "unknown"


def margin(answer: ShownAnswer) -> str:
    """Return the bytes of a device left or lacking as text, or the share of its range that fits if
    the verdict is unknown. "" without a device, with too few devices, or if the engine does not
    start."""
    verdict = answer.report.verdict
    if verdict is None or not verdict.count or _too_few(verdict) or _is_refused_at_start(verdict):
        return ""
    if compared(verdict) == "unknown" and verdict.share_that_fits is not None:
        share, key = _percent(verdict.per_device, verdict.usable), "margin.share"
        if answer.report.pictures:
            likely = (
                "likely" if share >= LIKELY else "unlikely" if share <= 100 - LIKELY else "open"
            )
            key = f"margin.{likely}"
        return answer.say(key, share=share)
    return left(answer.say, verdict.per_device.expected, verdict.margin_bytes, answer.unit)


def _reason(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the sentence on the reason of the verdict, if its numbers do not show it; else ""."""
    say, d, host = answer.say, answer.report.derived, verdict.host
    if verdict.devices_used > verdict.count:
        key = "reason.devices.one" if verdict.count == 1 else "reason.devices"
        return say(key, needs=verdict.devices_used, count=verdict.count)
    if host and by_host(verdict):
        return _host_reason(answer, verdict, host)
    if host and host.fits == verdict.fits == compared(verdict) == "unknown":
        return _host_too_close(answer, host)
    if d.get("not_counted"):
        return say("reason.not_counted", what=say.told(clauses(*d["not_counted"])))
    if "layers_on_card" in d:
        return _divided_sentence(answer, verdict)
    if verdict.fits == "yes" and d.get("launch_serves") and not d.get("serves_by_default", True):
        return say("reason.flags" if d.get("launch") else "reason.flags.alone")
    if lead := say.told(_reason_before_comparison(verdict)):
        return lead

    reasons = []
    if verdict.fits == "no" and verdict.tipped_by is not None and not answer.split:
        too_big = weights_too_big(answer)
        part = "" if too_big else say(NAMES[verdict.tipped_by])
        reasons.append(say("reason.weights") if too_big else say("reason.tipped", part=part))
    reasons.append(_devices_reason(answer, verdict) if verdict.count > 1 else "")
    # machines: as many as the user set ranks for, else as many as the cards fill
    each = answer.report.setting("ranks_per_machine")
    nodes = ceil_div(verdict.count, each) if each else verdict.nodes
    reasons.append(say("reason.nodes", count=verdict.count, nodes=nodes) if nodes > 1 else "")
    if host and verdict.fits == "no" and host.fits in ("no", "unknown"):
        reasons.append(say("reason.host.too", figures=_host_figures(answer, host)))
    return "; ".join(filter(None, reasons))


def _divided_sentence(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the sentence on a model that the engine splits between card and RAM by itself: the
    layers on the card, the share in RAM, and how much slower it runs."""
    say, d, host = answer.say, answer.report.derived, verdict.host
    slower = say("divided.much_slower")
    if "times_slower" in d:
        low, high = d["times_slower"]
        slower = say("divided.slower", low=f"{low:.2g}", high=f"{high:.2g}")
    line = say(
        f"divided.{d['divided_by']}",
        engine=ENGINES[answer.report.workload["engine"]].title,
        kept=d["layers_on_card"][0],
        whole=d["layers_on_card"][1],
        share=f"{d['share_in_ram']:.0%}",
        slower=slower,
    )
    if host is None or verdict.fits != "unknown":
        return line
    if host.fits is not None:  # something other than the RAM leaves it open
        return f"{line}; {say.told(verdict.reason)}"
    needed = host.needed.expected
    return f"{line}; {say('divided.ram', size=sizes(needed, answer.unit).of(needed))}"


def weights_too_big(answer: ShownAnswer) -> bool:
    """Return whether the weights on the fullest device already exceed its usable bytes."""
    weights, verdict = answer.phase.of("weights").low, answer.report.verdict
    return verdict is not None and weights > verdict.usable.high


def _reason_before_comparison(verdict: "Verdict") -> str:
    """Return the parts of a verdict's reason that precede its comparison of two numbers; all of
    them without a comparison."""
    from weighbridge.answers.verdict.reasons import COMPARED  # not needed for a bare size

    leading: list[str] = []
    for part in parts_of(verdict.reason):
        if COMPARED in keys_of(part):
            leading += [] if key_of(part) == COMPARED else [before(part)]
            break
        leading.append(part)
    return clauses(*leading)


def by_host(verdict: "Verdict") -> bool:
    """Return whether host memory, and not the device, decides a verdict other than "yes"."""
    return (
        verdict.host is not None
        and verdict.host.fits == verdict.fits != "yes"
        and verdict.fits != compared(verdict)
    )


def weighed(verdict: "Verdict") -> "Verdict":
    """Return the verdict with the bytes needed, usable and left of the memory that decides it: the
    host's, or a device's."""
    host = verdict.host
    if host is None or not by_host(verdict):
        return verdict
    has = host.available or 0
    left = has - host.needed.expected
    return replace(verdict, per_device=host.needed, usable_bytes=has, margin_bytes=left)


def in_ram(words: Words, verdict: "Verdict", size: str) -> str:
    """Return `size` as it is, or labelled as host memory if that decides the verdict."""
    return words("cost.ram", ram=size) if by_host(verdict) else size


def _host_shortage(answer: ShownAnswer, host: "HostVerdict") -> tuple[SizeFormat, int]:
    """Return the unit for sizes of host memory, and the bytes of host memory that the machine
    lacks."""
    lacks = host.needed.expected - (host.available or 0)
    return apart(sizes(host.needed.expected, answer.unit), lacks), lacks


def _host_figures(answer: ShownAnswer, host: "HostVerdict") -> str:
    """Return a sentence with the host memory that is needed, and that of the machine."""
    unit, _ = _host_shortage(answer, host)
    if host.fits != "no":
        key = "figures.host.unknown.shared" if host.shared else "figures.host.unknown"
        return answer.say(key, **_host_bounds(unit, host))
    key = "figures.host.shared" if host.shared else "figures.host"
    needs, has = unit.of(host.needed.expected), unit.of(host.available or 0)
    return answer.say(key, needs=needs, has=has)


def _host_bounds(unit: SizeFormat, host: "HostVerdict") -> dict[str, str]:
    """Return texts for a sentence on host memory: `low` and `high` bound the bytes needed, `has` is
    the machine's."""
    assert host.room is not None
    low, high = unit.bare(host.room.low), unit.of(host.room.high)
    has = high if host.room.exact else f"{low}-{high}"
    return {"low": unit.bare(host.needed.low), "high": unit.of(host.needed.high), "has": has}


def _host_reason(answer: ShownAnswer, verdict: "Verdict", host: "HostVerdict") -> str:
    """Return the sentence on a verdict that host memory decides: what the machine lacks, and the
    figures of the device."""
    where = answer.say("reason.host.card" if verdict.count == 1 else "reason.host.cards")
    device = {"where": where, "figures": _device_figures(answer, verdict)}
    unit, lacks = _host_shortage(answer, host)
    if host.fits == "no":
        return answer.say("reason.host.no", short=unit.of(lacks), **device)
    assert host.room is not None
    return answer.say("reason.host.beside", share=_percent(host.needed, host.room), **device)


def _host_too_close(answer: ShownAnswer, host: "HostVerdict") -> str:
    """Return the sentence on host memory whose verdict is too close to call."""
    assert host.room is not None
    unit, _ = _host_shortage(answer, host)
    share = _percent(host.needed, host.room)
    return answer.say("reason.host.unknown", **_host_bounds(unit, host), share=share)


def _percent(needed: Bytes, usable: Bytes) -> int:
    from weighbridge.answers.verdict import closeness  # not needed for a bare size

    return closeness.percent(needed, usable)


def _devices_reason(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the sentence on several devices whose memory does not add up, or that stay idle; "" if
    neither holds."""
    say, idle = answer.say, verdict.count - verdict.devices_used
    of_stages = (
        "picture_stages" in answer.report.derived
    )  # components of a pipeline may go on several devices
    if verdict.devices_used == 1 and verdict.fits != "yes" and not of_stages:
        return say("reason.one_holds_all", count=verdict.count)
    if verdict.fits == "yes":
        return say("reason.idle", idle=idle, count=verdict.count) if idle else ""
    if idle or not verdict.devices_used or not answer.split:
        return ""
    if verdict.usable_each:
        summed = " + ".join(map(answer.sizes.bare, verdict.usable_each))
        return say(
            "reason.not_their_sum", summed=summed, whole=answer.sizes.of(sum(verdict.usable_each))
        )
    each, whole = (
        answer.sizes.of(verdict.usable_bytes),
        answer.sizes.of(verdict.count * verdict.usable_bytes),
    )
    return say("reason.not_the_sum", count=verdict.count, each=each, whole=whole)


def _host_headline(answer: ShownAnswer, verdict: "Verdict") -> Headline:
    """Return the headline of a verdict on host memory, for a run without a device."""
    assert verdict.host is not None
    say, h = answer.say, verdict.host
    unit = sizes(h.needed.expected, answer.unit)
    reason = "" if h.fits == verdict.fits else say("reason.no_device")
    if h.fits == verdict.fits == "unknown":
        reason = _host_too_close(answer, h)
    needs, has = unit.of(h.needed.expected), unit.of(h.available or 0)
    return Headline(
        verdict=say(f"verdict.{verdict.fits}") + say("headline.on_host"),
        figures=say("figures.host", needs=needs, has=has),
        mark=verdict.fits,
        reason=reason,
        needs=h.needed.expected,
        has=h.available,
    )

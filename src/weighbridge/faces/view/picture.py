"""The screen of pictures and video: each stage, changes to make it fit, and the lines that run
it."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import human_count
from weighbridge.base.wording import printable, printable_lines
from weighbridge.faces.view.answer import figures
from weighbridge.faces.view.changes import moved
from weighbridge.faces.view.load import ram
from weighbridge.faces.view.records import (
    Cell,
    Column,
    Grid,
    Headline,
    Language,
    Mark,
    Paste,
    Section,
    lines,
)
from weighbridge.faces.view.shown import ShownAnswer, card
from weighbridge.memory.report.verdict import Remedy

if TYPE_CHECKING:
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.verdict import Verdict

SHOWN, LAST = 8, 3  # most changes shown; how many of them are the last ones


def title(answer: ShownAnswer) -> str:
    facts, w = answer.report.model, answer.report.workload
    size = f"{w['width']} x {w['height']}"
    if w["frames"] > 1:
        size = answer.say("picture.video", size=size, frames=w["frames"])
    count = answer.say("picture.parameters", count=human_count(facts.parameters))
    form = in_words(w)
    what = printable(facts.name), size, count, form, str(w["engine"])
    return " · ".join(filter(None, what))


def in_words(workload: Mapping[str, Any]) -> str:
    """Return the formats of a run for its title: "transformer fp8, text nf4"; the dtype without a
    quantization."""
    items = re.split("[,+]", str(workload["quantization"] or workload["dtype"]))
    return ", ".join(" ".join(item.split("=")).strip() for item in items)


def sections(answer: ShownAnswer) -> Iterator[Section]:
    v = answer.report.verdict
    if v is not None and v.fits != "yes" and answer.report.remedies:
        yield (climbed(answer, "stage"),)
        yield from pasted(answer)
    yield (_stages_table(answer),)
    if v is None or v.fits == "yes":
        script = answer.report.derived.get("launch")
        if script and v is not None:
            yield (Paste(answer.say("paste.run"), printable_lines(str(script)), "python"),)
    yield (lines(*_limit_lines(answer), in_ram(answer)),)


def runs(answer: ShownAnswer, fit: "Fit") -> Section:
    """Return the headline on how to run a pipeline that does not fit as asked, or on the smallest
    card if `fit` searched it. () if it fits as asked on the named card."""
    plan, solved = fit.plan, fit.solved
    if plan.rung is None or (solved is None and (plan.fits != "yes" or plan.why == "asked")):
        return ()
    v = plan.rung.verdict
    way = next((r for r in answer.report.remedies if r.change == plan.settings), None)
    how = () if way is None else filter(None, (printable(way.flags), _host_after(answer, way)))
    told = answer.say("cost.and").join(how)
    asked = answer.say("picture.asked", size=answer.sizes.of(answer.peak.expected))
    where = answer.say("headline.on", card=card(answer.report))
    if solved is not None:
        found = "picture.smallest" if way is None else "picture.smallest.way"
        key = found if solved.value else "picture.smallest.none"
        word = answer.say(key, card=printable(v.accelerator), how=told)
    elif way is None:
        word = answer.say("picture.slowly", where=where, size=answer.size(v.spilled or 0))
    else:
        word = answer.say("picture.way", where=where, how=told)
    sizes = figures(answer, v.per_device, v.usable_bytes)
    needs, reason = v.per_device.expected, "" if way is None else asked
    sign = "unknown" if solved and not solved.value and plan.fits == "yes" else plan.fits
    return (Headline(word, sizes, sign, reason=reason, needs=needs, has=v.usable_bytes),)


def assumes(answer: ShownAnswer) -> Iterator[str]:
    w = answer.report.workload
    yield f"{w['engine']} {w['engine_version'] or ''}".strip()
    yield str(w["dtype"])
    yield answer.say(f"picture.guidance.{w['guidance']}")
    yield answer.say("picture.steps")


def _stages_table(answer: ShownAnswer) -> Grid:
    """Return a table with a row per stage: the component that runs, and the bytes on the card
    then."""
    v, stages = answer.report.verdict, list(answer.report.derived["picture_stages"])
    rows = []
    for stage in stages:
        low, expected, high = stage["bytes"]
        card = stage.get("card", 0)
        judged = v is not None and v.count and card >= 0
        sign = _mark(Bytes(low, expected, high), _usable_bytes(v, card)) if v and judged else None
        name = answer.say(f"stage.{stage['stage']}")
        size, component = answer.sizes.of(expected), printable(stage["component"])
        if stage.get("tiled"):
            component = answer.say("picture.tiled", component=component)
        if "card" in stage:
            where = "picture.on_card" if card >= 0 else "picture.on_cpu"
            component = answer.say(where, component=component, card=card)
        rows.append((Cell(name, sign), Cell(component), Cell(size)))
    heads = Column(answer.say("head.stage")), Column(answer.say("head.component"))
    columns = (*heads, Column(answer.say("head.on_card"), right=True))
    fails = v is not None and v.count and v.fits != "yes" and answer.report.remedies
    return Grid(columns, tuple(rows), answer.say("picture.stages") if fails else "")


def _usable_bytes(verdict: "Verdict", card: int) -> Bytes:
    """Return the usable bytes of a card, by its number if the cards differ."""
    each = verdict.usable_each
    return exactly(each[card]) if each else verdict.usable


def _mark(peak: Bytes, usable: Bytes) -> Mark:
    if peak.high <= usable.low:
        return "yes"
    return "no" if peak.low > usable.high else "unknown"


def climbed(answer: ShownAnswer, place: str) -> Grid:
    """Return a table with a row per change: its bytes, where the peak then is, and its cost.
    `place` is "stage" or "phase", the prefix of the words for the peak."""
    rows = []
    remedies = answer.report.remedies
    if len(remedies) > SHOWN:  # the last changes show the smallest size
        remedies = (*remedies[: SHOWN - LAST], *remedies[-LAST:])
    for number, remedy in enumerate(remedies):
        sign = "+ " if number else ""
        size = _size_after(answer, remedy)
        where = answer.say(f"{place}.{remedy.kind}")
        ram_then = _host_after(answer, remedy)
        cost = answer.say("cost.and").join(filter(None, (answer.say.told(remedy.cost), ram_then)))
        rows.append((Cell(size, remedy.fits), Cell(where), Cell(f"{sign}{cost}")))
    columns = Column(answer.say("head.on_card"), right=True), Column(answer.say("head.at_stage"))
    changes: tuple[Any, ...] = tuple(r.change for r in remedies)
    fits = any(remedy.fits == "yes" for remedy in remedies)
    heading = answer.say("picture.ladder" if fits else "picture.ladder.none")
    return Grid((*columns, Column(folds=True)), tuple(rows), heading, actions=changes)


def _host_after(answer: ShownAnswer, remedy: Remedy) -> str:
    """Return the host memory after a change as text, if the change moves memory there or host
    memory is short; else ""."""
    v = answer.report.verdict
    short = v is not None and v.host is not None and v.host.fits in ("no", "unknown")
    if short and remedy.host is not None:
        return answer.say("cost.ram", ram=answer.size(remedy.host.expected))
    return moved(answer.say, v, remedy)


def _size_after(answer: ShownAnswer, remedy: Remedy) -> str:
    """Return the bytes needed after a change as text; their range if the verdict is unknown."""
    if remedy.per_device is None:
        return answer.sizes.of(0)
    ends = answer.sizes.range(remedy.per_device) if remedy.fits == "unknown" else None
    v = answer.report.verdict
    if ends is None or v is None or remedy.per_device.high <= v.usable.low:
        return answer.sizes.of(remedy.per_device.expected)
    return answer.say("picture.range", low=ends[0], high=ends[1])


def pasted(answer: ShownAnswer, language: Language = "python") -> Iterator[Section]:
    """Yield the lines to paste of the first change that fits, if it has some."""
    first = next((r for r in answer.report.remedies if r.fits == "yes"), None)
    if first is not None and first.paste:
        heading = answer.say("paste.change", flags=printable(first.flags))
        yield (Paste(heading, printable_lines(first.paste), language),)


def in_ram(answer: ShownAnswer) -> str:
    """Return a sentence on the host memory of the run as asked, and with the first change that fits
    if that differs; "" if it takes none."""
    text = ram(answer)
    first = next((r for r in answer.report.remedies if r.fits == "yes"), None)
    then = "" if first is None else _host_after(answer, first)
    if not then or first is None or first.host is None:
        return text
    size = answer.size(first.host.expected)
    return answer.say("picture.ram", text=text, flags=printable(first.flags), size=size)


def _limit_lines(answer: ShownAnswer) -> Iterator[str]:
    d = answer.report.derived
    cards = d.get("smallest_cards") or {}
    if cards.get(""):
        yield answer.say("picture.card", card=printable(cards[""]))
    if cards.get("model") and cards["model"] != cards.get(""):
        yield answer.say("picture.card.model", card=printable(cards["model"]))
    if d.get("most_frames"):
        yield answer.say("picture.most_frames", frames=f"{d['most_frames']:,}")
    if d.get("largest_size"):
        yield answer.say("picture.largest_size", size=d["largest_size"])

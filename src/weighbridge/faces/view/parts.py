"""Components as parts of the bar: at most five and activations, under everyday names.

    groups    components that belong together for a reader are one part ("allocator overhead")
    other     the smallest parts, and those below 1 % of the sum; never activations

Phases have everyday names as well, and a table shows them side by side.
"""

from collections.abc import Mapping
from unicodedata import east_asian_width

from weighbridge.base.memory import Instant
from weighbridge.base.records import NamedTuple
from weighbridge.faces.view.records import Bar, Cell, Column, Grid, ShownSegment
from weighbridge.faces.view.shown import ShownAnswer

NAMES: Mapping[str, str] = {  # component -> key of its part's name
    "weights": "part.weights",
    "kv_cache": "part.kv_cache",
    "recurrent_state": "part.recurrent_state",
    "activations": "part.activations",
    "logits": "part.logits",
    "gradients": "part.gradients",
    "optimizer_states": "part.optimizer_states",
    "master_weights": "part.master_weights",
    "adapters": "part.adapters",
    "temporaries": "part.workspace",
    "workspaces": "part.workspace",
    "buffers": "part.allocator",
    "rounding": "part.allocator",
    "fragmentation": "part.allocator",
    "context": "part.context",
    "communication": "part.communication",
    "cuda_graphs": "part.cuda_graphs",
    "other": "part.other",
}
ROLES: Mapping[str, str] = {  # role of a model other than the trained one -> its part
    role: f"part.{role}" for role in ("engine", "reference", "critic", "reward")
}
MOST = 5  # most parts in a bar
LEAST = 100  # divisor: a part below 1/100 of the sum goes into "other"
LEGEND = 76  # most terminal columns of a legend
LEGIBLE = 3  # fewest parts in a legend
LARGE = 10  # divisor: a part of 1/10 of the sum is named, even on a second line
OTHER = "part.other"
KEPT = "part.activations"  # never in "other"
FROZEN = {"part.weights": "part.frozen_weights"}  # if adapters are trained
ANOTHER_DRIVER = {"part.context": "part.driver"}  # on cards without CUDA
SHARE = "part.share"
ASIDE = {"save": 2, "evaluation": 1}  # phase -> rank of its column; the highest is left out first


class ShownPart(NamedTuple):
    """A part of the bar: the key of its name, and the sum of its components in bytes."""

    key: str
    nbytes: int


def parts(phase: Instant, most: int = MOST) -> tuple[ShownPart, ...]:
    """Return at most `most` parts of a phase, and activations, in expected bytes that add up to its
    driver level: the largest first, `other` last."""
    sums: dict[str, int] = {}
    for c in phase.components:
        key = ROLES.get(c.role) or NAMES[c.name]
        sums[key] = sums.get(key, 0) + c.bytes.expected
    whole = sum(sums.values())
    others = sums.pop(OTHER, 0)
    ordered = sorted((ShownPart(*item) for item in sums.items()), key=lambda p: -p.nbytes)
    large = [p for p in ordered if p.nbytes and (p.nbytes * LEAST >= whole or p.key == KEPT)]
    others += sum(p.nbytes for p in ordered) - sum(p.nbytes for p in large)
    if len(large) + (others > 0) > most:
        shown = [p for i, p in enumerate(large) if i < most - 1 or p.key == KEPT]
        others += sum(p.nbytes for p in large) - sum(p.nbytes for p in shown)
        large = shown
    return (*large, *([ShownPart(OTHER, others)] if others else ()))


def bar(answer: ShownAnswer, *, margin: str, most: int = MOST) -> Bar:
    """Return the bar of the parts that fill the device, in the answer's unit. Its legend has one
    line, unless a large part would then have no name."""
    shown = (ShownPart(SHARE, answer.peak.expected),) if answer.split else parts(answer.phase, most)
    caption = _renamed_parts(answer)
    segments = tuple(
        ShownSegment(
            key=p.key.removeprefix("part."),
            name=answer.say(caption.get(p.key, p.key)),
            nbytes=p.nbytes,
            size=answer.sizes.bare(p.nbytes),
        )
        for p in shown
    )
    seen = [part for part in segments if part.size.strip("0.,")]
    legend = " · ".join(f"{part.name} {part.size}" for part in seen)
    fewer = min(most, len(shown)) - 1
    long = _columns(legend) > LEGEND and not answer.full
    if long and fewer >= LEGIBLE and _named(answer, fewer):
        return bar(answer, margin=margin, most=fewer)
    verdict = answer.report.verdict
    capacity = verdict.usable_bytes if verdict is not None and verdict.count else None
    return Bar(
        segments=segments,
        total=sum(p.nbytes for p in shown),
        capacity=capacity,
        low=answer.peak.low,
        high=answer.peak.high,
        label=_bar_label(answer),
        margin=margin,
        legend=legend,
        words=_bar_in_words(answer, seen, margin),
    )


def _columns(text: str) -> int:
    """Return the terminal columns that a text takes; a Chinese character takes two."""
    return len(text) + sum(east_asian_width(sign) in "WF" for sign in text)


def _named(answer: ShownAnswer, most: int) -> bool:
    """Return whether every large part keeps a name if at most `most` parts are shown."""
    shown, whole = parts(answer.phase, most), parts(answer.phase, len(NAMES))
    left_out = {part.key: part.nbytes for part in whole} | dict.fromkeys((p.key for p in shown), 0)
    return max(left_out.values(), default=0) * LARGE < sum(part.nbytes for part in whole)


def _renamed_parts(answer: ShownAnswer) -> Mapping[str, str]:
    """Return part key -> other key for parts that have another name in this answer: frozen weights,
    a driver that is not CUDA's."""
    renamed: dict[str, str] = {}
    if any(c.name == "adapters" for c in answer.phase.components):
        renamed |= FROZEN
    v = answer.report.verdict
    known = v is not None and v.marketed_gb is not None  # not a device of a given size
    if v is not None and known and not v.accelerator_id.startswith("nvidia"):
        renamed |= ANOTHER_DRIVER
    return renamed


def _bar_label(answer: ShownAnswer) -> str:
    """Return the caption of the bar: the phase of a training step, and which of several devices."""
    words = []
    if answer.report.task == "train" and len(answer.device.phases) > 1:
        words.append(answer.say("bar.peak", phase=phase_name(answer, answer.phase.name)))
    if answer.gpus > 1:
        peaks = {d.peak("driver") for d in answer.report.devices if d.kind == "gpu"}
        differ = answer.report.verdict is not None and bool(answer.report.verdict.usable_each)
        key = "bar.tightest" if differ else "bar.alike" if len(peaks) == 1 else "bar.fullest"
        words.append(answer.say(key, count=answer.gpus))
    return answer.say("bar.and").join(words)


def _bar_in_words(answer: ShownAnswer, segments: list[ShownSegment], margin: str) -> str:
    """Return the bar as text, part by part, for readers who cannot see it."""
    listed = ", ".join(f"{part.name} {part.size} {answer.sizes.unit}" for part in segments)
    return answer.say("bar.words", parts=listed) + (f"; {margin}" if margin else "")


def phase_name(answer: ShownAnswer, name: str) -> str:
    return answer.say.named("phase", name)


def phases_differ(answer: ShownAnswer) -> bool:
    """Return whether the phases after loading differ in size, so that a table adds to the bar.
    Always true with full tables."""
    sizes = {
        answer.sizes.bare(phase.at("driver").expected)
        for phase in answer.device.phases
        if phase.name != "load"
    }
    return len(sizes) > 1 or answer.full


def phases(answer: ShownAnswer) -> Grid:
    """Return a table of the expected bytes per phase on the fullest device; the phase of the bar is
    marked."""
    heads, values = [Column()], [Cell(answer.sizes.unit, None, "dim")]
    for phase in answer.device.phases:
        here = phase is answer.phase
        rank = 0 if here else ASIDE.get(phase.name, 0)
        heads.append(Column(phase_name(answer, phase.name), right=True, rank=rank))
        size = answer.sizes.bare(phase.at("driver").expected)
        values.append(Cell(f"{size} ◀" if here else size, None, "strong" if here else ""))
    return Grid(tuple(heads), (tuple(values),))

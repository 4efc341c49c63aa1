"""Components as they are on the bar: at most five, under everyday names.

groups    what belongs together for a reader is one part ("allocator overhead")
other     the smallest ones, and all that is less than a hundredth of the whole
"""

from collections.abc import Mapping
from typing import NamedTuple

from weighbridge.memory import Phase
from weighbridge.view.records import Bar, Segment
from weighbridge.view.shown import Shown

MOST = 5  # parts on a screen
LEAST = 100  # a part of less than the hundredth of the whole is among the others
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
OTHER = "part.other"
FROZEN = {"part.weights": "part.frozen_weights"}  # where adapters are trained
SHARE = "part.share"


class Part(NamedTuple):
    """A key of messages, and the bytes of all components under it."""

    key: str
    nbytes: int


def parts(phase: Phase) -> tuple[Part, ...]:
    """At most MOST parts of a phase, as expected at driver level, the largest first and the others
    last; they add up to the phase."""
    sums: dict[str, int] = {}
    for c in phase.components:
        key = NAMES[c.name]
        sums[key] = sums.get(key, 0) + c.bytes.expected
    whole = sum(sums.values())
    rest = sums.pop(OTHER, 0)
    ordered = sorted((Part(*item) for item in sums.items()), key=lambda p: -p.nbytes)
    large = [p for p in ordered if p.nbytes * LEAST >= whole and p.nbytes]
    rest += sum(p.nbytes for p in ordered) - sum(p.nbytes for p in large)
    if len(large) + (rest > 0) > MOST:
        large, less = large[: MOST - 1], large[MOST - 1 :]
        rest += sum(p.nbytes for p in less)
    return (*large, *([Part(OTHER, rest)] if rest else ()))


def bar(s: Shown, *, margin: str, label: str = "") -> Bar:
    """What fills the device, in its unit."""
    found = (Part(SHARE, s.peak.expected),) if s.split else parts(s.phase)
    names = {**dict(zip(NAMES.values(), NAMES.values(), strict=True)), SHARE: SHARE}
    if any(c.name == "adapters" for c in s.phase.components):
        names |= FROZEN
    segments = tuple(
        Segment(p.key.removeprefix("part."), s.say(names[p.key]), p.nbytes, s.sizes.bare(p.nbytes))
        for p in found
    )
    legend = " · ".join(f"{part.name} {part.size}" for part in segments)
    verdict = s.report.verdict
    capacity = verdict.usable_bytes if verdict is not None and verdict.count else None
    return Bar(
        segments=segments,
        total=s.peak.expected,
        capacity=capacity,
        low=s.peak.low,
        high=s.peak.high,
        label=label,
        margin=margin,
        legend=f"{legend} {s.sizes.unit}",
        words=_words(s, segments, margin),
    )


def _words(s: Shown, segments: tuple[Segment, ...], margin: str) -> str:
    """The bar for one who does not see it."""
    listed = ", ".join(f"{part.name} {part.size} {s.sizes.unit}" for part in segments)
    return s.say("bar.words", parts=listed) + (f"; {margin}" if margin else "")

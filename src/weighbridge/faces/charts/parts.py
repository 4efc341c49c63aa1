"""Components as segments: under everyday names, the same ones in every bar of a chart."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Instant
from weighbridge.base.words import Words
from weighbridge.faces.charts.figure import MOST, OTHER, FigureSegment, Series
from weighbridge.faces.charts.palette import SECOND
from weighbridge.faces.charts.scale import ByteUnit
from weighbridge.faces.view import parts as view

if TYPE_CHECKING:
    from weighbridge.memory.report import Report

NAMES = {name: key.removeprefix("part.") for name, key in view.NAMES.items()}
ORDER = tuple(dict.fromkeys((*NAMES.values(), *view.ROLES)))
# A part has one style in all pictures, of the page and of files. Those beside the usual ones have
# the colour of one that is near in meaning, lighter on the page (page/style.css) and dotted in
# files. A cache stands beside activations, so it has the style of gradients, which nobody serves
# with. Models beside the one that is trained have those of parts that are not there then.
STYLES = {
    "weights": 0,
    "activations": 1,
    "kv_cache": 2,
    "gradients": 2,
    "optimizer_states": 3,
    "allocator": 4,
    "logits": 5,
    "adapters": SECOND,
    "workspace": SECOND + 1,
    "recurrent_state": SECOND + 2,
    "master_weights": SECOND + 3,
    "context": SECOND + 4,
    "cuda_graphs": SECOND + 5,
    "communication": SECOND + 6,
    "engine": SECOND + 2,
    "reference": SECOND + 5,
    "critic": SECOND + 3,
    "reward": SECOND + 6,
}
KEPT = view.KEPT.removeprefix("part.")
LEAST = 100  # a part below the hundredth of the fullest bar is among the others
Sums = Counter[str]


def sums(phase: Instant) -> Sums:
    """Bytes by part, as expected; pages of files that the kernel may drop are none."""
    parts: Sums = Counter()
    for c in phase.components:
        if not c.droppable:
            parts[c.role if c.role in view.ROLES else NAMES[c.name]] += c.bytes.expected
    return parts


def chosen(every: Iterable[Sums], count: int = MOST) -> tuple[str, ...]:
    """Choose at most `count` parts, those that are largest anywhere, and activations, in the order
    of ORDER."""
    bars = list(every)
    fullest = max((s.total() for s in bars), default=0)
    most: Sums = Counter()
    for s in bars:
        most |= s
    most.pop("other", None)
    last = [KEPT] if most.pop(KEPT, 0) else []
    large = [n for n, v in most.most_common(count - len(last)) if v * LEAST >= fullest and v]
    return tuple(name for name in ORDER if name in {*large, *last})


def series(names: Sequence[str], say: Words, otherwise: Mapping[str, str]) -> tuple[Series, ...]:
    """One for each part, under its other name where it has one, and one for the others."""
    lines = (Series(say(f"part.{otherwise.get(name, name)}"), STYLES[name]) for name in names)
    return (*lines, Series(say("part.other"), OTHER))


def otherwise(reports: "Sequence[Report]") -> dict[str, str]:
    """Parts that have another name in all of these answers."""
    renamed = {}
    if all(_adapted(r) for r in reports):
        renamed["weights"] = "frozen_weights"
    cards = [r.verdict for r in reports if r.verdict is not None and r.verdict.marketed_gb]
    if cards and not any(v.accelerator_id.startswith("nvidia") for v in cards):
        renamed["context"] = "driver"
    return renamed


def _adapted(report: "Report") -> bool:
    phases = (p for d in report.devices for p in d.phases)
    return any(c.name == "adapters" for p in phases for c in p.components)


def segments(
    parts: Sums, names: Sequence[str], shown: Sequence[Series], unit: ByteUnit
) -> tuple[FigureSegment, ...]:
    values = [parts[name] for name in names]
    values.append(parts.total() - sum(values))
    return tuple(
        FigureSegment(i, v, f"{shown[i].name} {unit.number(v)}")
        for i, v in enumerate(values)
        if v > 0
    )

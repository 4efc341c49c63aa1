"""Components as segments of bars: under everyday names, equal ones in every bar of a chart."""

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
# A part has one style in all pictures, on the page and in files. A rare part has the colour of a
# related one, lighter on the page (page/style.css) and dotted in files. The KV cache has the style
# of gradients, which serving has not. Models besides the one that is trained have the styles of
# parts that are absent then.
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
LEAST = 100  # a part below 1/LEAST of the fullest bar is summed up in `other`
Sums = Counter[str]


def sums(phase: Instant) -> Sums:
    """Return the expected bytes by part, without pages of files that the kernel may drop."""
    parts: Sums = Counter()
    for c in phase.components:
        if not c.droppable:
            parts[c.role if c.role in view.ROLES else NAMES[c.name]] += c.bytes.expected
    return parts


def chosen(every: Iterable[Sums], count: int = MOST) -> tuple[str, ...]:
    """Return the names of at most `count` parts, in the order of ORDER: those that are largest in
    any bar, and activations."""
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
    """Return a series for each part, under its other name if it has one, and one for the rest."""
    lines = (Series(say(f"part.{otherwise.get(name, name)}"), STYLES[name]) for name in names)
    return (*lines, Series(say("part.other"), OTHER))


def otherwise(reports: "Sequence[Report]") -> dict[str, str]:
    """Return part -> other name, if it applies to all of these reports: frozen weights, a driver
    that is not CUDA's."""
    renamed = {}
    if all(_has_adapters(r) for r in reports):
        renamed["weights"] = "frozen_weights"
    cards = [r.verdict for r in reports if r.verdict is not None and r.verdict.marketed_gb]
    if cards and not any(v.accelerator_id.startswith("nvidia") for v in cards):
        renamed["context"] = "driver"
    return renamed


def _has_adapters(report: "Report") -> bool:
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

"""What makes a pipeline fit, as one ladder of steps in the order that people take them.

    model offload, tiled decode, fp8 denoiser, GGUF or 4 bits, 4 bits of text encoders, groups of
    blocks with a stream, fewer frames, a smaller size, one leaf at a time

Each step keeps those before it that lowered the peak, and is answered as the question it makes;
what lowers nothing is left out. The search ends with the first that fits and one that has room.
Source of the order: threads about FLUX, Wan, SDXL (docs/pictures.md).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy
from weighbridge.workload.flags import flags
from weighbridge.workload.picture import Picture

Ask = Callable[[Any], Report]
Change = Mapping[str, Any]
LEAST = 0.01  # of the peak: a step that lowers it by less is none
SMALLER = (0.75, 0.5)  # of frames; of each side
MOST = 7
# A step: what it costs in words, and in points that compare (assumed but for the order)
OFFLOADED = Price(speed=4)
TILED = Price(quality=1, speed=1)
CAST = Price(quality=2, speed=2)
PACKED = Price(quality=6, speed=3, effort=5)
SMALL = Price(scope=25)
ONE_LEAF = Price(speed=60)


class Step:
    """One step: what it changes, what it costs, and the settings that must be free for it."""

    def __init__(self, change: Change, cost: str, price: Price) -> None:
        self.change, self.cost, self.price = change, cost, price


def ladder(report: Report, w: Picture, ask: Ask, pinned: frozenset[str]) -> tuple[Remedy, ...]:
    """Climb from the question that was asked. Nothing that was typed is touched."""
    return climbed(report, w, ask, pinned, _steps(report, w))


def climbed(
    report: Report, w: Any, ask: Ask, pinned: frozenset[str], steps: Iterable[Step]
) -> tuple[Remedy, ...]:
    """Take the steps that lower the peak, up to one that has room after the first that fits."""
    found: list[Remedy] = []
    now, current, done = report, w, dict[str, Any]()
    enough = False
    for step in steps:
        if not pinned.isdisjoint(step.change):
            continue
        changed = current.but(**step.change)
        try:
            then = ask(changed)
        except WeighbridgeError:
            continue
        if then.peak.expected > now.peak.expected * (1 - LEAST):
            continue
        now, current = then, changed
        done = {**done, **step.change}
        found.append(_remedy(then, done, step))
        if enough or len(found) == MOST:
            break
        enough = found[-1].fits == "yes"
    return tuple(found)


def _steps(report: Report, w: Picture) -> Iterator[Step]:
    row = report.workload
    frames, width, height = row["frames"], row["width"], row["height"]
    yield Step({"offload": "model"}, sentence("step.model"), OFFLOADED)
    yield Step({"vae_tiling": True}, sentence("step.tiling"), TILED)
    if w.quantization is None:
        yield Step({"layerwise_casting": True}, sentence("step.cast"), CAST)
        if row.get("gguf"):
            for form in ("Q6_K", "Q4_K_S"):
                change = {"quantization": form, "layerwise_casting": False}
                yield Step(change, sentence("step.gguf", form=form), PACKED)
        change = {"quantization": "nf4,text=nf4", "layerwise_casting": False}
        yield Step(change, sentence("step.nf4"), PACKED)
    yield Step({"offload": "group-block", "offload_stream": True}, sentence("step.group"), CAST)
    if frames > 1:
        for share in SMALLER:
            fewer = max(1, int(frames * share))
            yield Step({"frames": fewer}, sentence("step.frames", frames=fewer), SMALL)
    for share in SMALLER:
        size = int(height * share), int(width * share)
        yield Step({"size": size}, sentence("step.size", width=size[1], height=size[0]), SMALL)
    change = {"offload": "sequential", "offload_stream": False}
    yield Step(change, sentence("step.sequential"), ONE_LEAF)


def _remedy(then: Report, change: Change, step: Step) -> Remedy:
    verdict = then.verdict
    assert verdict is not None
    typed = {name: _typed(value) for name, value in change.items() if value}
    return Remedy(
        change=typed,
        peak_bytes=then.peak.expected,
        fits=verdict.fits,
        cost=step.cost,
        price=step.price,
        flags=flags(typed, ""),
        kind=then.fullest.peak_phase,
        paste=then.derived.get("launch") or "",
        margin_bytes=verdict.margin_bytes,
        per_device=verdict.per_device,
        host=None if verdict.host is None else verdict.host.needed,
    )


def _typed(value: Any) -> Any:
    """A value as a command line has it: a size is (height, width), and typed the other way."""
    return f"{value[1]}x{value[0]}" if isinstance(value, tuple) else value

"""Traits by which an answer resembles published runs or is new; bounds/novelty.py has the axes.

serving(subject, engine, workload)    of loading a model and serving it
training(...)                         of a run of a framework
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.answers import bounds
from weighbridge.base.memory import Device
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.interface import Subject
from weighbridge.engines.table import Engine, version, written
from weighbridge.settings import SPREAD

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.training.sharding.numbers import Sharding
    from weighbridge.workload import Infer

Traits = tuple[tuple[str, str], ...]
MODES = (
    "enable_expert_parallel",
    "speculative_method",
    "draft_model",
    "cpu_offload_gb",
    "max_loras",
)


def platform(part: "Part | None") -> Iterator[tuple[str, str]]:
    """Yield the vendor of a card, marked "shared" if GPU and host share memory."""
    if part is not None and part.vendor:
        yield "platform", f"{part.vendor}{' shared' if part.shares_host else ''}"


def serving(subject: Subject, kind: Engine, workload: "Infer") -> Traits:
    budget = workload.budget()
    number, _ = version(kind, workload.engine_version)
    spread = (name for name in SPREAD if (getattr(workload, name, None) or 1) > 1)
    return (
        *platform(None if budget is None else budget.choice.part),
        *_of_model(subject),
        *(("mode", name) for name in spread),
        *(("mode", name) for name in MODES if getattr(workload, name, None)),
        ("release", written(number)),
    )


def training(
    subject: Subject, sharding: "Sharding", part: "Part | None", modes: Iterable[str]
) -> Traits:
    ranks = ("tensor", "pipeline", "context", "expert")
    return (
        *platform(part),
        *_of_model(subject),
        ("mode", sharding.kind),
        *(("mode", name) for name in ranks if getattr(sharding, name) > 1),
        *(("mode", f"offload {sharding.offload}") for _ in range(sharding.offload != "none")),
        *(("mode", name) for name in modes if name),
    )


def _of_model(subject: Subject) -> Iterator[tuple[str, str]]:
    form = subject.choice.scheme
    if subject.model_type:
        yield "family", subject.model_type
    yield "format", bounds.form(form.name if form else None)


def few(devices: Sequence[Device], like: bounds.RunForm) -> Iterator[str]:
    """Yield the reason why an interval is much wider than those of other answers."""
    axes = bounds.novel(devices, like)
    if axes:
        yield clauses(*(sentence(f"few.{axis}") for axis in axes), sentence("few.wide"))

"""Memory that llama.cpp allocates for a workload: the answer, and the numbers for searches."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.records import replace
from weighbridge.engines.engine import version
from weighbridge.engines.interface import EngineAnswer, Fits, PlacedWay, Probe, Subject
from weighbridge.engines.llama_cpp import ENGINE, placing, search, speculation
from weighbridge.engines.llama_cpp.answers import (
    answer,
    free,
    known_network,
    model,
    on_device,
    with_tower,
)
from weighbridge.engines.llama_cpp.effective import launch
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings
from weighbridge.engines.llama_cpp.networks import as_heads
from weighbridge.engines.llama_cpp.rules import NEWEST
from weighbridge.machines.accelerators.budget import Budget

if TYPE_CHECKING:
    from weighbridge.workload import Infer


def infer(subject: Subject, w: "Infer", budget: Budget | None) -> EngineAnswer:
    """Return the answer for a workload. Raises UsageError for settings that llama.cpp refuses."""
    build = number(w.engine_version)

    def laid_out(asked: "Infer") -> DeviceHoldings:
        return hold(subject, asked, budget, build)

    def held(asked: "Infer") -> bool:
        return budget is not None and holds(subject, asked, budget)

    found = with_tower(answer(laid_out(w), subject, w, budget), subject, w)
    return placing.helped(found, laid_out, held, w, budget)


def holds(subject: Subject, w: "Infer", budget: Budget) -> bool:
    """Return whether `infer` would say that the workload surely fits, for searches."""
    return search.holds(hold(subject, w, budget, number(w.engine_version)), subject, w, budget)


def probe(subject: Subject, w: "Infer", budget: Budget) -> Probe:
    """Return a function that gives only the numbers of `infer`, at other points of a search."""
    build = number(w.engine_version)
    return search.probe(lambda s, v: hold(s, v, budget, build), subject, w, budget)


def places(subject: Subject, w: "Infer", budget: Budget, fits: Fits) -> Iterator[PlacedWay]:
    """Yield placements over cards and host memory, those that `fits` accepts if there are any."""
    build = number(w.engine_version)
    yield from placing.ways(
        lambda v: hold(subject, v, budget, build),
        lambda v: holds(subject, v, budget),
        fits,
        w,
        budget,
    )


def number(text: str | None) -> int:
    """Return the build. Releases 0.1 and 0.2 of late 2026 have the newest rules."""
    if text is not None and text.strip().lower().removeprefix("v").startswith("0."):
        return NEWEST
    return version(ENGINE, text)[0][0]


def hold(subject: Subject, w: "Infer", budget: Budget | None, build: int) -> DeviceHoldings:
    """Return what each device holds for the launch, with its draft context."""
    kind, h = speculation.method(subject, w), model_alone(subject, w, budget, build)
    if not kind:
        return h
    back = speculation.goes_back(subject, w, h.net)
    h = replace(
        h, launch=replace(h.launch, proposed=speculation.proposed(subject, w), rollback=back)
    )
    if kind == "mtp":
        h = replace(h, launch=speculation.dealt(subject, h.launch))
        return replace(h, draft=speculation.predicting(subject, h))
    if kind != "draft" or subject.draft is None:
        return h
    draft = replace(subject.draft, context=subject.context)
    return replace(
        h, draft=speculation.of_model(model_alone(draft, speculation.plain(w), budget, build))
    )


def model_alone(subject: Subject, w: "Infer", budget: Budget | None, build: int) -> DeviceHoldings:
    net = known_network(subject)
    rules = on_device(net, build, budget)
    if not rules.latents:
        net = as_heads(net)
    settings = launch(subject, w, budget, rules, model(net, subject))
    return DeviceHoldings(
        net=net, launch=settings, model_type=subject.model_type, free=free(budget, settings)
    )


__all__ = ["holds", "infer", "places", "probe"]

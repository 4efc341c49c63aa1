"""The smallest hardware on which a question's verdict is "yes": card, number of cards, cloud
machine.

    gpu        one card of the catalogue, smallest usable memory first
    count      1, 2, 3 ... of the card that the user named
    instance   machines of the catalogue, smallest total memory first

Several cards share a model by the task's default, if the user sets no parallelism:

    load, transformers, llama.cpp    layers are distributed
    vllm, sglang                     tensor parallel up to 8 in one machine, pipeline beyond; counts
                                     that the engine refuses (heads that they do not divide) are
                                     skipped
    training                         FSDP2 shards all that a rank holds

Hardware too small for the weights is skipped: what cannot hold the weights cannot hold the rest.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.fit.answers import REFUSED, Asker, inference, judged
from weighbridge.answers.questions.fit.ladder import least_weights, planned_or_none
from weighbridge.answers.questions.fit.request import DEVICE, FitRequest, workload
from weighbridge.answers.remedies.climbing import short_of_ram
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.table import record
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Solved, question_of
from weighbridge.memory.report.plan import Plan
from weighbridge.workload import SPREAD, layouts

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

COUNTS = (*range(1, MACHINE + 1), 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
RANKS = (*SPREAD, "shard")


class Tried(NamedTuple):
    """One piece of hardware, and the settings of the question about it."""

    value: int | str
    part: "Part"
    devices: int
    settings: Mapping[str, Any]
    told: Mapping[str, Any]


class FoundSettings(NamedTuple):
    """The answer, and the last settings that were tried."""

    solved: Solved
    settings: Mapping[str, Any]


def smallest(asker: Asker, request: FitRequest) -> FoundSettings:
    """Return the first hardware that fits. Raises UsageError for "count" without a card."""
    assert request.smallest is not None
    tries = {"gpu": _cards, "count": _counts, "instance": _machines}[request.smallest](
        asker, request
    )
    bare = _asked(asker, request, {name: None for name in DEVICE if name != "ram"})
    least = 0 if bare is None else least_weights(request, bare)
    last: Mapping[str, Any] = {}
    plan: Plan | None = None
    for tried in tries:
        last = tried.settings
        if tried.part.room.high * tried.devices < least:
            continue
        plan = planned_or_none(asker, request.planned(tried.settings))
        if plan is not None and plan.fits == "yes" and plan.why != "divided":
            return FoundSettings(_found(request, tried, plan), tried.settings)
    note = _none(request, bare, None if plan is None else plan.report)
    return FoundSettings(
        Solved(unknown=request.smallest, value=None, question=request.about, note=note), last
    )


def _found(request: FitRequest, tried: Tried, plan: Plan) -> Solved:
    assert request.smallest is not None
    assert plan.report is not None
    return Solved(
        unknown=request.smallest,
        value=tried.value,
        question=request.about,
        workload={**tried.settings, **plan.settings},
        peak_bytes=plan.report.peak.expected,
        note=f"{tried.devices} x {tried.part.name}",
        rows=(tried.told,),
    )


def _none(request: FitRequest, bare: Report | None, largest: Report | None) -> str:
    """Return why nothing fits: RAM, if that decides on the `largest` hardware tried."""
    missing = () if bare is None else bare.derived.get("not_counted") or ()
    if missing:
        return sentence("not_counted", what=clauses(*missing))
    what = {"gpu": "no card", "count": f"no count up to {COUNTS[-1]:,}", "instance": "no machine"}
    none = f"{what[request.smallest or 'gpu']} of the catalogue surely fits it as asked"
    if largest is None or not short_of_ram(largest):
        return none
    return clauses(none, sentence("smallest.ram"))


def _asked(asker: Asker, request: FitRequest, change: Mapping[str, Any]) -> Report | None:
    merged = {
        name: value for name, value in {**request.settings, **change}.items() if value is not None
    }
    changed = replace(request, settings=merged)
    try:
        return judged(asker, workload(request.about, changed, inference(asker, changed)))
    except REFUSED:
        return None


def _cards(asker: Asker, request: FitRequest) -> Iterator[Tried]:
    from weighbridge.machines.accelerators.parts import parts

    for part in sorted(cards(parts().values()), key=_room):
        row = {"gpu": part.id, "name": part.name, "marketed_gb": part.marketed_gb}
        yield Tried(part.id, part, 1, {"gpu": part.id}, row)


def cards(parts: "Iterable[Part]") -> "Iterator[Part]":
    """Yield the cards sold as such: no chips that share a machine's memory, no modified cards."""
    return (part for part in parts if part.kind == "gpu" and "modified" not in part.name.lower())


def _room(part: "Part") -> tuple[int, str]:
    return part.room.low, part.id


def _counts(asker: Asker, request: FitRequest) -> Iterator[Tried]:
    from weighbridge.machines.accelerators.names import find

    name = request.settings.get("gpu")
    if name is None:
        raise UsageError(sentence("smallest.count"))
    part = find(name).part
    for count in COUNTS:
        row = {"gpu": part.id, "name": part.name, "count": count}
        settings = {"gpu": f"{part.id}:{count}", **ranks(asker, request, count)}
        yield Tried(count, part, count, settings, row)


def _machines(asker: Asker, request: FitRequest) -> Iterator[Tried]:
    from weighbridge.machines.accelerators.parts import instances, parts

    known = parts()
    machines = sorted(
        instances().values(),
        key=lambda instance: (known[instance.part].room.low * instance.count, instance.id),
    )
    for machine in machines:
        row = {
            "instance": machine.id,
            "name": machine.name,
            "provider": machine.provider,
            "gpu": machine.part,
            "count": machine.count,
        }
        settings = {"gpu": machine.id, **ranks(asker, request, machine.count)}
        yield Tried(machine.id, known[machine.part], machine.count, settings, row)


def ranks(asker: Asker, request: FitRequest, count: int) -> dict[str, Any]:
    """Return the settings by which `count` cards share the model, if the user sets none."""
    if count == 1 or any(name in request.settings for name in RANKS):
        return {}
    task, method = question_of(request.about)
    if task == "train":
        packed = {"bnb_4bit_quant_storage": "bfloat16"} if method == "qlora" else {}
        return {"shard": "fsdp2", **packed}
    if task == "infer" and record(inference(asker, request)).server:
        return next(layouts(count))
    return {}

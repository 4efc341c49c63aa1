"""The verdict on an engine that takes a share of the card, and what would make it serve.

A device may have room for what a workload needs while the engine's own share of it has none.

    with a command   the verdict is about that very command; flags that it lacks are a remedy
    without one      the flags that the launch line adds are a part of what was sized, and said
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.answers.verdict import closeness, on_devices
from weighbridge.base.memory import Device, exactly
from weighbridge.base.records import replace
from weighbridge.base.sentences import Sentence, about, clauses, parts_of, sentence, without
from weighbridge.engines.interface import EngineAnswer, Surely
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.memory.report.verdict import Answer as Fits
from weighbridge.memory.report.verdict import Remedy, Verdict
from weighbridge.workload import Infer

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

Judge = Callable[[tuple[Device, ...]], Fits]  # has a machine room for what they hold?
CARDS = ("gpu", "gpu_memory")  # changes of these are other cards
COSTS: Mapping[str, str] = {
    "gpu_memory_utilization": "another share of the card is the engine's",
    "mem_fraction_static": "more of the card is the engine's",
    "max_num_seqs": "fewer requests may run at once",
    "max_running_requests": "fewer requests may run at once",
    "max_num_batched_tokens": "prompts are read in more steps",
    "chunked_prefill_size": "prompts are read in more steps",
    "enforce_eager": "no CUDA graphs: tokens are written more slowly",
    "disable_cuda_graph": "no CUDA graphs: tokens are written more slowly",
}
# Of the card, an engine's
SHARES: tuple[Literal["gpu_memory_utilization", "mem_fraction_static"], ...] = (
    "gpu_memory_utilization",
    "mem_fraction_static",
)
SURE: tuple[Surely, Surely] = ("yes", "unknown")


def verdict(answer: EngineAnswer, workload: Infer, engine: str, budget: "Budget") -> Verdict:
    """Judge whether the devices hold what was sized, and the engine serves it by these flags."""
    room_verdict, serves = on_devices.serving(answer.devices, budget), answer.serves
    if serves is None or room_verdict.fits == "no":
        return room_verdict
    if serves.surely == "no" or (serves.surely == "unknown" and room_verdict.fits == "yes"):
        return room_verdict.turned(serves.surely, serves.lacks, _short_of(answer, budget))
    if serves.caps:
        return replace(room_verdict, reason=about(serves.caps, room_verdict.reason))
    if serves.flags and not workload.engine_defaults:
        may = answer.derived.get("serves_as_asked")
        lead = sentence("defaults_may_not" if may else "defaults_do_not", engine=engine)
        line_name = "the line below" if answer.derived.get("launch") else "it"
        line = f"{line_name} {'does' if room_verdict.fits == 'yes' else 'may'}, with {serves.flags}"
        reason = clauses(lead, about(line, room_verdict.reason))
        return replace(room_verdict, reason=reason)
    return room_verdict


def _short_of(answer: EngineAnswer, budget: "Budget") -> str:
    """Name the component that the engine's own share of the card has no room for: the cache, which
    is made last, unless what comes before it is too much."""
    shares = (answer.settings.get(name) for name in SHARES)
    share = next((s for s in shares if s is not None), 1.0)
    room = round(share * budget.choice.part.total.bytes.high)
    gpus = (device for device in answer.devices if device.kind == "gpu")
    tipped = (closeness.tipped_by(device.phases, exactly(room), surely=True) for device in gpus)
    return next(filter(None, tipped), "kv_cache")


def as_asked(facts: DerivedFacts, workload: Infer, judged: Verdict | None) -> DerivedFacts:
    """Return the facts, of which `serves_as_asked` is about what the verdict is about: a command as
    it is, or else what was set, with the flags of the launch line for what was not."""
    if "serves_as_asked" not in facts or workload.engine_defaults:
        return facts
    serves = facts["launch_serves"] and (judged is None or judged.fits != "no")
    return {
        **facts,
        "serves_as_asked": serves,
        "serves_by_default": facts["serves_as_asked"],
    }


def remedies(answer: EngineAnswer, judge: Judge) -> Iterator[Remedy]:
    """Yield the flags with which a command would serve."""
    serves = answer.serves
    if serves is None or not serves.changed:
        return
    hosts = (device for device in answer.devices if device.kind == "host")
    devices = (*(device for device in serves.changed if device.kind != "host"), *hosts)
    room = judge(devices)
    yield Remedy(
        change=dict(serves.change),
        peak_bytes=_peak(serves.changed),
        fits=serves.then if room == "yes" else room,
        cost="; ".join(dict.fromkeys(_costs(serves.change))),
        flags=serves.flags,
    )


def softened(
    answer: EngineAnswer, workload: Infer, judged: Verdict | None, remedies: tuple[Remedy, ...]
) -> tuple[str, ...]:
    """Return warnings that promise no more of a line than the verdict on it does."""
    flags = "" if answer.serves is None else answer.serves.flags
    answers = [remedy.fits for remedy in remedies if remedy.flags == flags]
    if not workload.engine_defaults and judged is not None:
        answers = [judged.fits]
    if "yes" in answers:
        return answer.warnings
    return tuple(clauses(*map(_hoped, parts_of(line))) for line in answer.warnings)


def _hoped(clause: str) -> str:
    """Return a clause that says what may do, where it says what would."""
    if isinstance(clause, Sentence) and clause.key == "line_asks":
        return sentence("line_asks.hope", **clause.values)
    return clause


def undenied(report: Report) -> Report:
    """Return a report whose warnings do not say that no flags would do, where a remedy on the same
    cards may."""
    return replace(report, warnings=left_open(report.warnings, report.remedies))


def left_open(warnings: tuple[str, ...], remedies: tuple[Remedy, ...]) -> tuple[str, ...]:
    """Return warnings that deny no remedy on the same cards."""
    if any(one.fits != "no" and one.change.keys().isdisjoint(CARDS) for one in remedies):
        return tuple(without(line, "no_choice") for line in warnings)
    return warnings


def _costs(change: Mapping[str, Any]) -> Iterator[str]:
    return (COSTS[name] for name in change if name in COSTS)


def _peak(devices: tuple[Device, ...]) -> int:
    return max(d.peak("driver").expected for d in devices if d.kind == "gpu")

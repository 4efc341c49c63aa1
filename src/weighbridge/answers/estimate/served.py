"""Verdicts on engines that budget a share of the card, and the flags that make them serve.

A device may have room for what a workload needs while the engine's own share of it has none.

    with a command   the verdict is about that very command; flags that it lacks are a remedy
    without one      the estimate includes the flags that the launch line adds, and says so
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.answers.verdict import on_devices
from weighbridge.base.memory import Device
from weighbridge.base.records import replace
from weighbridge.base.sentences import about, clauses, sentence
from weighbridge.engines.interface import EngineAnswer
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.memory.report.verdict import Answer as Fits
from weighbridge.memory.report.verdict import Remedy, Verdict
from weighbridge.workload import Infer

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

Judge = Callable[[tuple[Device, ...]], Fits]  # verdict on the devices' memory
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


def verdict(answer: EngineAnswer, workload: Infer, engine: str, budget: "Budget") -> Verdict:
    """Return whether the devices have the memory and the engine serves it with these flags."""
    room_verdict, serves = on_devices.serving(answer.devices, budget), answer.serves
    if serves is None:
        return room_verdict
    was, conditions = room_verdict.fits, serves.conditions
    room_verdict = room_verdict.under(*conditions, reason=room_verdict.reason)
    if was == "no":
        return room_verdict
    if serves.surely == "no" or (serves.surely == "unknown" and was == "yes"):
        left = all(c.available is None or c.available.high > 0 for c in conditions)
        tipped = "kv_cache" if left else "weights"  # they leave nothing
        return replace(room_verdict, reason=serves.lacks, tipped_by=tipped)
    if serves.caps:
        return replace(room_verdict, reason=about(serves.caps, room_verdict.reason))
    if serves.flags and not workload.engine_defaults:
        may = answer.derived.get("serves_as_asked")
        lead = sentence("defaults_may_not" if may else "defaults_do_not", engine=engine)
        does = "does" if room_verdict.fits == "yes" else "may"
        line = f"the line below {does}, with {serves.flags}"
        reason = clauses(lead, about(line, room_verdict.reason))
        return replace(room_verdict, reason=reason)
    return room_verdict


def as_asked(facts: DerivedFacts, workload: Infer, judged: Verdict | None) -> DerivedFacts:
    """Return the facts with `serves_as_asked` about what the verdict judges: a command as it is,
    else the user's settings with the launch line's flags for the rest."""
    if "serves_as_asked" not in facts or workload.engine_defaults:
        return facts
    serves = facts["launch_serves"] and (judged is None or judged.fits != "no")
    return {
        **facts,
        "serves_as_asked": serves,
        "serves_by_default": facts["serves_as_asked"],
    }


def remedies(answer: EngineAnswer, judge: Judge) -> Iterator[Remedy]:
    """Yield the flags with which the user's command would serve."""
    serves = answer.serves
    if serves is None or not serves.changed:
        return
    hosts = (device for device in answer.devices if device.kind == "host")
    devices = (*(device for device in serves.changed if device.kind != "host"), *hosts)
    room = judge(devices)
    yield Remedy(
        change=dict(serves.change),
        peak_bytes=max(d.peak("driver").expected for d in serves.changed if d.kind == "gpu"),
        fits=serves.then if room == "yes" else room,
        cost="; ".join(dict.fromkeys(COSTS[name] for name in serves.change if name in COSTS)),
        flags=serves.flags,
    )

"""A model too large for a card, whose layers the engine splits between card and RAM by itself."""

from collections.abc import Mapping, Sequence
from typing import cast

from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses
from weighbridge.base.units import GIB, human
from weighbridge.machines.accelerators.parts import Part
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.memory.report.verdict import Condition, Verdict

# GB/s of host memory: two channels of DDR4-2400 to two of DDR5-6400, 8 bytes per transfer
# (JESD79-4, JESD79-5); assumed, since the user does not describe the machine
RAM_SPEED = (38.4, 102.4)
ANY_MACHINE = 16 * GIB  # RAM of a machine with a card: assumed, the least that is sold with one
READ = ("weights", "kv_cache", "recurrent_state")  # components that are read for every token

# Facts that hold only for this number of layers on the card: a longer context leaves fewer there
OF_THE_DIVISION = ("largest_context", "largest_batch_size", "kv_cache_tokens", "max_concurrency")


def divided(
    whole: Report,
    report: Report,
    moved: Mapping[str, int],
    engine: str,
    card: Part,
    *,
    known: bool,
) -> Report:
    """Return the answer for a model that the engine splits between card and RAM. `report` estimates
    the layers that stay on the card after `moved`, without limits; `whole` estimates all layers,
    and its launch line stands because the engine splits by itself. If the machine's RAM is not
    `known`, the verdict is "yes" only if the model needs no more RAM than any machine has."""
    verdict, every = report.verdict, whole.workload["n_gpu_layers"]
    assert verdict is not None
    experts = "n_gpu_layers" not in moved
    if experts:
        layers = [every - 1 - moved["n_cpu_moe"], every - 1]
    else:
        layers = [moved["n_gpu_layers"], every]
    away = _share_away(report, layers, experts=experts)
    what = "the experts of " if experts else ""
    lead = (
        f"{engine} keeps {what}{layers[0]} of {layers[1]} layers on it by itself and the rest in "
        f"RAM, {away:.0%} of what a token reads"
    )
    told: DerivedFacts = {
        "layers_on_card": layers,
        "divided_by": "experts" if experts else "layers",
        "share_in_ram": round(away, 3),
    }
    if card.bandwidth is not None:
        slower = [1 + away * (card.bandwidth[0] / speed - 1) for speed in reversed(RAM_SPEED)]
        told["times_slower"] = [round(max(1.0, times), 1) for times in slower]
        low, high = told["times_slower"]
        lead += f": {low:g} to {high:g} times slower"
    else:
        lead += ": much slower"
    if "launch" in whole.derived:
        told |= {"launch": whole.derived["launch"]}
        told |= {"launch_note": whole.derived.get("launch_note")}
    derived = {key: value for key, value in report.derived.items() if key not in OF_THE_DIVISION}
    if "searched_to" in whole.derived:
        derived["searched_to"] = whole.derived["searched_to"]
    return replace(
        report,
        workload={**report.workload, **dict.fromkeys(moved)},
        derived=cast("DerivedFacts", derived | told),
        verdict=replace(verdict, reason=clauses(lead, verdict.reason))
        if known
        else _if_there_is_ram(verdict, lead),
    )


def _if_there_is_ram(verdict: Verdict, lead: str) -> Verdict:
    needed = 0 if verdict.host is None else verdict.host.needed.expected
    if needed <= ANY_MACHINE:
        return replace(verdict, reason=clauses(lead, verdict.reason))
    asked = f"it needs about {human(needed)} of RAM: --ram SIZE says whether that is there"
    return verdict.under(Condition("ram", opens="yes"), reason=clauses(lead, asked))


def _share_away(report: Report, layers: Sequence[int], *, experts: bool) -> float:
    """Return the share of the bytes read per token that is in RAM. A token reads only active
    parameters; with `experts`, RAM holds the experts of the moved layers, else whole layers."""
    card, host = (_read(report, kind) for kind in ("gpu", "host"))
    weights = card["weights"] + host["weights"]
    active = weights * (report.model.active_parameters / max(1, report.model.parameters))
    away, caches = active * host["weights"] / max(1, weights), sum(host.values()) - host["weights"]
    if experts:
        moved = (layers[1] - layers[0]) / layers[1]
        idle = weights - active  # bytes of experts that a token is not routed to
        away = max(0.0, host["weights"] - idle * moved)
    read = active + sum(card.values()) + sum(host.values()) - weights
    return (away + caches) / max(1, read)


def _read(report: Report, kind: str) -> Mapping[str, int]:
    """Return the bytes read per token on all devices of this `kind`, by component."""
    running = [device.phases[-1] for device in report.devices if device.kind == kind]
    return {name: sum(one.of(name).expected for one in running) for name in READ}

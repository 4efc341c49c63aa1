"""How many large cards training takes that share everything out, where one card has no room.

What ranks share is divided by their number, the rest is not: that gives a first number, which is
asked like any other question, and the answer gives the next one.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

from weighbridge.errors import WeighbridgeError
from weighbridge.memory import Bytes, Device, Phase
from weighbridge.report import Report
from weighbridge.report.verdict import Remedy

if TYPE_CHECKING:
    from weighbridge.workload import Train

CARD = "h100-sxm"  # what most clusters are made of (assumed)
MOST = 1024  # cards
TRIES = 3  # numbers that are asked
FILLED = 0.8  # of a card, by what is shared (assumed: a first guess)
SHARED = frozenset(
    ("weights", "gradients", "optimizer_states", "master_weights", "adapters", "temporaries")
)
SETTINGS: Mapping[str, str] = {"shard": "fsdp2", "checkpointing": "full"}


class Trains(Protocol):
    """Answers questions about training."""

    def train(self, workload: "Train", **options: Any) -> Report:
        """What training takes."""


def sharded(asker: Trains, w: "Train", report: Report, pinned: frozenset[str]) -> Remedy | None:
    """The fewest such cards that were found to be enough; None where nobody can say."""
    if not pinned.isdisjoint(("shard", "gpu_memory")) or w.gpu is None:
        return None
    from weighbridge.accelerators.budget import budget

    found = budget(CARD, None, w.headroom)
    assert found is not None
    room, best = found.usable.low, None
    number: int | None = _guess(report, room)
    for _ in range(TRIES):
        if number is None or not 1 <= number <= MOST or (best and number >= best[0]):
            break
        asked = _asked(asker, w, number, pinned)
        if asked is None or asked.verdict is None:
            return None
        fits = asked.verdict.fits == "yes"
        best = (number, asked) if fits else best
        then = _enough(asked, room, number)
        number = then if fits or then is None else max(number + 1, then)
    return None if best is None else _remedy(w, *best, pinned)


def _change(number: int, pinned: frozenset[str]) -> dict[str, Any]:
    own = {n: v for n, v in SETTINGS.items() if n not in pinned and (number > 1 or n != "shard")}
    return {"gpu": f"{CARD}:{number}" if number > 1 else CARD, **own}


def _asked(asker: Trains, w: "Train", number: int, pinned: frozenset[str]) -> Report | None:
    try:
        changed = replace(w, **_change(number, pinned))
        return asker.train(changed, remedies=False)
    except WeighbridgeError:
        return None


def _guess(report: Report, room: int) -> int:
    """A first number, by what is shared alone."""
    shared = max(_sums(p)[0] for p in _fullest(report).phases)
    return max(1, round(shared / (FILLED * room)))


def _enough(report: Report, room: int, ranks: int) -> int | None:
    """How many ranks would have room, by what the fullest device holds of so many; None where what
    is not shared is too much."""
    sums = [_sums(phase) for phase in _fullest(report).phases]
    if any(rest >= room for _, rest in sums):
        return None
    return max(ceil(ranks * shared / (room - rest)) for shared, rest in sums)


def _fullest(report: Report) -> Device:
    gpus = (d for d in report.devices if d.kind == "gpu")
    return max(gpus, key=lambda d: d.peak("driver").expected)


def _sums(phase: Phase) -> tuple[int, int]:
    """Bytes that ranks share out, and all others, at most."""
    shared = sum(c.bytes.high for c in phase.components if c.name in SHARED)
    return shared, phase.at("driver").high - shared


def _remedy(w: "Train", number: int, report: Report, pinned: frozenset[str]) -> Remedy:
    from weighbridge.remedies.prices import hardware
    from weighbridge.remedies.written import flags

    v, change = report.verdict, _change(number, pinned)
    assert v is not None
    bought = hardware(1, number, f"{v.times}{v.accelerator}")
    return Remedy(
        change=change,
        peak_bytes=v.per_device.expected,
        fits=v.fits,
        cost=bought.words,
        flags=flags(change, ""),
        source=bought.source,
        margin_bytes=v.margin_bytes,
        per_device=Bytes(*v.per_device),
        price=bought.price,
        kind="more devices",
    )

"""The number of large cards that a fully sharded training run needs, if one card is too small.

What is sharded is divided by the number of ranks, the rest is not: that gives a first number, which
is counted and estimated like any question, and its answer gives the next one. A number that does
not surely fit by its lower bound is not estimated in full.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.memory import Bytes, Instant
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Remedy

if TYPE_CHECKING:
    from weighbridge.workload import Train

CARD = "h100-sxm"  # the most usual card in clusters (assumed)
MOST = 1024  # cards
TRIES = 3  # full estimates
COUNTS = 4  # lower bounds tried before each
FILLED = 0.8  # share of a card taken by sharded memory (assumed: a first guess)
SHARED = frozenset(
    ("weights", "gradients", "optimizer_states", "master_weights", "adapters", "temporaries")
)
SETTINGS: Mapping[str, str] = {"shard": "fsdp2", "checkpointing": "full"}


class Trainer(Protocol):
    """Estimates training runs; a prepared model does."""

    def train(self, workload: "Train", **options: Any) -> Report:
        """Return the report of a training run."""

    def least(self, workload: "Train") -> Report:
        """Return a report with lower bounds of a training run, sooner."""


def sharded(
    asker: Trainer, training: "Train", report: Report, pinned: frozenset[str]
) -> Remedy | None:
    """Return the remedy of the fewest cards found to be enough; None if none was found."""
    if not pinned.isdisjoint(("shard", "gpu_memory")) or training.gpu is None:
        return None
    from weighbridge.machines.accelerators.budget import budget

    room_of_card = budget(CARD, None, training.headroom)
    assert room_of_card is not None
    room, best = room_of_card.usable.low, None

    def asked(number: int, ask: Callable[["Train"], Report]) -> Report | None:
        return _asked(training.but(**_change(number, pinned)), ask)

    number: int | None = _guess(report, room)
    for _ in range(TRIES):
        most = MOST if best is None else best[0] - 1
        number = _open(number, most, room, lambda n: asked(n, asker.least))
        if number is None:
            break
        answered = asked(number, lambda w: asker.train(w, remedies=False))
        if answered is None or answered.verdict is None:
            break
        fits = answered.verdict.fits == "yes"
        best = (number, answered) if fits else best
        enough = _enough(answered, room, number)
        number = enough if fits or enough is None else max(number + 1, enough)
    return None if best is None else _remedy(training, *best, pinned)


def _open(
    number: int | None, most: int, room: int, count: Callable[[int], Report | None]
) -> int | None:
    """Return the first of at most COUNTS numbers whose lower bound surely fits; None if there is
    none up to `most`."""
    for _ in range(COUNTS):
        if number is None or not 1 <= number <= most:
            return None
        least = count(number)
        if least is None or least.verdict is None:
            return None
        if least.verdict.fits == "yes":
            return number
        enough = _enough(least, room, number)
        number = None if enough is None else max(number + 1, enough)
    return None


def _change(number: int, pinned: frozenset[str]) -> dict[str, Any]:
    settings = {
        name: value
        for name, value in SETTINGS.items()
        if name not in pinned and (number > 1 or name != "shard")
    }
    return {"gpu": f"{CARD}:{number}" if number > 1 else CARD, **settings}


def _asked(workload: "Train", ask: Callable[["Train"], Report]) -> Report | None:
    try:
        return ask(workload)
    except WeighbridgeError:
        return None


def _guess(report: Report, room: int) -> int:
    """Return a first guess of the number of cards, from sharded memory only."""
    shared = max(_sums(p)[0] for p in report.fullest.phases)
    return max(1, round(shared / (FILLED * room)))


def _enough(report: Report, room: int, ranks: int) -> int | None:
    """Return the number of ranks that have room, from the fullest device of `ranks`; None if the
    part that is not sharded is too large."""
    sums = [_sums(phase) for phase in report.fullest.phases]
    if any(beside >= room for _, beside in sums):
        return None
    return max(ceil(ranks * shared / (room - beside)) for shared, beside in sums)


def _sums(phase: Instant) -> tuple[int, int]:
    """Return (bytes that ranks shard, all other bytes), both at most."""
    shared = phase.of(*SHARED).high
    return shared, phase.at("driver").high - shared


def _remedy(training: "Train", number: int, report: Report, pinned: frozenset[str]) -> Remedy:
    from weighbridge.answers.remedies.prices import hardware
    from weighbridge.workload.flags import flags

    verdict, change = report.verdict, _change(number, pinned)
    assert verdict is not None
    bought = hardware(1, number, verdict.cards)
    return Remedy(
        change=change,
        peak_bytes=verdict.per_device.expected,
        fits=verdict.fits,
        cost=bought.words,
        flags=flags(change, ""),
        source=bought.source,
        margin_bytes=verdict.margin_bytes,
        per_device=Bytes(*verdict.per_device),
        price=bought.price,
        kind="more devices",
    )

"""The changes of a question, by task."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from weighbridge.remedies.case import RemedyCase
from weighbridge.remedies.moves import Move

# Where the changes of each task are: training brings what few ask for
ROOMS: Mapping[str, str] = {"load": "formats", "infer": "serving", "train": "training"}


def moves(case: RemedyCase) -> Iterator[Move]:
    """Every single change that is known but for other devices, nothing pinned among them."""
    found: Callable[[RemedyCase], Iterator[Move]] = import_module(
        f"weighbridge.remedies.{ROOMS[case.task]}"
    ).moves
    return found(case)


def devices(case: RemedyCase) -> Iterator[Move]:
    """Propose more of the same device, and larger ones, smallest first."""
    from weighbridge.remedies.devices import moves as found

    return found(case)


def runnable(case: RemedyCase) -> Move | None:
    """What a launch of training needs that its framework refuses as asked."""
    if not case.report.derived.get("runs_only"):
        return None
    from weighbridge.remedies.training import runnable as found

    return found(case)

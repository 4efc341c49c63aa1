"""Which changes are asked, in which order, and which of the answers are told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.judged import Remedy
from weighbridge.memory import Bytes
from weighbridge.remedies import prices, written
from weighbridge.remedies.case import Case
from weighbridge.remedies.moves import Cost, Move
from weighbridge.remedies.table import moves
from weighbridge.report import Report

ASKS = 60  # questions of one search (assumed: what fits into the time of an answer)
CHEAP = 20.0  # points: above this of a single change sets are looked for, too (assumed)
WIDTH = 6  # nodes of a level from which the next is made
DEPTH = 3


@dataclass(frozen=True, slots=True)
class Node:
    """Some changes together, and what comes of them."""

    moves: tuple[Move, ...]
    case: Case

    @property
    def change(self) -> Mapping[str, Any]:
        return {name: value for move in self.moves for name, value in move.change.items()}

    @property
    def cost(self) -> Cost:
        return prices.together(tuple(m.cost for m in self.moves))

    @property
    def points(self) -> float:
        return self.cost.price.points

    @property
    def report(self) -> Report:
        return self.case.report

    @property
    def fits(self) -> str:
        return self.case.verdict.fits


def found(case: Case, most: int) -> tuple[Remedy, ...]:
    """The remedies of one question."""
    left = [ASKS]
    level, good = [Node((), case)], []
    for _ in range(DEPTH):
        tried = [node for parent in level for node in _next(parent, left)]
        good += [node for node in tried if node.fits == "yes"]
        if len(good) >= most or any(n.points <= CHEAP for n in good) or left[0] <= 0:
            break
        rest = [n for n in tried if n.fits != "yes"]
        level = sorted(rest, key=lambda n: (n.report.peak.expected, n.points))[:WIDTH]
    return tuple(_remedy(case, node) for node in _chosen(good, most))


def _next(parent: Node, left: list[int]) -> Iterator[Node]:
    """Each further change of a set, answered."""
    used = {m.kind for m in parent.moves}
    for move in sorted(moves(parent.case), key=lambda m: m.points):
        if move.kind in used or left[0] <= 0 or _hopeless(parent.case, move):
            continue
        left[0] -= 1
        node = _asked(parent, move)
        if node is not None:
            yield node


def _hopeless(case: Case, move: Move) -> bool:
    """Whether what the change leaves as it is takes more than there is."""
    del case, move
    return False


def _asked(parent: Node, move: Move) -> Node | None:
    """None where the model, the engine or the card refuses."""
    case = parent.case
    try:
        workload = case.changed(move.change)
        report = case.ask(workload)
    except WeighbridgeError:
        return None
    if report.verdict is None:
        return None
    pinned = case.pinned | move.change.keys()
    changed = replace(case, workload=workload, report=report, pinned=pinned)
    return Node((*parent.moves, move), changed)


def _chosen(good: list[Node], most: int) -> list[Node]:
    """Cheapest first, without those that another one beats."""
    kept: list[Node] = []
    for node in sorted(good, key=lambda n: (n.points, len(n.moves))):
        if not any(_beats(other, node) for other in kept):
            kept.append(node)
    return kept[:most]


def _beats(other: Node, node: Node) -> bool:
    return node.cost.price.no_less(other.cost.price) and _peak(node) >= _peak(other)


def _peak(node: Node) -> int:
    return node.report.peak.expected


def _remedy(case: Case, node: Node) -> Remedy:
    verdict, cost = node.case.verdict, node.cost
    return Remedy(
        change=dict(node.change),
        peak_bytes=node.report.peak.expected,
        fits=verdict.fits,
        cost=cost.words,
        source=cost.source,
        price=cost.price,
        margin_bytes=verdict.margin_bytes,
        per_device=Bytes(*verdict.per_device),
        kind=node.moves[0].kind,
        flags=written.flags(node.change),
        paste=written.paste(case, node.report),
        note=written.note(node.report, tuple(m.note for m in node.moves)),
    )

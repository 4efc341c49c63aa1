"""One typed setting, undone: if that by itself makes the question fit, it is shown first.

A setting of how a question is run is reset: to its default, and if that is not enough to each value
that the search knows for it. What is asked for stays: the model, its format, the program, the
number and length of texts, what is trained.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from weighbridge.answers.remedies.case import Cost, Move, RemedyCase, moves, said
from weighbridge.answers.remedies.sets import MoveSet, surely
from weighbridge.base.records import replace
from weighbridge.engines.interface import POINT
from weighbridge.memory.report.verdict import Price
from weighbridge.workload import read

# Settings that define what is wanted
WANTED = frozenset(
    (
        *("engine", "engine_version", "framework", "framework_version", "torch_version"),
        *("quantization", "method", "base_model", "draft_model", "mmproj", "images", "image_size"),
        *(*POINT, "seq_len", "gradient_accumulation", "lora_r", "lora_targets", "modules_to_save"),
    )
)
TYPED = "typed"  # the kind of a change that undoes a typed setting
COST = Cost(
    price=Price(),
    words="this setting alone is what does not fit: without it, or so, it does",
    source="what was typed",
)
MOST = 8  # settings that are tried


def typed(case: RemedyCase) -> list[str]:
    """Return the names of the typed settings that may be undone."""
    return sorted((case.pinned & said(case.workload)) - WANTED)[:MOST]


def undone(case: RemedyCase, names: Iterable[str]) -> Iterator[MoveSet]:
    """Yield the answers that surely fit with one typed setting undone. Settings that the search may
    change although they were typed are left to it."""
    searched = {frozenset(move.change) for move in moves(case)}
    for name in (name for name in names if frozenset((name,)) not in searched):
        node = _without(case, name)
        if node is not None:
            yield node


def _without(case: RemedyCase, name: str) -> MoveSet | None:
    """Return the answer that fits without a setting, else with the first other value that does."""
    root = MoveSet((), replace(case, pinned=case.pinned - {name}))
    usual = _left_out(root, name)
    if usual is not None and usual.change[name] is not None:
        return usual
    others = (move for move in moves(root.case) if move.change.keys() == {name})
    answers = (surely(root, (move,)) for move in others)
    return next((node for node in answers if node is not None), usual)


def _left_out(root: MoveSet, name: str) -> MoveSet | None:
    """Return the answer with the setting's effective default; None if that does not surely fit."""
    node = _valued(root, name, getattr(read(root.case.task, {}), name))
    value = None if node is None else node.report.workload.get(name)
    if node is None or value is None or value == node.change[name]:
        return node
    return _valued(root, name, value) or node


def _valued(root: MoveSet, name: str, value: Any) -> MoveSet | None:
    return surely(root, (Move(kind=TYPED, change={name: value}, cost=COST),))

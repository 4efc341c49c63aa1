"""Services of one file that are given the same card: what they take together decides for each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes
from weighbridge.base.records import replace
from weighbridge.base.units import human
from weighbridge.memory.report.together import held_at_once

if TYPE_CHECKING:
    from weighbridge.files.runfiles.weighing import WeighedRun
    from weighbridge.memory.report.verdict import Answer

WORSE: Mapping[str, int] = {"yes": 0, "unknown": 1, "no": 2}


def together(runs: "tuple[WeighedRun, ...]") -> "tuple[WeighedRun, ...]":
    """Return answers of which those on one card are judged by their sum, too."""
    made = list(runs)
    cards = dict.fromkeys(card for run in runs for card in run.run.devices)
    for card in cards:
        members = [at for at, run in enumerate(runs) if card in run.run.devices]
        if len(members) > 1:
            _judge(made, members, card)
    return tuple(made)


def _judge(runs: "list[WeighedRun]", members: Sequence[int], card: str) -> None:
    """Judge the runs at some places, which share a card, by what they take together."""
    names = " and ".join(runs[at].run.name for at in members)
    reports = [report for at in members if (report := runs[at].report) is not None]
    lacks = [runs[at].run.name for at in members if runs[at].report is None]
    whole = held_at_once(reports)
    about = f"{names} share card {card}: together they take about {human(whole.expected)}"
    for at in members:
        report = runs[at].report
        if report is None:
            continue
        if report.verdict is None:
            run = runs[at].run
            told = about if not lacks else f"{about} without {', '.join(lacks)}"
            notes = run.notes if at != members[0] else (*run.notes, told)
            runs[at] = replace(runs[at], run=replace(run, notes=notes))
            continue
        usable = report.verdict.usable_bytes
        answer, reason = _answer(whole, usable), f"{about}, and it has {human(usable)}"
        if lacks and answer != "no":
            answer, reason = "unknown", f"{', '.join(lacks)} takes memory of the same card, too"
        if WORSE[answer] > WORSE[report.verdict.fits]:
            verdict = report.verdict.turned(answer, reason)
            runs[at] = replace(runs[at], report=replace(report, verdict=verdict))


def _answer(whole: Bytes, usable: int) -> "Answer":
    """Tell whether a sum fits."""
    if whole.low > usable:
        return "no"
    return "yes" if whole.high <= usable else "unknown"

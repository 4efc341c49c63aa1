"""What would make it fit, or leave more room: the cheapest changes that a report has.

A row is the peak after the change, and the change with what it costs: in a few words on the first
screen, in sentences with `--details`, which end where one does.
"""

from collections.abc import Iterable

from weighbridge.report.verdict import Remedy
from weighbridge.view.costs import few
from weighbridge.view.records import Cell, Column, Grid, Language, Paste
from weighbridge.view.shown import ShownAnswer
from weighbridge.wording import printable

MOST = 3  # on the first screen
LONG = 72  # characters of a cost there
PYTHON = ("import ", "from ", "#")  # how a paste begins that is no shell's


def found(s: ShownAnswer) -> tuple[Remedy, ...]:
    """The first of them: those that fit before those that may, in the order of the report."""
    usable = [r for r in s.report.remedies if r.fits != "no"]
    return tuple(sorted(usable, key=lambda r: r.fits != "yes")[:MOST])


def grid(s: ShownAnswer, remedies: Iterable[Remedy]) -> Grid | None:
    told = tuple(remedies)
    rows = tuple(_row(s, r) for r in told)
    key = "changes.fit" if any(r.fits == "yes" for r in told) else "changes.may"
    if s.report.verdict is not None and s.report.verdict.fits == "yes":
        key = "changes.room"
    if not rows:
        return None
    columns, actions = (Column(right=True), Column(folds=True)), tuple(r.change for r in told)
    return Grid(columns, rows, s.say(key), actions=actions)


def _row(s: ShownAnswer, r: Remedy) -> tuple[Cell, ...]:
    told = printable(r.flags or settings(r))
    cost = short(printable(r.cost)) if s.full or r.price is None else few(s.say, r)
    return Cell(s.sizes.of(held(r)), r.fits), Cell(f"{told}  ({cost})" if cost else told)


def held(r: Remedy) -> int:
    """What the fullest device holds after it."""
    return r.peak_bytes if r.per_device is None else r.per_device.expected


def settings(r: Remedy) -> str:
    """The changed settings as options of ours."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in r.change.items())


def short(cost: str) -> str:
    """Shorten a cost to the clauses that there is room for, at least one."""
    first, *others = cost.split("; ")
    for clause in others:
        if len(first) + len(clause) > LONG:
            return f"{first}; …"
        first = f"{first}; {clause}"
    return first


def paste(s: ShownAnswer, r: Remedy) -> Paste | None:
    """The line that does it."""
    if not r.paste:
        return None
    text = "\n".join(printable(line) for line in r.paste.splitlines())
    language: Language = "python" if text.startswith(PYTHON) or "(" in text[:40] else "sh"
    return Paste(s.say("paste.change", flags=printable(r.flags or settings(r))), text, language)

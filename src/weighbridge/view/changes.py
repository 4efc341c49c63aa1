"""What would make it fit, or leave more room: the cheapest changes, as far as a report has them."""

from weighbridge.judged import Remedy
from weighbridge.view.records import Cell, Column, Grid, Section
from weighbridge.view.shown import Shown
from weighbridge.wording import printable

MOST = 3  # on the first screen


def sections(s: Shown) -> tuple[Section, ...]:
    """The first of them: those that fit before those that may, in the order of the report."""
    found = [r for r in s.report.remedies if r.fits != "no"]
    ordered = sorted(found, key=lambda r: r.fits != "yes")[:MOST]
    if not ordered:
        return ()
    v = s.report.verdict
    key = "changes.room" if v is not None and v.fits == "yes" else "changes.fit"
    columns = (Column(), Column(right=True), Column(folds=True))
    return ((Grid(columns, tuple(_row(s, r) for r in ordered), s.say(key)),),)


def _row(s: Shown, r: Remedy) -> tuple[Cell, ...]:
    return (
        Cell(printable(r.flags or settings(r)), r.fits),
        Cell(s.sizes.of(r.peak_bytes)),
        Cell(printable(r.cost), None, "dim"),
    )


def settings(r: Remedy) -> str:
    """The changed settings as options of ours."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in r.change.items())

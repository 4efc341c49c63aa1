"""`--explain`: the arithmetic of each component of the bar, as people write it."""

from collections.abc import Iterator

from weighbridge.units import human
from weighbridge.view.details import left_alone, quality_sources
from weighbridge.view.phases import phase_name
from weighbridge.view.records import Block, Cell, Column, Grid
from weighbridge.view.records import row as cells
from weighbridge.view.shown import ShownAnswer
from weighbridge.wording import printable


def sections(s: ShownAnswer) -> Iterator[tuple[Block, ...]]:
    yield (_arithmetic(s),)
    for grid in (left_alone(s), quality_sources(s)):
        if grid is not None:
            yield (grid,)


def _arithmetic(s: ShownAnswer) -> Grid:
    """Components from the largest to the smallest, margins last."""
    ordered = sorted(s.phase.components, key=lambda c: -c.bytes.expected)
    rows: list[tuple[Cell, ...]] = []
    for c in ordered:
        size = human(c.bytes.expected if c.bytes.expected else c.bytes.high, s.unit)
        told = size if c.bytes.expected else s.say("explain.up_to", size=size)
        detail = f"{c.detail}: " if c.detail else ""
        rows.append(cells(c.name, told, printable(detail + c.formula)))
    columns = (
        Column(s.say("head.component")),
        Column(s.say("head.memory"), right=True),
        Column(s.say("head.arithmetic"), folds=True),
    )
    heading = s.say("explain.heading", phase=phase_name(s, s.phase.name))
    return Grid(columns, tuple(rows), heading)

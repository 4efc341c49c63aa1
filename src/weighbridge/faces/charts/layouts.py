"""The chart of layouts of a run or a server over several cards: a dot for each that fits. Every
plot has a cost in time along x, and another cost or benefit along y.

    train    x: work that is recomputed, and time that stages wait     y: bytes that a card sends
    infer    x: weights that are read one after another per token      y: cached tokens, bytes sent
    placed   x: weights that are read from host memory per token       y: those that cards read

Only dots that no other dot of the plot betters are named: the table has all.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.words import Words, words_in
from weighbridge.faces.charts import scale
from weighbridge.faces.charts.figure import Axis, Dot, Dots, Figure, FigureTable, Series
from weighbridge.memory.report.fit import Ranking

ROOM = 1.1  # axis length per largest value
Row = Mapping[str, Any]


class LayoutMeasure(NamedTuple):
    """A cost or benefit of layouts; `of` reads its value from a row. `sized`: in bytes, else a
    plain number."""

    word: str
    of: Callable[[Row], float]
    sized: bool = True


def _extra_time(row: Row) -> float:
    """Return the percent by which a step takes longer: recomputed work and pipeline bubble."""
    return 100 * float(row["computed_again"] + row["bubble"])


NEAR = LayoutMeasure("axis.near", lambda row: float(row["near_bytes"]))
FAR = LayoutMeasure("axis.far", lambda row: float(row["far_bytes"]))
TURN = LayoutMeasure("axis.turn", lambda row: float(row["read_in_turn_bytes"]))
CACHED = LayoutMeasure("axis.cached", lambda row: float(row["cached_tokens"]), sized=False)
HOST = LayoutMeasure("axis.ram_read", lambda row: float(row["read_from_host_bytes"]))
WORK = LayoutMeasure("axis.work", _extra_time, sized=False)
NEEDS = LayoutMeasure("axis.needs", lambda row: float(row["peak_bytes"]))
MEASURES: Mapping[
    str, tuple[LayoutMeasure, ...]
] = {  # question -> the measure along x, then those along y
    "train": (WORK, NEAR, FAR),
    "infer": (TURN, CACHED, NEAR, FAR),
    "placed": (HOST, TURN, CACHED),
}


def layouts(
    ranking: Ranking, *, every: bool = False, unit: str | None = None, lang: str = "en"
) -> Figure:
    """Return the figure of the layouts that fit. A note says whether the rows are all of them
    (`every`) or only those that no other layout betters. Raises UsageError if none fits."""
    say = words_in(lang, "charts")
    rows = ranking.fitting
    if not rows:
        raise UsageError(sentence("draw.layouts", model=ranking.model))
    x, *others = MEASURES["placed" if "cards" in rows[0] else ranking.about]
    drawn = [y for y in others if any(map(y.of, rows))]  # nothing is sent beyond a single machine
    names = {"model": ranking.model or "", "card": f"{ranking.count} x {ranking.accelerator}"}
    return Figure(
        title=say("title.layouts", **names),
        answer="",
        notes=tuple(_notes(ranking, every, say)),
        description=say("described.layouts", **names),
        plots=tuple(_plot(rows, x, y, (say, unit)) for y in drawn),
        table=_table(rows, (NEEDS, x, *others), (say, unit)),
        lang=lang,
    )


def _notes(ranking: Ranking, every: bool, say: Words) -> Iterator[str]:
    yield say("every" if every else "front")
    if ranking.about == "infer":
        yield say("more.cached")


def _plot(
    rows: tuple[Row, ...], x: LayoutMeasure, y: LayoutMeasure, words: tuple[Words, str | None]
) -> Dots:
    dots = tuple(sorted(Dot(x.of(row), y.of(row), _dot_name(row, rows, (x, y)), 0) for row in rows))
    axes = (_axis(rows, each, words) for each in (x, y))
    return Dots(dots, (Series(words[0]("layouts"), 0),), *axes)


def _dot_name(
    row: Row, rows: tuple[Row, ...], measures: tuple[LayoutMeasure, LayoutMeasure]
) -> str:
    """Return the name of a dot; "" if another dot is better in one measure and not worse in any."""

    def costs(of: Row) -> tuple[float, ...]:
        return tuple(-m.of(of) if m is CACHED else m.of(of) for m in measures)

    mine = costs(row)
    better = (
        all(a <= b for a, b in zip(c, mine, strict=True)) and c != mine for c in map(costs, rows)
    )
    return "" if any(better) else str(row["id"])


def _axis(rows: tuple[Row, ...], of: LayoutMeasure, words: tuple[Words, str | None]) -> Axis:
    say, asked = words
    most = max(map(of.of, rows))
    if not of.sized:
        return scale.plain(say(of.word), 0, most * ROOM or 1)
    size = scale.unit(most, asked)
    return scale.memory(say(of.word, unit=size.name), most * ROOM, size)


def _table(
    rows: tuple[Row, ...], measures: tuple[LayoutMeasure, ...], words: tuple[Words, str | None]
) -> FigureTable:
    say, asked = words
    sizes = [scale.unit(max(map(m.of, rows)), asked) if m.sized else None for m in measures]
    head = (
        say(m.word, **({"unit": size.name} if size else {}))
        for m, size in zip(measures, sizes, strict=True)
    )
    cells = ((row["id"], *_cells(row, measures, sizes)) for row in rows)
    return FigureTable((say("head.layout"), *head), tuple(cells))


def _cells(
    row: Row, measures: tuple[LayoutMeasure, ...], sizes: list[scale.ByteUnit | None]
) -> Iterator[str]:
    for measure, size in zip(measures, sizes, strict=True):
        value = measure.of(row)
        yield size.exact(value) if size else f"{value:,.1f}" if value % 1 else f"{value:,.0f}"

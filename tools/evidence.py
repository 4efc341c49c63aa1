"""Draw docs/accuracy.md from the evidence: predicted against measured, and how often we hold.

    python -m tools.evidence            writes the two pictures and the tables between the marks
    python -m tools.evidence --check    says what is out of date, and exits with 1

The numbers are those of `weighbridge accuracy`, with the programs whose peaks are kept in
tests/traced.jsonl. It takes a minute or two: every figure is predicted, and then once more with
margins that were fitted without its source. How intervals hold forward in time stands in
forward.json (tools/fit_intervals.py); its sentences in both README.md and in docs/limits.md are
written here, too.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from weighbridge.answers.bounds import fitted
from weighbridge.answers.bounds.accuracy import FORWARD, NOW, holding
from weighbridge.answers.bounds.accuracy import coverage as held_rows
from weighbridge.answers.bounds.novelty import AXES
from weighbridge.base.units import GIB, MIB
from weighbridge.faces.charts.canvas import Canvas, block, folded, number, whole
from weighbridge.faces.charts.figure import Axis, Tick
from weighbridge.faces.charts.plots import MARGIN, SMALL, WIDE, Box
from weighbridge_lab.evidence import traced
from weighbridge_lab.evidence.accuracy import percentile
from weighbridge_lab.evidence.margins import left_out
from weighbridge_lab.evidence.predict import outcomes
from weighbridge_lab.evidence.records import Prediction, records, sources

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
SCATTER, COVERAGE = "accuracy-scatter.svg", "accuracy-coverage.svg"
START, END = "<!-- evidence: written by tools/evidence.py -->", "<!-- evidence: end -->"
COMMANDS = {"load": 5, "infer": 1, "train": 0, "trace": 4}  # the style of each
BASES = ("measured", "assumed", "computed")  # filled, hollow, filled
DOT = "m-2.4 0a2.4 2.4 0 1 0 4.8 0a2.4 2.4 0 1 0-4.8 0Z"
ODDS = 2.0  # the ratios that are drawn go from one half to this
Place = Callable[[Prediction], tuple[float, float]]  # where a figure stands in a plot


class Group(NamedTuple):
    """Figures of one command and basis, or of one source."""

    name: str
    found: tuple[Prediction, ...]

    @property
    def inside(self) -> float:
        return sum(p.inside for p in self.found) / len(self.found)

    @property
    def above(self) -> float:
        return sum(p.above for p in self.found) / len(self.found)

    def error(self, percent: int) -> float:
        return percentile(sorted(abs(p.error) for p in self.found), percent)

    @property
    def width(self) -> float:
        return percentile(sorted(p.width for p in self.found), 50)


class Evidence(NamedTuple):
    """All predictions, and those by margins that were fitted without their source."""

    found: tuple[Prediction, ...]
    apart: tuple[Prediction, ...]


def evidence() -> Evidence:
    peaks = traced.complete(traced.read(str(ROOT / "tests" / "traced.jsonl")), records())
    found = outcomes(records(), peaks)
    apart = left_out(lambda table: outcomes(records(), peaks, table=table), sources())
    return Evidence(*(tuple(o for o in os if isinstance(o, Prediction)) for os in (found, apart)))


def basis(p: Prediction) -> str:
    """How the width of its interval is known: of runs of its kind, of their nearest kin, or by the
    rules alone."""
    return "computed" if p.kind is None else str(fitted().of(p.kind).basis)


def by_command(found: Iterable[Prediction]) -> list[Group]:
    def key(p: Prediction) -> tuple[int, int]:
        return list(COMMANDS).index(p.record.task), BASES.index(basis(p))

    ordered = sorted(found, key=key)
    return [
        Group(f"{list(COMMANDS)[c]}, {BASES[b]}", tuple(group))
        for (c, b), group in groupby(ordered, key=key)
    ]


def by_source(found: Iterable[Prediction]) -> list[Group]:
    def source(p: Prediction) -> str:
        return p.record.source

    ordered = sorted(found, key=source)
    groups = [Group(name, tuple(group)) for name, group in groupby(ordered, key=source)]
    return sorted(groups, key=lambda g: -len(g.found))  # that with the most figures first


def drawn(found: Iterable[Prediction]) -> list[Prediction]:
    """Return the predictions that an axis of ratios can show: more than 0 bytes."""
    return [p for p in found if p.record.unit == "bytes" and p.record.measured > 0 < p.bytes.low]


# ---- pictures


def sizes(label: str, found: Sequence[Prediction]) -> Axis:
    """A logarithmic axis of memory in steps of eight times."""
    told = [v for p in found for v in (p.record.measured, p.bytes.expected)]
    low, high = min(told) / 1.2, max(told) * 1.2
    ticks = tuple(Tick(8**n, _size(8**n)) for n in range(18) if low <= 8**n <= high)
    return Axis(label, low, high, ticks, log=True)


def _size(nbytes: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if nbytes >= unit:
            return f"{nbytes // unit:,} {name}"
    return f"{nbytes} B"


def scatter(found: Sequence[Prediction]) -> str:
    """Predicted against measured, and below it the ratio of the two with our interval."""
    canvas, told = Canvas(WIDE), drawn(found)
    y = _heading(canvas, "Predicted against measured", _scatter_note(found, told))
    y = _key(canvas, told, y)
    x = sizes("measured", told)
    upper = Box(canvas, x, sizes("predicted", told), y + 26, 360)
    upper.head(y + 16)
    upper.grid()
    ends = [upper.at(v, v) for v in (x.low, x.high)]
    canvas.line(ends, "leader", ' stroke-dasharray="4 4"')
    _dots(upper, told, lambda p: (p.record.measured, p.bytes.expected))
    y = upper.foot() + 18
    ratios = tuple(Tick(v, f"{v:g}") for v in (0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2))
    label = "predicted / measured, with our interval"
    lower = Box(canvas, x, Axis(label, 1 / ODDS, ODDS, ratios, log=True), y + 26, 300)
    lower.left = upper.left
    lower.head(y + 16)
    lower.grid()
    _intervals(lower, told)
    _dots(lower, told, lambda p: (p.record.measured, p.bytes.expected / p.record.measured))
    end = lower.foot()
    return whole(canvas, end + MARGIN / 2, "Predicted against measured", _summed(found), "en")


def _scatter_note(found: Sequence[Prediction], told: Sequence[Prediction]) -> str:
    beyond = sum(not 1 / ODDS <= p.bytes.expected / p.record.measured <= ODDS for p in told)
    return (
        f"{len(told):,} of {len(found):,} published figures: those in bytes. Below, the thin line "
        f"goes from our low to our high end; {beyond} beyond half and twice stand at the edge."
    )


def _summed(found: Sequence[Prediction]) -> str:
    return "\n".join(
        f"{g.name}: {len(g.found)} figures, {g.inside:.1%} inside our interval, {g.above:.1%} above"
        for g in by_command(found)
    )


def _heading(canvas: Canvas, title: str, note: str) -> float:
    canvas.text(MARGIN, MARGIN + 17, title, size=17, bold=True)
    y = MARGIN + 17 + 22
    for line in folded(note, 12.5, WIDE - 2 * MARGIN):
        canvas.text(MARGIN, y, line, size=12.5, paint="faint")
        y += 19
    return y


def _key(canvas: Canvas, told: Sequence[Prediction], y: float) -> float:
    x = MARGIN
    for group in by_command(told):
        _path(canvas, group.found[0], f"M{number(x + 5)} {number(y + 6)}{DOT}")
        canvas.text(x + 14, y + 10, group.name, size=12)
        x += 22 + 7.2 * len(group.name)
    return y + 20


def _path(canvas: Canvas, like: Prediction, d: str) -> None:
    style = COMMANDS[like.record.task]
    if basis(like) == "assumed":
        canvas.path(d, f"l{style}", ' fill="none" stroke-width="1.1"')
    else:
        canvas.path(d, f"s{style}", ' fill-opacity="0.75"')


def _dots(box: Box, told: Sequence[Prediction], at: Place) -> None:
    """One path for each command and basis; what falls on the same half pixel is drawn once."""
    for group in by_command(told):
        spots = sorted({tuple(round(2 * v) / 2 for v in box.at(*at(p))) for p in group.found})
        d = "".join(f"M{number(x)} {number(y)}{DOT}" for x, y in spots)
        _path(box.canvas, group.found[0], d)


def _intervals(box: Box, told: Sequence[Prediction]) -> None:
    for group in by_command(told):
        ends = sorted({_ends(box, p) for p in group.found})
        d = "".join(f"M{number(x)} {number(low)}V{number(high)}" for x, low, high in ends)
        style = COMMANDS[group.found[0].record.task]
        box.canvas.path(d, f"l{style}", ' fill="none" stroke-opacity="0.35"')


def _ends(box: Box, p: Prediction) -> tuple[float, ...]:
    x, low = box.at(p.record.measured, p.bytes.low / p.record.measured)
    high = box.at(p.record.measured, p.bytes.high / p.record.measured)[1]
    return tuple(round(2 * v) / 2 for v in (x, low, high))


def coverage(apart: Sequence[Prediction]) -> str:
    """A bar for each source: the share inside, and above."""
    canvas, groups, every = Canvas(WIDE), by_source(apart), Group("all", tuple(apart))
    note = (
        "Each source by margins that were fitted without it. Full bar: inside our interval; red: "
        f"more than a hundredth above it. Dashed: {every.inside:.1%}, of all figures together."
    )
    y = _heading(canvas, "How often our interval holds, by source", note) + 6
    left, right = 250.0, WIDE - 190
    top = y
    for group in groups:
        canvas.text(left - 10, y + 11, group.name, size=SMALL, anchor="end")
        canvas.rect(left, y, (right - left, 14), "shade")
        canvas.filled(block(left, y, (right - left) * group.inside, 14), 0)
        wide = (right - left) * group.above
        canvas.rect(right - wide, y, (wide, 14), "warn")
        told = f"{group.inside:.0%} in, {group.above:.0%} above, of {len(group.found)}"
        canvas.text(right + 10, y + 11, told, size=SMALL, paint="faint")
        y += 22
    x = left + (right - left) * every.inside
    canvas.line([(x, top - 4), (x, y - 4)], "rule", ' stroke-width="1.4" stroke-dasharray="5 4"')
    words = "\n".join(
        f"{g.name}: {len(g.found)} figures, {g.inside:.1%} inside, {g.above:.1%} above"
        for g in groups
    )
    return whole(canvas, y + MARGIN / 2, "How often our interval holds, by source", words, "en")


# ---- words and tables


def section(told: Evidence) -> str:
    """What stands between the marks of the page."""
    return "\n".join((START, *_answer(told), *_commands(told), *_sources(told), END))


def _answer(told: Evidence) -> Iterator[str]:
    apart, said = Group("", told.apart), sentences("en", told)
    yield f"\n**{said['held']}**"
    yield (
        "With margins that were fitted without the figure's own source it is "
        f"{apart.inside:.1%}, and {apart.above:.1%} above."
    )
    yield f"{said['off']}.\n"
    yield from _axes()
    yield f"![Every figure as a dot: predicted against measured]({SCATTER})\n"


SENTENCES = {
    "en": {
        "held": "By the rules of today {inside:.1%} of {n:,} figures lie inside intervals that "
        "were fitted to what was published before them, and {above:.1%} more than a hundredth "
        "above; of all {all:,} by the intervals of today it is {today:.1%} and {over:.1%}.",
        "off": "Half of our predictions are off by less than {half:.1%}, and one in twenty by more "
        "than {worst:.1%}",
        "training": "half of the predictions of kinds that were measured are off by {near:.2%} or "
        "more, and of those of other kinds by {far:.2%} or more",
    },
    "zh": {
        "held": "按今天的规则,区间只用更早公开的数据拟合:"
        "{n:,} 个实测值中,有 {inside:.1%} 落在区间内;"
        "高出上限百分之一以上的有 {above:.1%};"
        "用今天的区间看全部 {all:,} 个,分别是 {today:.1%} 和 {over:.1%}。",
        "off": "一半的预测误差小于 {half:.1%},二十个里有一个超过 {worst:.1%}",
        "training": "测过的种类有一半误差不小于 {near:.2%},没有测过的少数种类不小于 {far:.2%}",
    },
}


def sentences(lang: str, told: Evidence) -> dict[str, str]:
    """Say how intervals hold, forward in time first, and how far predictions are off."""
    later, now, every = holding(FORWARD), holding(NOW), Group("", told.found)
    groups = {group.name: group for group in by_command(told.found)}
    values = {
        "n": later["n"],
        "inside": later["inside"],
        "above": later["above"],
        "all": now["n"],
        "today": now["inside"],
        "over": now["above"],
        "half": every.error(50),
        "worst": every.error(95),
        "near": groups["train, measured"].error(50),
        "far": groups["train, assumed"].error(50),
    }
    return {name: text.format(**values) for name, text in SENTENCES[lang].items()}


NEW_ON = {"": "new on none", **{axis: f"new: {axis}" for axis in AXES}}


def _axes() -> Iterator[str]:
    yield "*Forward in time* is what holds for you: at the beginning of each month since 2025"
    yield "margins are fitted to what was published before, and held against the figures of that"
    yield "month. A figure is new on an axis where few runs with its platform, mode, model type or"
    yield "the like were published before it; one that is new on several stands in each row.\n"
    columns = ("figures", "inside", "above", "width")
    yield _row("group", *columns, *(f"{name}, in sample" for name in columns))
    yield _rule(9)
    yield _both("all", None, None)
    for task in ("serve", "train"):
        yield _both({"serve": "serving", "train": "training"}[task], task, None)
    for axis, name in NEW_ON.items():
        yield _both(name, None, axis)
    yield ""


def _both(name: str, task: str | None, axis: str | None) -> str:
    cells: list[str] = []
    for way in (FORWARD, NOW):
        found = [r for r in held_rows() if (r["way"], r["task"], r["axis"]) == (way, task, axis)]
        cells += _held_cells(found[0]) if found else ("0", "", "", "")
    return _row(name, *cells)


def _held_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"{row['n']:,}", *(f"{row[key]:.1%}" for key in ("inside", "above", "width")))


def _commands(told: Evidence) -> Iterator[str]:
    yield "*Basis* says how we know the width of an interval: it was `measured` on runs of its"
    yield "kind, it is `assumed` from runs of the nearest kind, or it is `computed` by the rules"
    yield "alone. `weighbridge accuracy --records` lists every figure.\n"
    yield _row("command, basis", "figures", "inside", "above", "error, p50", "error, p95", "width")
    yield _rule(7)
    for g in (*by_command(told.found), Group("all", told.found)):
        shares = (f"{g.inside:.1%}", f"{g.above:.1%}", f"{g.error(50):.2%}", f"{g.error(95):.1%}")
        yield _row(g.name, f"{len(g.found):,}", *shares, f"{g.width:.1%}")


def _sources(told: Evidence) -> Iterator[str]:
    yield f"\n![A bar for each source: the share of its figures inside our interval]({COVERAGE})\n"
    yield "The bars are the last two columns: they treat a source as one that we have never seen.\n"
    yield _row("source", "figures", "inside", "above", "inside, without it", "above, without it")
    yield _rule(6)
    apart = {g.name: g for g in by_source(told.apart)}
    for g in by_source(told.found):
        shares = (f"{v:.1%}" for h in (g, apart[g.name]) for v in (h.inside, h.above))
        yield _row(g.name, str(len(g.found)), *shares)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return _row("---", *["---:"] * (columns - 1))


def renewed(page: str, told: Evidence) -> str:
    return re.sub(f"{START}.*{END}", lambda _: section(told), page, flags=re.S)


TOLD = {  # pages with sentences that are written here, and their languages
    ROOT / "README.md": "en",
    ROOT / "README.zh.md": "zh",
    ROOT / "docs" / "limits.md": "en",
    ROOT / "docs" / "zh" / "limits.md": "zh",
}
MARKS = "<!-- {name}: written by tools/evidence.py -->", "<!-- {name}: end -->"


def with_sentences(page: Path, told: Evidence) -> str:
    """Return a page with its sentences about the evidence, between their marks, as of today."""
    lang, text = TOLD[page], page.read_text(encoding="utf-8")
    for name, said in sentences(lang, told).items():
        start, end = (mark.format(name=name) for mark in MARKS)
        text = re.sub(f"{start}.*?{end}", lambda _, s=f"{start}{said}{end}": s, text, flags=re.S)
    return text


def files(told: Evidence) -> dict[Path, str]:
    """What this tool writes, by path."""
    return {
        **{page: with_sentences(page, told) for page in TOLD},
        PAGE: renewed(PAGE.read_text(encoding="utf-8"), told),
        PAGE.parent / SCATTER: scatter(told.found),
        PAGE.parent / COVERAGE: coverage(told.apart),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for path, text in files(evidence()).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"evidence: {'out of date' if check else 'wrote'}: {', '.join(stale)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

"""Many models on one screen: a row each, a column for each question."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from weighbridge.report.scanned import ScanLine, ScanSummary
from weighbridge.units import GIB, human_count
from weighbridge.view.records import Block, Cell, Column, Grid, Mark, Note, Screen
from weighbridge.view.shown import SizeFormat
from weighbridge.wording import clipped, printable
from weighbridge.words import Words, words_in

MARKS: Mapping[str | None, Mark] = {"yes": "yes", "no": "no", "unknown": "unknown"}
GIBIBYTES = SizeFormat("GiB")
LONGEST = 48  # characters of a model's name
MAKERS = ("nvidia-geforce-", "nvidia-", "amd-", "apple-", "intel-")  # before the name of a card
FEW = 4  # questions whose columns any terminal has
REASONS = 3  # why models have no answer, the most frequent first


def scan(summary: ScanSummary, lang: str = "en") -> Screen:
    """With one card a cell has what is needed there; with several the smallest that fits."""
    words, one = words_in(lang), len(summary.cards) < 2
    counts = {name: f"{count:,}" for name, count in summary.counts.items()}
    source = clipped(printable(summary.source))
    title = words("scan.title", source=source, **counts)
    if one and summary.cards:
        title = words("scan.title.card", source=source, card=_card(summary.cards[0]), **counts)
    return Screen(
        title=title,
        sections=((_grid(summary, words, one=one),), tuple(_notes(summary, words))),
        footer=(words("scan.need" if one else "scan.smallest"),),
        lang=lang,
    )


def plain(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Screen:
    """Rows of a query, as they came."""
    numbers = [
        all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(names))
    ]
    columns = tuple(
        Column(printable(name), right=right) for name, right in zip(names, numbers, strict=True)
    )
    cells = tuple(tuple(Cell(_told(value)) for value in row) for row in rows)
    return Screen(title="", sections=((Grid(columns, cells, wide=True),),))


def _told(value: object) -> str:
    return "" if value is None else printable(str(value))


def _grid(summary: ScanSummary, words: Words, *, one: bool) -> Grid:
    heads = (Column(printable(name), right=one, rank=n) for n, name in enumerate(summary.questions))
    columns = (
        Column(words("scan.model"), folds=True),
        Column(words("scan.parameters"), right=True),
    )
    answered = [line for line in summary.lines if line.reason is None]
    rows = tuple(tuple(_row(line, summary.questions, words, one=one)) for line in answered)
    return Grid((*columns, *heads), rows)


def _row(line: ScanLine, questions: tuple[str, ...], words: Words, *, one: bool) -> Iterator[Cell]:
    yield Cell(clipped(printable(line.id), LONGEST))
    yield Cell("" if line.parameters is None else human_count(line.parameters))
    for name in questions:
        best = line.best(name)
        if best is None:
            yield Cell("-")
        elif one:
            yield Cell(_size(best.need.expected), MARKS.get(best.fits))
        else:
            told = words("scan.none") if best.fits == "no" else _card(best.gpu or "")
            yield Cell(told, MARKS.get(best.fits))


def _size(nbytes: int) -> str:
    """Return GiB, without a decimal where there are a hundred of them."""
    return GIBIBYTES._replace(decimals=0 if nbytes >= 100 * GIB else 1).bare(nbytes)


def _card(gpu: str) -> str:
    """Return the id of a card without its maker: a column is narrow."""
    return next((gpu.removeprefix(maker) for maker in MAKERS if gpu.startswith(maker)), gpu)


def _notes(summary: ScanSummary, words: Words) -> Iterator[Block]:
    if len(summary.questions) > FEW:
        yield Note(words("scan.asked", questions=", ".join(map(printable, summary.questions))))
    refused = Counter(line.reason for line in summary.lines if line.reason is not None)
    if refused:
        first = (f"{printable(str(why))} ({n})" for why, n in refused.most_common(REASONS))
        count = sum(refused.values())
        key = "scan.refused.one" if count == 1 else "scan.refused"
        reasons = "; ".join(first)
        yield Note(words(key, count=f"{count:,}", reasons=reasons))
        if "#" in reasons:
            yield Note(words("scan.refused.names"))
    shown, models = len(summary.lines), summary.counts["models"]
    if shown < models:
        yield Note(words("scan.more", shown=f"{shown:,}", models=f"{models:,}"))

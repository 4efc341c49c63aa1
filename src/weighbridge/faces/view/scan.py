"""The screen of many models: a row per model, a column per question."""

from collections.abc import Iterator, Mapping, Sequence
from shlex import quote

from weighbridge.base.units import GIB, human_count
from weighbridge.base.wording import clipped, printable
from weighbridge.base.words import Words, words_in
from weighbridge.faces.view.records import Block, Cell, Column, Grid, Mark, Note, Paste, Screen
from weighbridge.faces.view.shown import SizeFormat
from weighbridge.memory.report.scanned import ScanCell, ScanLine, ScanSummary, Unweighed

MARKS: Mapping[str | None, Mark] = {"yes": "yes", "no": "no", "unknown": "unknown"}
GIBIBYTES = SizeFormat("GiB")
LONGEST = 48  # most characters of a model's name
MAKERS = ("nvidia-geforce-", "nvidia-", "amd-", "apple-", "intel-")  # prefixes of card ids
FEW = 4  # number of questions that fit as columns on any terminal
ALL = 'weighbridge scan query {place} "select id, why from unweighed"'


def scan(summary: ScanSummary, lang: str = "en") -> Screen:
    """Return the screen of a scan; cells show the bytes needed on the card, or with several cards
    the smallest that fits."""
    words, one = words_in(lang), len(summary.cards) < 2
    models = words.some("scan.models.one", "scan.models", summary.counts["models"])
    source = clipped(printable(summary.source))
    title = words("scan.title", source=source, models=models, keys=f"{summary.counts['keys']:,}")
    if one and summary.cards:
        card = _card(summary.cards[0])
        title = words("scan.title.card", source=source, models=models, card=card)
    return Screen(
        title=title,
        sections=((_grid(summary, words, one=one),), tuple(_notes(summary, words))),
        footer=(words("scan.need" if one else "scan.smallest"),),
        lang=lang,
    )


def plain(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Screen:
    """Return the rows of a query as a table without a title, unchanged."""
    numbers = [
        all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(names))
    ]
    columns = tuple(
        Column(printable(name), right=right) for name, right in zip(names, numbers, strict=True)
    )
    cells = tuple(
        tuple(Cell("" if value is None else printable(str(value))) for value in row) for row in rows
    )
    return Screen(title="", sections=((Grid(columns, cells, wide=True),),))


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
            label = words("scan.none") if best.fits == "no" else _card(best.gpu or "")
            yield Cell(label, MARKS.get(best.fits))


def _size(nbytes: int) -> str:
    """Return `nbytes` in GiB as text without the unit, with one decimal below 100 GiB."""
    return GIBIBYTES._replace(decimals=0 if nbytes >= 100 * GIB else 1).bare(nbytes)


def _card(gpu: str) -> str:
    """Return the id of a card without its maker, to save width."""
    return next((gpu.removeprefix(maker) for maker in MAKERS if gpu.startswith(maker)), gpu)


def _notes(summary: ScanSummary, words: Words) -> Iterator[Block]:
    if len(summary.questions) > FEW:
        yield Note(words("scan.asked", questions=", ".join(map(printable, summary.questions))))
    if any(map(_is_open_despite_room, _best_cells(summary))):
        yield Note(words("scan.elsewhere"))
    yield from unweighed(summary.unweighed, summary.place, words)
    shown, models = len(summary.lines), summary.counts["models"]
    if shown < models:
        yield Note(words("scan.more", shown=f"{shown:,}", models=f"{models:,}"))


def _best_cells(summary: ScanSummary) -> Iterator[ScanCell]:
    for line in summary.lines:
        yield from (best for name in summary.questions if (best := line.best(name)))


def _is_open_despite_room(cell: ScanCell) -> bool:
    """Return whether a verdict is unknown although the card has room for all that is counted."""
    return cell.fits == "unknown" and cell.usable is not None and cell.need.high <= cell.usable


def unweighed(left_out: Unweighed, place: str | None, words: Words) -> Iterator[Note | Paste]:
    """Yield notes on models without any answer: their number, the first ones by name, and the
    command that lists all."""
    if not left_out.models:
        return
    yield Note(words.some("scan.unweighed.one", "scan.unweighed", left_out.models))
    for name, why in left_out.first:
        yield Note(f"{clipped(printable(name), LONGEST)}: {printable(why)}")
    more = left_out.models - len(left_out.first)
    if more:
        key = "scan.unweighed.kept" if place is None else "scan.unweighed.more"
        heading = words(key, count=f"{more:,}")
        yield Paste(heading, ALL.format(place=quote(place or "DIR")), "sh")

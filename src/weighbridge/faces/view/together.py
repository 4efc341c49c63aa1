"""The screen of several models that share the same cards at the same time."""

from collections.abc import Iterator

from weighbridge.base.wording import printable, redacted
from weighbridge.base.words import Words, words_in
from weighbridge.engines.table import title
from weighbridge.faces.view.answer import mark
from weighbridge.faces.view.changes import language
from weighbridge.faces.view.records import Cell, Column, Grid, Lines, Paste, Screen, Section
from weighbridge.faces.view.shown import card, left, sizes
from weighbridge.memory.report.together import Service, Services


def screen(services: Services, *, lang: str = "en", unit: str | None = None) -> Screen:
    """Return the screen: whether all models fit together, the bytes each holds and leaves, and the
    lines that start them."""
    words = words_in(lang)
    first = Lines((_answer_cell(services, words, unit),))
    table = _table(services, words, unit)
    pastes: tuple[Section, ...] = tuple((paste,) for paste in _pastes(services, words))
    return Screen(
        title=words(
            "together.title",
            count=len(services.services),
            card=card(services.services[0].report),
            has=sizes(services.usable.low, unit).of(services.usable.low),
        ),
        sections=((first,), (table,), *pastes),
        warnings=tuple(redacted(words.told(line)) for line in services.warnings),
        lang=lang,
        brief=(first, table),
    )


def _answer_cell(services: Services, words: Words, unit: str | None) -> Cell:
    has = services.usable.low
    size = sizes(has, unit)
    line = words(
        f"together.{services.fits}",
        needs=size.bare(services.holds.expected),
        has=size.of(has),
        margin=left(words, has, services.margin_bytes, unit),
    )
    return Cell(line, services.fits)


def _table(services: Services, words: Words, unit: str | None) -> Grid:
    shares = any(s.share is not None for s in services.services)
    size = sizes(services.usable.low, unit)
    columns = (
        Column(words("together.head.model")),
        Column(words("ladder.head.engine"), rank=1),
        Column(words("head.format"), rank=2),
        Column(words("together.head.holds")),
        *([Column(words("together.head.share"), right=True)] if shares else []),
        Column(words("together.head.left"), right=True),
    )
    rows = tuple(
        (
            Cell(printable(s.report.model.name)),
            Cell(title(s.report.workload["engine"])),
            Cell(printable(_format_of(s))),
            Cell(size.of(s.holds.expected), mark(s.verdict)),
            *([Cell("" if s.share is None else f"{s.share:.2f}")] if shares else []),
            Cell(size.of(left)),
        )
        for s, left in zip(services.services, services.left, strict=True)
    )
    return Grid(columns, rows)


def _format_of(service: Service) -> str:
    w = service.report.workload
    return str(w["quantization"] or w["dtype"])


def _pastes(services: Services, words: Words) -> Iterator[Paste]:
    """Yield the line that starts each service, if it has one and the models do not surely fail to
    fit."""
    for service, line in zip(services.services, services.launches, strict=True):
        if line and services.fits != "no":
            text = "\n".join(map(printable, line.splitlines()))
            name = printable(service.report.model.name)
            yield Paste(words("together.run", model=name), text, language(line))

"""The screen of `fit`: a row a question, and beside it the cheapest change that fits."""

from collections.abc import Iterator, Mapping
from itertools import islice

from weighbridge.fitted import Fit, Question, Solved
from weighbridge.judged import Remedy
from weighbridge.units import KIB, human_count
from weighbridge.view.answer import mark
from weighbridge.view.messages import Say, say
from weighbridge.view.records import (
    Cell,
    Column,
    Grid,
    Lines,
    Note,
    Paste,
    Screen,
    Section,
    lines,
)
from weighbridge.view.shown import card
from weighbridge.view.sizes import apart, sizes
from weighbridge.wording import printable, redacted

CODES: Mapping[str, str] = {
    "yes": "fit.code.yes",
    "no": "fit.code.no",
    "unknown": "fit.code.unknown",
}


def screen(
    found: Fit, *, lang: str = "en", unit: str | None = None, details: bool = False
) -> Screen:
    """The screen of one model on one kind of accelerator. `details`: what every change costs, and
    not only those of the question that the exit code is about."""
    words = say(lang)
    table = _table(found, words, unit)
    asides = tuple(
        b for b in (_reasons(found, words), _costs(found, words, every=details)) if b.lines
    )
    codes = lines(_code(found, words), _next(found, words))
    sections: list[Section] = [(table,), (codes,), *([asides] if asides else [])]
    if found.solved is not None:
        sections.insert(0, (Lines(tuple(_solved(found.solved, words))),))
    paste = tuple(_paste(found, words))
    if paste:
        sections.append(paste)
    return Screen(
        title=_title(found, words, unit),
        sections=tuple(sections),
        footer=(words("fit.assumes", what=" · ".join(_assumed(found))),),
        warnings=tuple(printable(redacted(line)) for line in found.warnings),
        lang=lang,
        brief=(*sections[0], Note(_code(found, words))),
    )


def _title(found: Fit, words: Say, unit: str | None) -> str:
    a = found.accelerator
    report = next(q.report for q in found.questions if q.report is not None)
    return words(
        "fit.title.one" if a.count == 1 else "fit.title.many",
        model=printable(found.model.name),
        count=human_count(found.model.parameters),
        card=card(report),
        has=sizes(a.free, unit).of(a.free),
    )


def _table(found: Fit, words: Say, unit: str | None) -> Grid:
    columns = (
        Column(),
        Column(words("fit.head.asked")),
        Column(words("fit.head.margin"), right=True, rank=1),
        Column(),
        Column(words("fit.head.then"), folds=True),
    )
    rows = [row for q in found.questions for row in _rows(q, words, unit, also=q is found.asked)]
    return Grid(columns, tuple(rows))


def _rows(q: Question, words: Say, unit: str | None, *, also: bool) -> Iterator[tuple[Cell, ...]]:
    label = Cell(name(q, words))
    if q.report is None or q.verdict is None:
        yield label, Cell("", "unknown"), Cell(""), Cell(""), Cell(words("fit.below"))
        return
    v = q.verdict
    needs = sizes(v.per_device.expected, unit)
    spare = apart(sizes(abs(v.margin_bytes), unit), v.margin_bytes)
    sign = "-" if v.margin_bytes < 0 else "+"
    asked = Cell(needs.of(v.per_device.expected), mark(v))
    then = [*_then(q, words, unit)]
    yield label, asked, Cell(sign + spare.of(abs(v.margin_bytes))), *then[0]
    for other in then[1 : 1 + also]:
        yield Cell(""), Cell(""), Cell(""), *other


def _then(q: Question, words: Say, unit: str | None) -> Iterator[tuple[Cell, Cell]]:
    """What would make it fit, the cheapest first, and one of another kind; how far it goes where
    it fits as asked."""
    if q.fits == "yes":
        yield Cell(""), Cell(words("fit.fits", tokens=f"{q.longest:,}") if q.longest else "")
    elif not q.remedies:
        missing = q.report.derived.get("not_counted") if q.report is not None else None
        told = words("reason.not_counted", what=printable("; ".join(missing))) if missing else ""
        yield Cell(""), Cell(told or words("fit.none"))
    for r in _kinds(q):
        needs = r.peak_bytes if r.per_device is None else r.per_device.expected
        size = sizes(needs, unit).of(needs)
        tokens = q.longest if r is q.remedies[0] else None
        fits = f" ({words('fit.context', tokens=f'{tokens:,}')})" if tokens else ""
        yield Cell(size, r.fits), Cell(printable(flags(r)) + fits)


def _kinds(q: Question) -> Iterator[Remedy]:
    """The first remedy, and the first of another kind."""
    if q.fits == "yes" or not q.remedies:
        return
    yield q.remedies[0]
    other = (r for r in q.remedies if r.kind != q.remedies[0].kind)
    yield from islice(other, 1)


def flags(r: Remedy) -> str:
    return r.flags or " ".join(f"{key}={value}" for key, value in r.change.items())


def _reasons(found: Fit, words: Say) -> Lines:
    """Why questions have no answer, each reason once."""
    told: dict[str, list[str]] = {}
    for q in found.questions:
        if q.report is None:
            told.setdefault(printable(q.reason), []).append(name(q, words))
    return lines(*(f"{', '.join(names)}: {reason}" for reason, names in told.items()))


def _costs(found: Fit, words: Say, *, every: bool) -> Lines:
    """What changes of the table cost, each once."""
    told: dict[str, None] = {}
    for q in found.questions if every else (found.asked,):
        for r in list(_kinds(q))[: 1 + (q is found.asked)]:
            told.setdefault(printable(f"{flags(r)}: {r.cost}"), None)
    return lines(*told, heading=words("fit.costs") if told else "")


def name(q: Question, words: Say) -> str:
    """The question in a word, with its length."""
    return words(f"fit.{q.name}", tokens=length(q.tokens)).strip()


def length(tokens: int | None) -> str:
    """4096 -> 4K, as it is typed."""
    if tokens is None:
        return ""
    return f"{tokens // KIB}K" if tokens % KIB == 0 else f"{tokens:,}"


def _solved(s: Solved, words: Say) -> Iterator[Cell]:
    if s.value is None:
        yield Cell(words("fit.solved.unknown", unknown=s.unknown), "unknown")
    elif not s.value:
        yield Cell(words("fit.solved.none", unknown=s.unknown), "no")
    else:
        value = f"{s.value:,}" if isinstance(s.value, int) else s.value
        key = "fit.solved.end" if s.value == s.searched_to else "fit.solved"
        yield Cell(words(key, unknown=s.unknown, value=value), "yes")
    if s.note:
        yield Cell(printable(s.note), None, "dim")


def _paste(found: Fit, words: Say) -> Iterator[Paste]:
    """What runs the question that the exit code is about, after its cheapest change."""
    first = next(iter(found.asked.remedies), None)
    text = None if first is None else first.paste
    if found.fits == "yes" and found.asked.report is not None:
        text = found.asked.report.derived.get("launch")
    if text:
        language = "python" if "import " in text or "(" in text.split(" ")[0] else "sh"
        yield Paste(words("paste.run"), printable(text), language)  # type: ignore[arg-type]


def _code(found: Fit, words: Say) -> str:
    """What the exit code says."""
    others = "|".join(q.name for q in found.questions)
    told = words(CODES[found.fits], question=name(found.asked, words))
    return told + words("fit.code.other", others=others)


def _next(found: Fit, words: Say) -> str:
    wanted = ["--max context", "--smallest gpu"]
    given = {found.solved.unknown} if found.solved is not None else set()
    tried = [text for text in wanted if text.split(" ")[1] not in given]
    return words("fit.try", what=" · ".join([*tried, "--details", "--json"]))


def _assumed(found: Fit) -> Iterator[str]:
    """Engines and versions, and where the model was read."""
    seen: dict[str, None] = {}
    for q in found.questions:
        if q.report is not None:
            w = q.report.workload
            if q.task == "infer":
                seen[f"{w['engine']} {w['engine_version'] or ''}".strip()] = None
            if q.task == "train":
                seen[" ".join(str(w[n]) for n in ("framework", "optimizer", "precision"))] = None
    yield from map(printable, seen)
    yield words_of(found)


def words_of(found: Fit) -> str:
    """Where the model was read."""
    return printable(", ".join(found.model.read_from)).partition(" (")[0]

"""Several answers side by side: a column each, or a row each if there are many."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.wording import printable, redacted, several
from weighbridge.base.words import Words, words_in
from weighbridge.faces.view import ladder
from weighbridge.faces.view.answer import mark
from weighbridge.faces.view.fit import flags, length, name
from weighbridge.faces.view.parts import NAMES, OTHER, parts
from weighbridge.faces.view.records import Cell, Column, Grid, Lines, Screen
from weighbridge.faces.view.shown import ShownAnswer, SizeFormat, apart, shown, sizes
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import PICTURES, Fit, Question
from weighbridge.workload.flags import flags as written

COLUMNS = 4  # most answers shown as columns; more are rows
PARTS = 4  # most rows for parts of the memory
# Settings whose values a reader understands without the name
SPEAKING = ("gpu", "gpu_memory", "quantization", "dtype", "engine", "kv_cache_dtype", "optimizer")


def screen(
    answers: Sequence[Report | Fit],
    labels: Sequence[str],
    *,
    lang: str = "en",
    unit: str | None = None,
    page: bool = False,
) -> Screen:
    """Return the screen of several answers of one command. On a `page`, answers about several
    models and cards are also a table of models by cards."""
    fitted = [answer for answer in answers if isinstance(answer, Fit)]
    if fitted:
        return fits(fitted, labels, lang=lang, unit=unit, page=page)
    reported = [answer for answer in answers if isinstance(answer, Report)]
    return reports(reported, labels, lang=lang, unit=unit)


def reports(
    answers: Sequence[Report], labels: Sequence[str], *, lang: str = "en", unit: str | None = None
) -> Screen:
    """Return one screen of several reports: a column per report, rows for the bytes they need and
    have."""
    words = words_in(lang)
    screens = [shown(report, words, unit) for report in answers]
    size = sizes(max(s.peak.expected for s in screens), unit)
    rows = [
        *_size_rows(screens, words, size),
        *_part_rows(screens, size),
        *_context_rows(screens, words),
    ]
    return Screen(
        title=_title(answers, words),
        sections=((_grid(labels, rows),),),
        warnings=tuple(dict.fromkeys(_safe_text(line) for r in answers for line in r.warnings)),
        lang=lang,
    )


def fits(
    answers: Sequence[Fit],
    labels: Sequence[str],
    *,
    lang: str = "en",
    unit: str | None = None,
    page: bool = False,
) -> Screen:
    """Return one screen of several answers of `fit`: a column per answer and a row per question;
    for pipelines, what each plan needs."""
    words = words_in(lang)
    rows = [(words("beside.room"), [Cell(_usable_memory(f, unit)) for f in answers])]
    chosen = all(f.pictures or f.plan.why != "asked" for f in answers)
    if chosen:
        does = "beside.train" if answers[0].about == "train_image" else "beside.run"
        rows.append((words(does), [ladder.brief(f, words) for f in answers]))
        rows.append((words("beside.needs"), [_plan_cell(f, unit) for f in answers]))
    for asked in dict.fromkeys(q.name for f in answers for q in f.questions):
        if chosen and asked in ("load", "infer", *PICTURES):
            continue
        found = [next((q for q in f.questions if q.name == asked), None) for f in answers]
        longest = max((name(q, words) for q in found if q is not None), key=len)
        rows.append((longest, [_question_cell(q, unit) for q in found]))
    if any(f.solved is not None for f in answers):
        rows.append((_solved_name(answers, words), [_solved_cell(f) for f in answers]))
    changes = tuple(
        Cell(f"{label}: {printable(settings)}")
        for label, f in zip(labels, answers, strict=True)
        if (settings := _needed_flags(f))
    )
    asked_of = name(answers[0].asked, words)
    heading = words("beside.plans" if chosen else "beside.changes", question=asked_of)
    below = Lines(changes, heading) if changes else None
    crossed = _models_by_cards(answers, words, unit) if page and chosen else ()
    return Screen(
        title=_title_for_models(answers[0].model.name, [f.model.name for f in answers], words),
        sections=(*crossed, (_grid(labels, rows),), *([(below,)] if below else [])),
        warnings=tuple(
            dict.fromkeys(line for f in answers for line in map(_safe_text, f.warnings))
        ),
        lang=lang,
    )


def _models_by_cards(
    answers: Sequence[Fit], words: Words, unit: str | None
) -> tuple[tuple[Grid], ...]:
    """Return a table of models by cards: how each model runs there, and the bytes it needs. ()
    unless there is one answer for every model and card."""
    found = {(printable(f.model.name), _card(f)): f for f in answers}
    models, cards = (dict.fromkeys(names) for names in zip(*found, strict=True))
    if not len(answers) == len(models) * len(cards) == len(found) > max(len(models), len(cards)):
        return ()
    rows = tuple(
        (Cell(m), *(_run_cell(found[m, card], words, unit) for card in cards)) for m in models
    )
    return ((Grid((Column(words("beside.run")), *map(Column, cards)), rows),),)


def _card(fit: Fit) -> str:
    return several(fit.accelerator.count, printable(fit.accelerator.name))


def _run_cell(fit: Fit, words: Words, unit: str | None) -> Cell:
    how, needs = ladder.brief(fit, words), _plan_cell(fit, unit, reach=False)
    return how._replace(text=", ".join(filter(None, (needs.text, how.text))))


def _needed_flags(fit: Fit) -> str:
    """Return the settings that a model needs beyond the user's to fit, as flags; "" without any."""
    if fit.pictures or fit.plan.why != "asked":
        return written(fit.plan.settings, "")
    return next((flags(r) for r in fit.asked.remedies), "")


def _plan_cell(fit: Fit, unit: str | None, *, reach: bool = True) -> Cell:
    """Return a cell with the bytes that the plan needs, and its longest context in tokens if
    `reach`; empty if no format fits."""
    rung = fit.plan.rung
    if rung is None or not fit.plan.here:
        return Cell("")
    far = f", {length(rung.longest)}" if reach and rung.fits == "yes" and rung.longest else ""
    needs = rung.verdict.per_device.expected
    return Cell(sizes(needs, unit).of(needs) + far)


def _solved_name(answers: Sequence[Fit], words: Words) -> str:
    """Return the name of the value that `fit` solved for."""
    solved = next(f.solved for f in answers if f.solved is not None)
    return words(f"sought.{solved.unknown}")


def _solved_cell(fit: Fit) -> Cell:
    """Return a cell with the number or the card that `fit` solved for, else the mark "no" or
    "unknown"; empty if nothing was searched."""
    s = fit.solved
    if s is None:
        return Cell("")
    if s.value:
        named = s.note if s.unknown in ("gpu", "instance") and s.note else None
        value = f"{s.value:,}" if isinstance(s.value, int) else printable(str(s.value))
        return Cell(printable(named) if named else value, "yes")
    return Cell("", "no" if s.value == 0 or fit.fits == "no" else "unknown")


def _title(answers: Sequence[Report], words: Words) -> str:
    names = [r.model.name for r in answers]
    return _title_for_models(names[0], names, words)


def _title_for_models(first: str, names: Sequence[str], words: Words) -> str:
    if len(set(names)) == 1:
        return words("beside.one", model=printable(first), count=len(names))
    return words("beside.many", count=len(set(names)), ways=len(names))


def _grid(labels: Sequence[str], rows: Sequence[tuple[str, list[Cell]]]) -> Grid:
    heads = [printable(label) for label in labels]
    if len(heads) <= COLUMNS:
        columns = (Column(), *(Column(head) for head in heads))
        return Grid(columns, tuple((Cell(text), *cells) for text, cells in rows))
    columns = (Column(), *(Column(text, rank=rank) for rank, (text, _) in enumerate(rows)))
    return Grid(
        columns,
        tuple((Cell(head), *(cells[rank] for _, cells in rows)) for rank, head in enumerate(heads)),
    )


def _size_rows(
    answers: Sequence[ShownAnswer], words: Words, size: SizeFormat
) -> Iterator[tuple[str, list[Cell]]]:
    verdicts = [s.report.verdict for s in answers]
    needs = [
        Cell(size.of(s.peak.expected), mark(v) if v else None)
        for s, v in zip(answers, verdicts, strict=True)
    ]
    yield words("beside.needs"), needs
    if any(verdicts):
        has = [Cell(size.of(v.usable_bytes) if v else "") for v in verdicts]
        yield words("beside.has"), has
        spare = [Cell(_signed(v.margin_bytes, size) if v else "") for v in verdicts]
        yield words("beside.spare"), spare


def _signed(nbytes: int, size: SizeFormat) -> str:
    sign = "-" if nbytes < 0 else "+"
    return sign + apart(size, nbytes).of(abs(nbytes))


def _part_rows(
    answers: Sequence[ShownAnswer], size: SizeFormat
) -> Iterator[tuple[str, list[Cell]]]:
    """Yield a table row per large part of the device's memory, in the order of the first answer
    with it."""
    sums = [{} if s.split else _sums_by_part(s) for s in answers]
    large = (p.key for s in answers if not s.split for p in parts(s.phase))
    keys = [key for key in dict.fromkeys(large) if key != OTHER]
    for key in keys[:PARTS]:
        yield answers[0].say(key), [Cell(size.of(one[key]) if key in one else "") for one in sums]


def _sums_by_part(answer: ShownAnswer) -> dict[str, int]:
    """Return part key -> expected bytes, for all components of the phase that the answer is
    about."""
    sums: dict[str, int] = {}
    for c in answer.phase.components:
        sums[NAMES[c.name]] = sums.get(NAMES[c.name], 0) + c.bytes.expected
    return sums


def _context_rows(answers: Sequence[ShownAnswer], words: Words) -> Iterator[tuple[str, list[Cell]]]:
    """Yield the row of the longest contexts in tokens, if they were searched."""
    far = [s.report.derived.get("largest_context") for s in answers]
    if any(far):
        yield words("beside.context"), [Cell(f"{n:,}" if n else "") for n in far]


def _usable_memory(fit: Fit, unit: str | None) -> str:
    a = fit.accelerator
    room = sizes(a.free, unit).of(a.free)
    return several(a.count, room)


def _question_cell(q: Question | None, unit: str | None) -> Cell:
    """Return a cell with the bytes that a question needs, and its longest context; empty without
    the question."""
    if q is None:
        return Cell("")
    if q.verdict is None:
        return Cell("", "unknown")
    each = sizes(q.verdict.per_device.expected, unit)
    reach = f", {length(q.longest)}" if q.fits == "yes" and q.longest else ""
    return Cell(each.of(q.verdict.per_device.expected) + reach, mark(q.verdict))


def _safe_text(line: str) -> str:
    return printable(redacted(line))


def column_head(model: str | None, chosen: Mapping[str, Any]) -> str:
    """Return the head of a column: `model` if models differ, and each of the settings `chosen`,
    which differ."""
    settings = [
        str(v) if n in SPEAKING else f"{n.replace('_', '-')} {v}" for n, v in chosen.items()
    ]
    return " ".join([*([model] if model else []), *settings])


def column_heads(models: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one head per answer, made of the values in which they differ; equal heads get a
    number."""
    names = dict.fromkeys(name for chosen in settings for name in chosen)
    apart = [n for n in names if len({repr(chosen.get(n)) for chosen in settings}) > 1]
    several = len(set(models)) > 1
    heads = [
        column_head(
            model if several else None, {n: chosen[n] for n in apart if chosen.get(n) is not None}
        )
        for model, chosen in zip(models, settings, strict=True)
    ]
    seen: dict[str, int] = {}
    for head in heads:
        seen[head] = seen.get(head, 0) + 1
    return [
        head if head and seen[head] == 1 else f"{head} ({number})".strip()
        for number, head in enumerate(heads, 1)
    ]

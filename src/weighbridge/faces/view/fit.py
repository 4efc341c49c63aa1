"""The screen of `fit`: a row per question, with the cheapest change that makes it fit."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import clauses
from weighbridge.base.units import GIB, KIB, human_count
from weighbridge.base.wording import printable, printable_lines, redacted
from weighbridge.base.words import Words, words_in
from weighbridge.engines.table import record
from weighbridge.faces.view import ladder, scripts
from weighbridge.faces.view.answer import filled, in_ram, mark, weighed
from weighbridge.faces.view.changes import few, language, moved, settings
from weighbridge.faces.view.records import (
    Action,
    Bar,
    Block,
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
from weighbridge.faces.view.shown import apart, card, left, sizes
from weighbridge.faces.view.shown import shown as answered
from weighbridge.memory.report.fit import NAMES, Fit, Question, Solved
from weighbridge.memory.report.verdict import Remedy
from weighbridge.workload.flags import flags as written


def screen(
    fit: Fit,
    *,
    lang: str = "en",
    unit: str | None = None,
    details: bool = False,
    page: bool = False,
) -> Screen:
    """Return the screen of `fit` for one model on one kind of accelerator. `details` adds the costs
    of changes in sentences; a `page` has no exit code."""
    words = words_in(lang, page=page)
    shown = _shown_questions(fit, details=details)
    tables = [_table(fit, shown, words, unit)] if shown else []
    if fit.ladder:
        tables.insert(0, ladder.grid(fit, _formats_head(fit, words), words, unit))
    asides = [_reason_lines(fit, shown, words), *([_cost_lines(fit, words)] if details else [])]
    codes = () if page else (lines(_exit_code_line(fit, shown, words), _next_line(fit, words)),)
    remarks = tuple(b for b in asides if b.lines)
    solved = () if fit.solved is None else tuple(_solved_cells(fit, fit.solved, words))
    first: Section = (Lines((*solved, _answer_cell(fit, words, unit))),)
    if page:
        first += tuple(_plan_bar(fit, words, unit))
    kept = _has_format_to_run(fit) and not (fit.solved and fit.solved.launch)
    paste = tuple((ladder.paste if kept else _paste)(fit, words))
    sections = [s for s in (first, *((t,) for t in tables), remarks, paste, codes) if s]
    return Screen(
        title=_title(fit, words, unit),
        sections=tuple(sections),
        footer=(words("fit.assumes", what=" · ".join(_assumed(fit, words))),),
        warnings=tuple(redacted(words.told(line)) for line in fit.warnings),
        lang=lang,
        brief=(*first, *tables),
    )


def _title(fit: Fit, words: Words, unit: str | None) -> str:
    a = fit.accelerator
    report = next(q.report for q in fit.questions if q.report is not None)
    return words(
        "fit.title.one" if a.count == 1 else "fit.title.many",
        model=printable(fit.model.name),
        count=human_count(fit.model.parameters),
        card=card(report).removeprefix("a "),
        has=sizes(a.free, unit).of(a.free),
    )


def _has_format_to_run(fit: Fit) -> bool:
    """Return whether the first sentence names the format that the model can be run in."""
    return fit.plan.why not in ("asked", "changed")


def _shown_questions(fit: Fit, *, details: bool) -> tuple[Question, ...]:
    """Return the questions that have a table row. With a ladder of formats: training; loading if it
    is the user's question; and inference if a change surely helps on these cards."""
    if not fit.ladder:
        return fit.questions
    beside = {fit.about} - {"infer"} | ({"load"} if details else set())
    sure = (r.change for r in fit.question("infer").remedies if r.fits == "yes")
    helps = any("gpu" not in change for change in sure)
    if fit.plan.rung is None or (helps and not fit.plan.here):
        beside.add("infer")
    return tuple(q for q in fit.questions if q.task == "train" or q.name in beside)


def _formats_head(fit: Fit, words: Words) -> str:
    """Return the head of the column of formats, with the tokens of the context."""
    tokens = fit.question("infer").tokens
    return words("ladder.head", tokens=f"{tokens:,}") if tokens else words("ladder.head.bare")


def _answer_cell(fit: Fit, words: Words, unit: str | None) -> Cell:
    """Return a cell on whether the model can be run, or with the verdict on the other question that
    the exit code is about."""
    if _has_format_to_run(fit):
        return ladder.sentence(fit, words, unit)
    v, about = fit.verdict, name(fit.asked, words)
    if v is None:
        return Cell(words("fit.answer.none", question=about), "unknown")
    seen = weighed(v)
    needs = seen.per_device.expected
    sentence = words(
        f"fit.answer.{fit.plan.why}",
        question=about,
        verdict=words(f"verdict.{mark(v)}"),
        needs=in_ram(words, v, sizes(needs, unit).of(needs)),
        margin=left(words, needs, seen.margin_bytes, unit),
        flags=printable(written(fit.plan.settings, "")),
    )
    return Cell(sentence, mark(v))


def _plan_bar(fit: Fit, words: Words, unit: str | None) -> Iterator[Bar]:
    """Yield the bar of the plan's memory on the user's cards, or of the smallest format if nothing
    fits there."""
    rung = fit.plan.rung if fit.plan.here else None
    rungs = fit.ladder if rung is None else (rung,)
    report = rungs[-1].report if rungs else fit.asked.report
    if report is not None and report.verdict is not None:
        yield filled(answered(report, words, unit))


def _table(fit: Fit, shown: tuple[Question, ...], words: Words, unit: str | None) -> Grid:
    trains = all(q.task == "train" for q in shown)
    columns = (
        Column(words("ladder.head.train") if trains else ""),
        Column(words("fit.head.asked")),
        Column(words("fit.head.margin"), right=True, rank=1),
        Column(),
        Column(folds=True),
    )
    rows = [row for q in shown for row in _rows(q, fit, words, unit)]
    if any(row.cells[-1].text for row in rows):
        columns = (*columns[:-1], Column(words("fit.head.then"), folds=True))
    return Grid(
        columns, tuple(row.cells for row in rows), actions=tuple(row.action for row in rows)
    )


class _Row(NamedTuple):
    """A row of the table: its cells, and the settings that a click on the row sets."""

    cells: tuple[Cell, ...]
    action: Action | None = None


def _rows(question: Question, fit: Fit, words: Words, unit: str | None) -> Iterator[_Row]:
    label = Cell(name(question, words))
    if question.report is None or question.verdict is None:
        yield _Row((label, Cell("", "unknown"), Cell(""), Cell(""), Cell(words("fit.below"))))
        return
    v = question.verdict
    seen = weighed(v)
    needs = seen.per_device.expected
    then = [*_change_rows(question, fit, words, unit)]
    asked = Cell(in_ram(words, v, sizes(needs, unit).of(needs)), mark(v))
    first = (label, asked, Cell(_spare_text(seen.margin_bytes, fit, unit)))
    yield _Row((*first, *then[0].cells), then[0].action)
    for other in then[1 : 1 + (question is fit.asked)]:
        yield _Row((Cell(""), Cell(""), Cell(""), *other.cells), other.action)


def _spare_text(nbytes: int, fit: Fit, unit: str | None) -> str:
    """Return the bytes left or lacking as text with a sign; without the unit if all rows are at
    least 1 GiB."""
    all_of_them = [q.verdict.per_device.expected for q in fit.questions if q.verdict is not None]
    spare = apart(sizes(max(abs(nbytes), GIB), unit), nbytes)
    sign = "-" if nbytes < 0 else "+"
    bare = min(all_of_them) >= GIB
    return sign + (spare.bare if bare else spare.of)(abs(nbytes))


def _change_rows(question: Question, fit: Fit, words: Words, unit: str | None) -> Iterator[_Row]:
    """Yield rows with the changes that make it fit: the cheapest, and one of another kind; the
    longest context if it fits as asked."""
    if question.fits == "yes":
        sentence = words("fit.fits", tokens=f"{question.longest:,}") if question.longest else ""
        yield _Row((Cell(""), Cell(sentence)))
        return
    if question.elsewhere is not None and not question.help:
        sentence = _elsewhere_sentence(question, question.elsewhere, fit, words)
        yield _Row((Cell(""), Cell(sentence)), _change_action(question, question.elsewhere, fit))
        return
    if not question.sought:
        yield _Row((Cell(""), Cell("")))
        return
    if not question.ways:
        missing = () if question.report is None else question.report.derived.get("not_counted", ())
        what = words.told(clauses(*missing))
        sentence = words("reason.not_counted", what=what) if missing else ""
        yield _Row((Cell(""), Cell(sentence or words("fit.none"))))
    for r in _cheapest_by_kind(question):
        yield _Row(_change_cells(question, r, fit, words, unit), _change_action(question, r, fit))


def _change_action(question: Question, remedy: Remedy, fit: Fit) -> Action:
    """Return a change as settings of `fit`, with --for in place of the training method."""
    others = {name: value for name, value in remedy.change.items() if name != "method"}
    method = remedy.change.get("method", question.method)
    names = (n for n, asked in NAMES.items() if asked == (question.task, method))
    about = next(names, question.name)
    return others if about == fit.about else {"for": about, **others}


def _change_cells(
    question: Question, remedy: Remedy, fit: Fit, words: Words, unit: str | None
) -> tuple[Cell, Cell]:
    """Return two cells: the bytes after a change, and the change with its cost."""
    needs = remedy.peak_bytes if remedy.per_device is None else remedy.per_device.expected
    size = Cell(sizes(needs, unit).of(needs), remedy.fits)
    if _is_row_below(question, remedy, fit):
        return size, Cell(words("fit.qlora.below"))
    tokens = question.longest if remedy is question.remedies[0] else None
    pieces = [few(words, remedy), moved(words, question.verdict, remedy), flags(remedy)]
    pieces += [words("fit.context", tokens=f"{tokens:,}")] if tokens else []
    return size, Cell(printable(" · ".join(filter(None, pieces))))


def _is_row_below(question: Question, remedy: Remedy, fit: Fit) -> bool:
    """Return whether a change of the LoRA row is already the row of QLoRA."""
    if question.name != "lora":
        return False
    below, method = fit.question("qlora"), {"method": "qlora"}
    changes = [{}] if below.fits == "yes" else [r.change for r in below.ways[:1]]
    return any({**method, **change} == {**remedy.change} for change in changes)


def _elsewhere_sentence(question: Question, remedy: Remedy, fit: Fit, words: Words) -> str:
    """Return a sentence on how many larger cards it takes, if no number of these cards will do."""
    count = fit.accelerator.count
    gpu, _, number = str(remedy.change["gpu"]).partition(":")
    key = "fit.elsewhere.one" if count == 1 else "fit.elsewhere.many"
    sentence = words(key, count=count, number=number or "1", card=gpu.partition("-")[0].upper())
    return sentence + (
        words("fit.elsewhere.with", shard=remedy.change["shard"])
        if "shard" in remedy.change
        else ""
    )


def _cheapest_by_kind(question: Question) -> Iterator[Remedy]:
    """Yield the cheapest remedy of a question that does not fit, and the cheapest of another
    kind."""
    if question.fits == "yes" or not question.ways:
        return
    yield question.ways[0]
    other = (r for r in question.ways if r.kind != question.ways[0].kind)
    yield from islice(other, 1)


def flags(remedy: Remedy) -> str:
    return remedy.flags or " ".join(f"{key}={value}" for key, value in remedy.change.items())


def _reason_lines(fit: Fit, shown: tuple[Question, ...], words: Words) -> Lines:
    """Return lines on why questions have no answer, each reason once."""
    questions: dict[str, list[str]] = {}
    for q in shown:
        if q.report is None:
            questions.setdefault(words.told(q.reason), []).append(name(q, words))
    rows = (f"{', '.join(names)}: {reason}" for reason, names in questions.items())
    loads = any(q.name == "load" for q in shown)
    return lines(*rows, *(_other_loader_lines(fit, words) if loads else ()))


def _other_loader_lines(fit: Fit, words: Words) -> Iterator[str]:
    """Yield a sentence on why loading does not fit although inference does: another program loads
    the model."""
    load, infer = fit.question("load"), fit.question("infer")
    if load.fits == "yes" or infer.fits != "yes" or load.report is None or infer.report is None:
        return
    about = infer.report.workload
    yield words(
        "fit.load.other",
        load=name(load, words),
        form=_format_of(load.report.workload),
        engine=record(str(about["engine"])).title,
        own=_format_of(about),
    )


def _format_of(about: Mapping[str, Any]) -> str:
    return printable(str(about["quantization"] or about["dtype"]))


def _cost_lines(fit: Fit, words: Words) -> Lines:
    """Return lines with the costs of the changes in the table, each once."""
    costs: dict[str, None] = {}
    for q in fit.questions:
        for r in _cheapest_by_kind(q):
            costs.setdefault(printable(f"{flags(r)}: {r.cost}"), None)
    return lines(*costs, heading=words("fit.costs") if costs else "")


def name(question: Question, words: Words) -> str:
    """Return a short name of a question ("LoRA"), with the tokens of its context."""
    if question.name in NAMES:
        return words(f"fit.{question.name}", tokens=length(question.tokens)).strip()
    return f"{question.name.upper().replace('_', ' ')} {length(question.tokens)}".strip()


def length(tokens: int | None) -> str:
    """Return a number of tokens as people type it: 4096 is "4K"; "" for None."""
    if tokens is None:
        return ""
    return f"{tokens // KIB}K" if tokens % KIB == 0 else f"{tokens:,}"


def _solved_cells(fit: Fit, solved: Solved, words: Words) -> Iterator[Cell]:
    sought = words(f"sought.{solved.unknown}")
    if solved.value is None:
        yield Cell(words("fit.solved.unknown", unknown=sought), "unknown")
    elif not solved.value:
        yield Cell(words("fit.solved.none", unknown=sought), "no")
    else:
        value = f"{solved.value:,}" if isinstance(solved.value, int) else solved.value
        yield Cell(words(_solved_key(fit, solved), unknown=sought, value=value), "yes")
    if solved.note:
        yield Cell(words.told(solved.note), None, "dim")


def _solved_key(fit: Fit, solved: Solved) -> str:
    """Return the key of the sentence on what ended the search: the memory, the model, or the
    search's own limit."""
    if solved.value != solved.searched_to:
        return "fit.solved"
    report = fit.question(solved.question).report
    longest = None if report is None else report.derived.get("longest_context")
    return "fit.solved.model" if solved.value == longest else "fit.solved.end"


def _paste(fit: Fit, words: Words) -> Iterator[Block]:
    """Yield the line that runs the question of the exit code, after its cheapest change. For a
    script, yield its deciding lines and the command that writes it."""
    first = fit.asked.help or next(iter(fit.asked.ways), None)
    report = fit.plan.report
    if fit.solved is not None and fit.solved.launch and fit.solved.workload:
        text: str | None = fit.solved.launch
        heading = words("paste.change", flags=settings(fit.solved.workload))
    elif fit.asked.fits == "yes" and report is not None:
        text = report.derived.get("launch")
        heading = words("paste.run")
    else:
        text = None if first is None else first.paste
        heading = "" if first is None else words("paste.change", flags=printable(flags(first)))
    if not text:
        return
    if scripts.is_script(text):
        pasted, started = scripts.shown(words, heading, text)
        yield from (pasted, started if words.page else Note(words("script.fit")))
        return
    yield Paste(heading, printable_lines(text), language(text))


def _exit_code_line(fit: Fit, shown: tuple[Question, ...], words: Words) -> str:
    """Return a line on the exit code, and on how to ask about another row."""
    others = "|".join(q.name for q in shown if q.name not in (fit.about, "infer"))
    strictly = _has_format_to_run(fit) and fit.plan.settings and len(fit.ladder) > 1
    ways = [*(["--as-published"] if strictly else []), *([f"--for {others}"] if others else [])]
    return _exit_code_sentence(fit, words) + (
        words("fit.code.other", ways=" · ".join(ways)) if ways else ""
    )


def _exit_code_sentence(fit: Fit, words: Words) -> str:
    rung = fit.ladder[0] if len(fit.ladder) == 1 else fit.plan.rung
    open_words = fit.fits == "unknown" and (rung is None or not fit.plan.here)
    if not _has_format_to_run(fit) or open_words:
        return words(f"fit.code.{fit.fits}", question=name(fit.asked, words))
    if rung is None or not fit.plan.here:
        return words("fit.code.nothing")
    engine = record(rung.engine).title
    about = words("fit.code.format", form=printable(rung.format), engine=engine)
    return words(f"fit.code.{fit.fits}", question=about)


def _next_line(fit: Fit, words: Words) -> str:
    """Return a line with what to type next; --smallest gpu searches the card, so it needs none."""
    unknown = fit.solved.unknown if fit.solved is not None else None
    reads = any(q.tokens is not None for q in fit.questions)
    more = ["--max context"] if reads and unknown is None else []
    if unknown is None and "gpu_memory" not in fit.workload:
        more.append(words("fit.try.smallest"))
    return words("fit.try", what=" · ".join([*more, "--details", "--json"]))


def _assumed(fit: Fit, words: Words) -> Iterator[str]:
    """Yield the assumptions of the answers: engines, versions, and where the model was read
    from."""
    trained: dict[str, dict[str, None]] = {}  # optimizer and precision -> frameworks
    for q in fit.questions:
        if q.report is not None:
            w = q.report.workload
            if q.task == "infer":
                yield printable(f"{w['engine']} {w['engine_version'] or ''}".strip())
            if q.task == "train":
                how = f"{w['optimizer']} {w['precision']}"
                trained.setdefault(how, {})[str(w["framework"])] = None
    yield from (printable(f"{'/'.join(names)} {how}") for how, names in trained.items())
    yield words_of(fit, words)


def words_of(fit: Fit, words: Words) -> str:
    """Return where the model was read from, as text."""
    source = ", ".join(fit.model.read_from)
    if source.startswith("built-in catalogue"):
        return words("fit.catalogue")
    return printable(source).partition(" (")[0]

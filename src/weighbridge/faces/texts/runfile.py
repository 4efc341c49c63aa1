"""The screen of a run file: the answer, then the keys of the file that were read and those that
were not."""

import json
from collections.abc import Iterator
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import keys_of
from weighbridge.base.wording import clipped, printable, redacted
from weighbridge.base.words import Words, words_in
from weighbridge.faces.view import screen
from weighbridge.faces.view.records import (
    Cell,
    Column,
    Grid,
    Headline,
    Lines,
    Note,
    Paste,
    RenderOptions,
    Screen,
    Section,
    lines,
    row,
)
from weighbridge.files.runfiles.findings import text_of
from weighbridge.files.runfiles.measured import MeasuredPart
from weighbridge.files.runfiles.patching import in_its_words, trains_less
from weighbridge.files.runfiles.record import PlannedRun, RunFile, Understood
from weighbridge.files.runfiles.serving.lines import launch_line
from weighbridge.files.runfiles.slurm import advice, asked
from weighbridge.files.runfiles.weighing import WeighedFile, WeighedRun
from weighbridge.memory.report import Report
from weighbridge.workload.train import LEARNS

LONGEST = 48  # most characters of a value that is shown
ASKS = frozenset(("to_type", "to_type.lacking"))  # keys of sentences with a command to type
COMMAND = 400  # most characters of a launch line, which may be a complete script


def view(answer: WeighedFile, look: RenderOptions = RenderOptions()) -> Screen:  # noqa: B008
    """Return the screen of an answer about a run file, for any renderer."""
    words = words_in(look.lang, unit=look.unit)
    screens = [
        _run_screen(each, answer, words, look)
        for each in answer.runs
        if not _is_explained_above(each, answer)
    ]
    if answer.message is not None:
        from weighbridge.faces.texts.oom import view as explained

        screens.insert(0, explained(answer.message, look))
    findings = [printable(text_of(finding, words)) for finding in answer.findings]
    first: tuple[Section, ...] = (
        ((lines(*findings, heading=words("runfile.findings")),),) if findings else ()
    )
    sections = (*first, *(section for each in screens for section in each.sections))
    return Screen(
        title=words(
            "runfile.title", file=words.told(answer.file.name), kind=words.told(answer.file.title)
        ),
        sections=sections,
        footer=tuple(dict.fromkeys(line for each in screens for line in each.footer)),
        warnings=tuple(redacted(words.told(line)) for line in answer.warnings),
        lang=look.lang,
        brief=(*(b for s in first for b in s), *(b for each in screens for b in each.brief)),
    )


def _is_explained_above(weighed: WeighedRun, answer: WeighedFile) -> bool:
    """Return whether a run has nothing to show beyond the explanation above it."""
    run = weighed.run
    if run.model and not ASKS.isdisjoint(keys_of(run.refused)):
        return False
    explains = any(finding.explains for finding in answer.findings)
    if explains and weighed.report is None and not run.command:
        return True
    explained = answer.message is not None or explains
    return explained and not (run.model or run.refused or run.command)


def _run_screen(
    weighed: WeighedRun, answer: WeighedFile, words: Words, look: RenderOptions
) -> Screen:
    read = _read_sections(weighed.run, words, full=look.details)
    head = (Lines((), printable(weighed.run.name)),) if len(answer.runs) > 1 else ()
    if weighed.report is None:
        headline = Headline(words("runfile.unanswered"), words.told(weighed.why), "unknown")
        sections: tuple[Section, ...] = ((*head, headline), *read)
        return Screen(title="", sections=sections, brief=(headline,))
    report = _with_file_keys(weighed.report, weighed.run, answer.file)
    whole = screen(
        report,
        lang=look.lang,
        unit=look.unit,
        details=look.details,
        explain=look.explain,
    )
    first, *others = whole.sections
    title = Lines((Cell(whole.title),), *(block.heading for block in head))
    measured = _measured_table(weighed.measured, words, counts=weighed.by_the_log)
    asks = _slurm_lines(weighed.report, answer.file.text, words)
    by_keys = any(
        r.flags and not r.flags.startswith("-") and not trains_less(weighed.run, r)
        for r in report.remedies
        if r.fits == "yes"
    )
    fix = ((Note(words("runfile.fix")),),) if by_keys and report is not weighed.report else ()
    return whole._replace(sections=((title, *first), *measured, *read, *others, *asks, *fix))


def _with_file_keys(report: Report, run: PlannedRun, file: RunFile) -> Report:
    """Return the report with its changes as keys of the file, since the file's user runs no script
    of ours."""
    if run.task != "train" or run.command or run.settings.get("method") in LEARNS:
        return report
    changes, read = [], {one.key.lstrip("-") for one in run.understood}
    for remedy in report.remedies:
        keys = in_its_words(file, run, remedy) or {}
        named = (min(key.split("|")[::-1], key=lambda n: n not in read) for key in keys)
        line = " · ".join(
            f"{key}: {json.dumps(value)}" for key, value in zip(named, keys.values(), strict=True)
        )
        changes.append(replace(remedy, flags=line.replace('"', "") or remedy.flags, paste=""))
    return replace(report, remedies=tuple(changes))


def _slurm_lines(report: Report, text: str, words: Words) -> Iterator[Section]:
    """Yield the lines by which a batch script would request enough from Slurm, those of
    `weighbridge sbatch`, unless the run fits."""
    if report.verdict is None or report.verdict.fits == "yes":
        return
    try:
        job = asked(text)
        advised = advice(job, report) if job.cards else None
    except UsageError:  # not a batch script, or its lines are reported as not read
        return
    if advised is not None and advised.lines:
        yield (Paste(words("runfile.asks"), "\n".join(advised.lines)),)


def _measured_table(
    parts: tuple[MeasuredPart, ...], words: Words, *, counts: bool
) -> Iterator[Section]:
    """Yield a table of the log's sizes next to the predicted ones, one row per part. With `counts`
    a note adds that the log decides, as the prediction is far off."""
    if not parts:
        return
    heads = words.each("runfile.head.part", "runfile.head.measured", "runfile.head.predicted")
    columns = (Column(heads[0]), Column(heads[1], right=True), Column(heads[2], right=True))
    rows = []
    for part in parts:
        sizes = (part.measured, part.predicted)
        counted = part.name == "tokens"
        told = [
            "" if size is None else f"{size:,}" if counted else words.size(size) for size in sizes
        ]
        name = words("runfile.tokens") if counted else words(f"part.{part.name}")
        rows.append(row(name, *told))
    grid = Grid(columns, tuple(rows), words("runfile.measured"))
    yield (grid, Note(words("runfile.overruled"))) if counts else (grid,)


def _read_sections(run: PlannedRun, words: Words, *, full: bool) -> Iterator[Section]:
    """Yield the keys of a run that were understood, as the file writes them, and the defaults of
    the program that reads it. With `full` each has its line number."""
    heading = words("runfile.read")
    # A key that decides several settings is listed once
    known = tuple({(u.file, u.line, u.key, str(u.value)): u for u in run.understood}.values())
    if full and known:
        heads = words.each("runfile.head.line", "runfile.head.key", "runfile.head.value")
        columns = (Column(heads[0], right=True), Column(heads[1]), Column(heads[2], folds=True))
        rows = tuple(row(_line_text(u), words.told(u.key), _value_text(u)) for u in known)
        yield (Grid(columns, rows, heading),)
    elif known or run.command:
        told = " · ".join(f"{words.told(u.key)} {_value_text(u)}" for u in known)
        line = clipped(launch_line(run.command), COMMAND)
        cells = tuple(Cell(text) for text in (told, printable(line)) if text)
        yield (Lines(cells, heading),)
    if run.defaults:
        lines = tuple(
            Cell(words("runfile.default", setting=name, value=value, why=words.told(why)))
            for name, value, why in run.defaults
        )
        yield (Lines(lines, words("runfile.defaults")),)


def _line_text(one: Understood) -> str:
    return printable(f"{one.file}:{one.line}") if one.file else str(one.line)


def _value_text(one: Understood) -> str:
    return clipped(printable(redacted(_plain_value(one.value))), LONGEST)


def _plain_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "..." if isinstance(value, dict) else str(value)

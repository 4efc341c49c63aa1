"""The screen of the differences between two scans: changed verdicts with their reasons, then
models."""

from collections.abc import Iterator

from weighbridge.base.units import human
from weighbridge.base.wording import clipped, printable
from weighbridge.base.words import Words, words_in
from weighbridge.faces.view.records import Block, Cell, Column, Grid, Mark, Note, Screen
from weighbridge.faces.view.scan import LONGEST, MARKS
from weighbridge.memory.report.scan_diff import ScanChange, ScanDiff, ScanTurn, ScanWhy

SHA = 10  # characters of a revision that are shown


def scan_diff(diff: ScanDiff, names: tuple[str, str], lang: str = "en") -> Screen:
    """Return the screen that compares two datasets called `names`: changes by reason, and the first
    models."""
    words = words_in(lang)
    old, new = (clipped(printable(name)) for name in names)
    models = words.some("scan.models.one", "scan.models", diff.models[0])
    verdicts = words("scan.diff.none")
    if diff.total:
        verdicts = words.some("scan.diff.one", "scan.diff.several", diff.total)
    title = words("scan.diff.title", old=old, new=new, verdicts=verdicts, models=models)
    notes: tuple[Block, ...] = tuple(Note(line) for line in _notes(diff, words))
    sections: tuple[tuple[Block, ...], ...] = (notes,) if notes else ()
    if diff.turns:
        sections = ((_turns_table(diff, words),), (_changes_table(diff, words),), *sections)
    return Screen(title=title, sections=sections, lang=lang)


def _turns_table(diff: ScanDiff, words: Words) -> Grid:
    rows = tuple(
        (
            Cell(printable(turn.question)),
            _verdict(turn.was, words),
            _verdict(turn.now, words),
            Cell(f"{turn.models:,}"),
            Cell(_turn_reasons(turn, words)),
        )
        for turn in diff.turns
    )
    return Grid(
        (
            Column(words("scan.diff.question")),
            Column(words("scan.diff.was")),
            Column(words("scan.diff.now")),
            Column(words("scan.diff.models"), right=True),
            Column(words("scan.diff.why"), folds=True),
        ),
        rows,
    )


def _changes_table(diff: ScanDiff, words: Words) -> Grid:
    rows = tuple(
        (
            Cell(clipped(printable(change.id), LONGEST)),
            Cell(printable(change.question)),
            _verdict(change.was, words, change.needs[0]),
            _verdict(change.now, words, change.needs[1]),
            Cell(_model_reasons(change, words)),
        )
        for change in diff.changes
    )
    return Grid(
        (
            Column(words("scan.model"), folds=True),
            Column(words("scan.diff.question")),
            Column(words("scan.diff.was")),
            Column(words("scan.diff.now")),
            Column(words("scan.diff.why"), rank=1),
        ),
        rows,
    )


def _verdict(fits: str, words: Words, need: int | None = None) -> Cell:
    """Return a cell with a verdict in words, and the bytes `need` if known."""
    text = {
        "yes": words("scan.diff.yes"),
        "no": words("scan.diff.no"),
        "unknown": words("scan.diff.unknown"),
        "read": words("scan.diff.read"),
        "answered": words("scan.diff.answered"),
        "refused": words("scan.diff.refused"),
    }[fits]
    mark: Mark | None = MARKS.get(fits)
    return Cell(text if need is None else f"{text}, {human(need)}", mark)


def _reason_text(why: ScanWhy, words: Words) -> str:
    return {
        "config": words("scan.diff.config"),
        "question": words("scan.diff.settings"),
        "engine": words("scan.diff.engine"),
        "rules": words("scan.diff.rules"),
        "limits": words("scan.diff.limits"),
    }[why]


def _turn_reasons(turn: ScanTurn, words: Words) -> str:
    """Return the reasons of changed verdicts as text, with both releases of the engine if they
    differ."""
    was, now = turn.versions
    reasons = [_reason_text(why, words) for why in turn.why]
    if "engine" in turn.why and was and now:
        reasons[turn.why.index("engine")] += f" {was} -> {now}"
    return "; ".join(reasons)


def _model_reasons(change: ScanChange, words: Words) -> str:
    """Return the reasons for one model's change as text, with both revisions if its config changed,
    and why there is no answer now."""
    was, now = (printable(sha or "")[:SHA] for sha in change.shas)
    reasons = [_reason_text(why, words) for why in change.why]
    if "config" in change.why and was != now:
        reasons[change.why.index("config")] += f" {was} -> {now}"
    if change.now == "refused" and change.reason:
        reasons.append(printable(change.reason))
    return "; ".join(reasons)


def _notes(diff: ScanDiff, words: Words) -> Iterator[str]:
    _, new, gone = diff.models
    if new or gone:
        yield words("scan.diff.others", new=f"{new:,}", gone=f"{gone:,}")
    names = diff.questions
    counts = {"new": names.new, "gone": names.gone, "other": names.other}
    if any(counts.values()):
        shown = {kind: printable(", ".join(those)) or "-" for kind, those in counts.items()}
        yield words("scan.diff.questions", **shown)
    if diff.rules:
        yield words("scan.diff.families", families=printable(", ".join(diff.rules)))
    if diff.moved:
        each = ", ".join(f"{printable(f)} {n:,}" for f, n in diff.moved.items())
        yield words("scan.diff.moved", each=each)
    if any(diff.left):
        yield words("scan.diff.left", old=f"{diff.left[0]:,}", new=f"{diff.left[1]:,}")
    if len(diff.changes) < diff.total:
        yield words("scan.diff.more", shown=f"{len(diff.changes):,}", verdicts=f"{diff.total:,}")

"""The largest batch that fits a card. A run is traced at two batches, which give the slope, and the
answer is proved by one at it and one beyond it.

Each run is a process of its own, as the script would be: `run(batch)` gives its JSON report. Peaks
are no straight line (workspaces, the allocator's segments), so only what was traced decides:

    batch    the largest whose report says that it fits
    no       the smallest whose report says that it does not
    between  is the zone of doubt: neither is sure

A run that did not finish (its time was up, an error) answers nothing: it is neither too large nor
small enough, and is reported. Torch-free.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.words import Words
from weighbridge_lab.trace.report import SETTLED

MOST_RUNS = 16
MOST_UNANSWERED = 3  # runs; each may have taken the time that was allowed
FLAT = 256  # times: with so much larger a batch in as much memory, memory does not depend on it
FINE = 64  # the batch is found to one part in FINE,
COARSE = 16  # and the end of the doubt about larger ones to one in COARSE
LONGEST = 1 << 20  # the largest batch
FLAG = re.compile(r"(?:--?)?(?P<name>[\w.-]*batch[\w.-]*|b|bs)", re.IGNORECASE)
OTHERS = re.compile(r"eval|val|test|num|accum|infer|workers", re.IGNORECASE)
YES, NO, UNKNOWN, UNANSWERED = "yes", "no", "unknown", "unanswered"
Report = Mapping[str, Any]


@frozen_record
class BatchFit:
    """Batches that fit: the largest that surely does (`batch`, 0 if none is known). `no` is the
    smallest that surely does not, `beyond` the next one tried that does not surely fit. `runs` are
    (batch, bytes at driver level, whether it fits) of what was traced; `unanswered` are runs that
    did not finish, with the reason."""

    accelerator: str
    usable: int
    batch: int
    beyond: int | None
    no: int | None
    runs: tuple[tuple[int, int, str], ...]
    unanswered: tuple[tuple[int, str], ...]
    report: Report  # of `batch`, or of the smallest that was tried
    first: tuple[int, Report]  # (batch, report) as the script has it
    sizes: tuple[tuple[int, int], ...] = ()  # (GB of cards, the largest batch that fits them)

    def on_cards(self, words: Words) -> Iterator[str]:
        """Yield a line on the batch in the script, on all cards of the catalogue, and one on the
        largest traced batch for each of their sizes."""
        from weighbridge_lab.trace.cards import CardClass
        from weighbridge_lab.trace.screen import on_cards

        batch, report = self.first
        judged = [CardClass(**one) for one in report.get("cards", ())]
        known = on_cards(judged, self.accelerator, words) if judged else ""
        if known:
            yield words("trace.fit.cards", batch=f"{batch:,}", cards=known)
        if len(self.sizes) > 1:
            each = (words("trace.fit.size", batch=f"{n:,}", gb=gb) for gb, n in self.sizes)
            yield words("trace.fit.sizes", sizes=", ".join(each))

    @property
    def high(self) -> int:
        return _end(self.report, "high")

    @property
    def fits(self) -> str:
        """Return whether any batch fits: "no" only if a batch of 1 does not."""
        return YES if self.batch else NO if self.no == 1 else UNKNOWN


class UnansweredError(UnsupportedError):
    """Raised if no run finished, so that nothing is known of any batch."""

    code = 4


class _Answers:
    """The reports of the traced runs, by batch."""

    def __init__(self, run: Callable[[int], Report], most: int) -> None:
        self.run, self.most = run, most
        self.reports: dict[int, Report] = {}
        self.fits: dict[int, str] = {}
        self.unanswered: dict[int, str] = {}

    def ask(self, batch: int) -> None:
        try:
            report = self.run(batch)
        except UnsupportedError as error:
            if not self.reports and not self.unanswered:  # the first: no batch's fault
                raise
            self.fits[batch], self.unanswered[batch] = UNANSWERED, str(error)
            return
        ended = is_answered(report)
        self.fits[batch] = report["verdict"]["fits"] if ended else UNANSWERED
        if ended:
            self.reports[batch] = report
        else:
            self.unanswered[batch] = sentence(
                "trace.fit_unanswered", batch=batch, ending=report["program"]["ending"]
            )

    @property
    def over(self) -> bool:
        return len(self.fits) >= self.most or len(self.unanswered) >= MOST_UNANSWERED

    def top(self, *fits: str) -> int:
        return max((batch for batch, answer in self.fits.items() if answer in fits), default=0)

    def least(self, *fits: str, above: int = 0) -> int | None:
        batches = (n for n, answer in self.fits.items() if answer in fits and n > above)
        return min(batches, default=None)


def largest(
    run: Callable[[int], Report], first: int, *, most: int = MOST_RUNS, zone: bool = True
) -> BatchFit:
    """Return the largest batch that fits, searching from `first`; with `zone`, also where the doubt
    ends. Raises UnsupportedError if the first run gives no report, UnansweredError if none
    finishes."""
    answers = _Answers(run, most)
    _bisected(answers, first, "high", FINE, (NO, UNKNOWN, UNANSWERED))
    sure = answers.top(YES)
    if zone and answers.least(UNKNOWN, above=sure) is not None:
        _bisected(answers, first, "low", COARSE, (NO, UNANSWERED))
    if not answers.reports:
        raise UnansweredError(next(iter(answers.unanswered.values())))
    reports = answers.reports
    top = reports[sure or min(reports)]
    written = first if first in reports else min(reports)
    tried = ((n, peak(reports[n]), answers.fits[n]) for n in sorted(reports))
    return BatchFit(
        accelerator=top["verdict"]["accelerator"],
        usable=top["verdict"]["usable_bytes"],
        batch=sure,
        beyond=answers.least(NO, UNKNOWN, UNANSWERED, above=sure),
        no=answers.least(NO, above=sure),
        runs=tuple(tried),
        unanswered=tuple(sorted(answers.unanswered.items())),
        report=top,
        first=(written, reports[written]),
        sizes=tuple(_batch_by_card_size(reports)),
    )


def _batch_by_card_size(reports: Mapping[int, Report]) -> Iterator[tuple[int, int]]:
    """Yield (GB, batch) for each card size from which on a larger traced batch fits."""
    best: dict[int, int] = {}
    for batch in sorted(reports):
        judged = reports[batch].get("cards", ())
        best |= {one["gb"]: batch for one in judged if one["fits"] == YES}
    most = 0
    for gb, batch in sorted(best.items()):
        if batch > most:
            yield gb, batch
        most = max(most, batch)


def _bisected(answers: _Answers, first: int, end: str, parts: int, stops: Sequence[str]) -> None:
    """Trace until the smallest batch with an answer in `stops` is next to one without, to one part
    in `parts`. Guesses follow the line through two runs, at the bound that decides."""
    goes = tuple(answer for answer in (YES, UNKNOWN) if answer not in stops)
    batch = first
    while not answers.over:
        if batch not in answers.fits:
            answers.ask(batch)
            _moves(answers.reports)
        low = answers.top(*goes)
        high = answers.least(*stops, above=low)
        step = max(1, low // parts)
        if (LONGEST + 1 if high is None else high) - low <= step:
            return
        guess = _guess(answers, low, high, end)
        if guess < low and end == "low":  # the line is of what a card surely has; it may have more
            guess = low + low // 4 if high is None else (low + high) // 2
        batch = max(low + step, min(guess, 8 * max(1, low) if high is None else high - 1))
        if batch in answers.fits:
            return


def is_answered(report: Report) -> bool:
    """Return whether a run finished, or was stopped after its peak had settled."""
    program = report["program"]
    ending = program["went_on"] or program["ending"]
    through = ending == "finished" or (ending == "exit" and not program["exit_code"])
    return bool(through or program["settled"] >= SETTLED or report["verdict"]["fits"] == NO)


def _moves(reports: Mapping[int, Report]) -> None:
    """Raise UnsupportedError if memory is the same for any batch: the batch is fixed in the script,
    or never gets to the card."""
    highs = {_end(report, "high") for report in reports.values()}
    if len(highs) == 1 and max(reports) >= FLAT * min(reports):
        raise UnsupportedError(sentence("trace.fit_flat", low=min(reports), high=max(reports)))


def _guess(answers: _Answers, low: int, high: int | None, end: str) -> int:
    """Return the batch at which the line through two runs reaches the card's memory."""
    known = sorted(answers.reports)
    if len(known) < 2 or (high is not None and high not in answers.reports):
        return low * 2 if high is None else (low + high) // 2
    first, second = _around(known, low, high)
    lower, upper = (_end(answers.reports[n], end) for n in (first, second))
    slope = (upper - lower) / (second - first)
    usable = answers.reports[first]["verdict"]["usable_bytes"]
    return int(first + (usable - lower) / slope) if slope > 0 else second * 2


def _around(known: Sequence[int], low: int, high: int | None) -> tuple[int, int]:
    """Return the two batches, out of `known`, between or next to which a line is drawn."""
    if high is None:
        return known[-2], known[-1]
    if low:
        return low, high
    return (high, known[known.index(high) + 1]) if known[-1] != high else (known[-2], high)


def _end(report: Report, end: str) -> int:
    """Return a bound of the driver level of the card with most memory in use, as the verdict
    compares it."""
    return max(int(device["driver"][end]) for device in report["devices"])


def peak(report: Report) -> int:
    return _end(report, "expected")


def runner(
    options: Sequence[str], words: Callable[[int], Sequence[str]]
) -> Callable[[int], Report]:
    """Return a function that traces the command line `words(batch)` in its own process."""

    def run(batch: int) -> Report:
        command = [sys.executable, "-W", "ignore", "-m", "weighbridge", "trace", "--json", *options]
        done = subprocess.run(  # the user's own script, as the user named it
            [*command, *words(batch)],
            capture_output=True,
            check=False,
        )
        try:
            report: Report = json.loads(done.stdout)
            ended = report["program"]["ending"]
        except (ValueError, KeyError):
            report, ended = {}, "exception"
        if not report or (ended in ("exception", "exit") and report["program"]["exit_code"]):
            raise UnsupportedError(
                sentence("trace.fit_failed", batch=batch, reason=_why(report, done.stderr)[:200])
            )
        return report

    return run


def _why(report: Report, output: bytes) -> str:
    """Return why a run gave no answer: its error, its exit code, or its last output."""
    if report:
        program = report["program"]
        return program["error"] or f"exit code {program['exit_code']}"
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "nothing was printed"


def with_flag(words: Sequence[str]) -> tuple[Callable[[int], Sequence[str]], int]:
    """Return (function, batch): a function from batch to the script's words, and the batch in its
    own flag, one with "batch" in its name. Raises UsageError without one."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        place, before = (index, f"{name}=") if equals else (index + 1, "")
        if not equals:
            value = words[place] if word.startswith("-") and place < len(words) else ""
        if FLAG.fullmatch(name) and not OTHERS.search(name) and value.isdecimal():
            return _placed(words, place, before), int(value)
    raise UsageError(sentence("trace.fit_no_flag", flag=_suggested(words) or "--batch-size"))


def _placed(words: Sequence[str], index: int, before: str) -> Callable[[int], Sequence[str]]:
    return lambda batch: [*words[:index], f"{before}{batch}", *words[index + 1 :]]


def _suggested(words: Sequence[str]) -> str:
    """Return the batch flag that a script declares; "" without one."""
    scripts = [word for word in words if word.endswith(".py") and os.path.isfile(word)]
    for path in scripts:
        with open(path, encoding="utf-8", errors="replace") as file:
            declared = re.findall(r"[\"'](--?[\w.-]*batch[\w.-]*)[\"']", file.read(1 << 20))
        for flag in declared:
            if not OTHERS.search(flag):
                return str(flag)
    return ""


def hindrance(report: Report) -> tuple[str, int, str, str] | None:
    """Return what fills most of the card besides the weights, as (role, bytes, operation, line);
    None without anything."""
    device = max(report["devices"], key=lambda each: each["driver"]["expected"])
    grows = ("saved activation", "temporary", "workspace", "kv cache", "input")
    rows = [row for row in device["allocated"]["tensors"] if row["role"] in grows]
    if not rows:
        return None
    top = max(rows, key=lambda row: row["nbytes"])
    return top["role"], int(top["nbytes"]), top["op"], top["line"]

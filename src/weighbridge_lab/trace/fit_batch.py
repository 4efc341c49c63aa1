"""The largest batch that fits a card: a run is traced at two batches, which give the slope, and the
answer is proved by one at it and one beyond it.

Each run is a process of its own, as the script would be: `run(batch)` gives its JSON report. Peaks
are no straight line (workspaces, pieces of the allocator), so what was proved decides: a batch
whose report says that it fits, below the next step that does not. Torch-free.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import dataclass
from weighbridge.base.sentences import sentence

MOST_RUNS = 12
FLAT = 256  # times as large a batch, with as much memory: nothing hangs on it
FINE = 64  # a batch is found to one part in so many
LONGEST = 1 << 20  # of a batch
FLAG = re.compile(r"(?:--?)?(?P<name>[\w.-]*batch[\w.-]*|b|bs)", re.IGNORECASE)
OTHERS = re.compile(r"eval|val|test|num|accum|infer|workers", re.IGNORECASE)
Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFit:
    """The largest batch that fits; `batch` is 0 where not even one does. `runs` are what was
    traced: batch, bytes at the driver's level, and whether it fits."""

    accelerator: str
    usable: int
    batch: int
    beyond: int | None  # the smallest that was tried and does not surely fit
    runs: tuple[tuple[int, int, str], ...]
    report: Report  # of the batch, or of the smallest that was tried

    @property
    def high(self) -> int:
        return _high(self.report)


def largest(run: Callable[[int], Report], first: int) -> BatchFit:
    """Find it, beginning with `first`. Raises UnsupportedError where a run gives no report."""
    reports: dict[int, Report] = {}
    low, high, batch = 0, max(LONGEST, first) + 1, first
    while len(reports) < MOST_RUNS and high - low > _step(low) and batch not in reports:
        reports[batch] = run(batch)
        _moves(reports)
        if reports[batch]["verdict"]["fits"] == "yes":
            low = max(low, batch)
        else:
            high = min(high, batch)
        batch = _next(reports, low, high)
    top = reports[low or min(reports)]
    verdict = top["verdict"]
    return BatchFit(
        accelerator=verdict["accelerator"],
        usable=verdict["usable_bytes"],
        batch=low,
        beyond=high if high in reports else None,
        runs=tuple((n, peak(reports[n]), reports[n]["verdict"]["fits"]) for n in sorted(reports)),
        report=top,
    )


def _moves(reports: Mapping[int, Report]) -> None:
    """Raise UnsupportedError where memory stays the same however large the batch: it is fixed in
    the script, or never gets to the card."""
    highs = set(map(_high, reports.values()))
    if len(highs) == 1 and max(reports) >= FLAT * min(reports):
        raise UnsupportedError(sentence("trace.fit_flat", low=min(reports), high=max(reports)))


def _step(low: int) -> int:
    return max(1, low // FINE)


def _next(reports: Mapping[int, Report], low: int, high: int) -> int:
    """Return what to try next: by the line through two runs, within what is still open."""
    known = sorted(reports)
    if len(known) == 1:
        return known[0] * 2 if low else max(1, known[0] // 2)
    first, second = _around(known, low, high) if high in reports else (known[-2], known[-1])
    usable = reports[known[0]]["verdict"]["usable_bytes"]
    lower, upper = (_high(reports[n]) for n in (first, second))
    slope = (upper - lower) / (second - first)
    guess = int(first + (usable - lower) / slope) if slope > 0 else second * 2
    most = high - 1 if high in reports else min(max(1, low) * 8, high - 1)
    return max(1, min(max(low + _step(low), guess), most))


def _around(known: Sequence[int], low: int, high: int) -> tuple[int, int]:
    if low:
        return low, high
    return (high, known[known.index(high) + 1]) if known[-1] != high else (known[-2], high)


def _high(report: Report) -> int:
    """Return the high end of what the fullest card shows, which the verdict compares."""
    return max(int(device["driver"]["high"]) for device in report["devices"])


def peak(report: Report) -> int:
    return max(int(device["driver"]["expected"]) for device in report["devices"])


def runner(
    options: Sequence[str], words: Callable[[int], Sequence[str]]
) -> Callable[[int], Report]:
    """Return what traces a command line, `words(batch)`, in a process of its own."""

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
    """Return why a run gave no answer: its error, its exit code, or what was printed last."""
    if report:
        program = report["program"]
        return program["error"] or f"exit code {program['exit_code']}"
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "nothing was printed"


def with_flag(words: Sequence[str]) -> tuple[Callable[[int], Sequence[str]], int]:
    """Return the script's line for each batch, and the batch that it has: of its own flag, which is
    one that has "batch" in its name. Raises UsageError where it has none."""
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
    """Return the flag of the batch that a script declares."""
    scripts = [word for word in words if word.endswith(".py") and os.path.isfile(word)]
    for path in scripts:
        with open(path, encoding="utf-8", errors="replace") as file:
            declared = re.findall(r"[\"'](--?[\w.-]*batch[\w.-]*)[\"']", file.read(1 << 20))
        for flag in declared:
            if not OTHERS.search(flag):
                return str(flag)
    return ""


def hindrance(report: Report) -> tuple[str, int, str, str] | None:
    """Return what fills most of the card beside the weights: role, bytes, operation, line."""
    device = max(report["devices"], key=lambda each: each["driver"]["expected"])
    grows = ("saved activation", "temporary", "workspace", "kv cache", "input")
    rows = [row for row in device["allocated"]["tensors"] if row["role"] in grows]
    if not rows:
        return None
    top = max(rows, key=lambda row: row["nbytes"])
    return top["role"], int(top["nbytes"]), top["op"], top["line"]


def estimated(run: Callable[[int], Report], batch: int) -> int:
    """Return about how large a batch would fit, by the line through two runs."""
    first, second = run(batch), run(2 * batch)
    slope = (_high(second) - _high(first)) / batch
    usable = first["verdict"]["usable_bytes"]
    return int(batch + (usable - _high(first)) / slope) if slope > 0 else 2 * batch

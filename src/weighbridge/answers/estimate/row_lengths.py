"""Verdicts for rewards or preferences, whose rows may be shorter than their cap.

A verdict is about the longest rows. If they do not surely fit, rows of a sixteenth of the cap are
estimated: if these do not fit, no rows do; if they surely fit, the longest rows that do are
searched for. In between the verdict is open, since nobody knows how long rows are.
"""

from collections.abc import Callable

from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.memory.report.verdict import Condition
from weighbridge.workload import Train

SHORT, LEAST = 16, 256  # shortest rows: cap / SHORT, at least LEAST tokens
ASKS = 3  # estimates between the shortest and the cap
WHOLE = 64  # tokens; the result is a multiple

Asker = Callable[[Train], Report]


def judged(workload: Train, report: Report, ask: Asker, *, sought: bool) -> Report:
    """Return the report with a verdict that allows for shorter rows; with `short_rows_bytes`, the
    least they take, and if `sought` `rows_up_to`, the tokens of the longest that surely fit."""
    verdict, cap = report.verdict, report.workload["seq_len"]
    short = max(cap // SHORT, LEAST)
    if verdict is None or verdict.fits == "yes" or short >= cap:
        return report
    if verdict.fits == "unknown" and not sought:
        return report
    least = ask(_of(workload, report, short))
    if least.verdict is None or least.verdict.fits == "no":
        return report
    surely = least.verdict.fits == "yes"
    facts: DerivedFacts = {"short_rows_bytes": least.peak.low}
    if surely and sought and workload.max_tokens_per_gpu is None:
        facts["rows_up_to"] = _longest(workload, report, ask, (short, cap))
    report = replace(report, derived={**report.derived, **facts})
    if verdict.fits == "unknown":
        return report
    short = facts.get("rows_up_to", short)
    why = sentence("learning.shorter" if surely else "learning.may_be", rows=cap, short=short)
    shorter = Condition("row_lengths", opens="no")
    open_ = verdict.under(shorter, reason=clauses(why, verdict.reason))
    return replace(report, verdict=verdict if open_.fits == "no" else open_)


def _longest(workload: Train, report: Report, ask: Asker, bounds: tuple[int, int]) -> int:
    """Return the longest rows that surely fit, in tokens, by halving the interval a few times."""
    fits, cap = bounds
    for _ in range(ASKS):
        tried = (fits + cap) // 2 // WHOLE * WHOLE
        if tried <= fits:
            break
        verdict = ask(_of(workload, report, tried)).verdict
        if verdict is not None and verdict.fits == "yes":
            fits = tried
        else:
            cap = tried
    return fits


def _of(workload: Train, report: Report, tokens: int) -> Train:
    """Return the workload with rows of `tokens`; prompt and answer are cut in proportion."""
    cap, answer = report.workload["seq_len"], report.workload.get("max_new_tokens")
    changed: dict[str, int | None] = {"seq_len": tokens, "prompt_len": None, "max_new_tokens": None}
    if answer is not None:
        changed["max_new_tokens"] = max(1, answer * tokens // cap)
    packed = workload.max_tokens_per_gpu
    if packed is not None:  # a micro-batch with fewer rows
        changed["max_tokens_per_gpu"] = max(1, packed * tokens // cap)
    return workload.but(**changed)

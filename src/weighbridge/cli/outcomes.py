"""weighbridge accuracy --outcomes"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from weighbridge.cli.progress import progress
from weighbridge.errors import UsageError
from weighbridge.render.data import json_text

if TYPE_CHECKING:
    from weighbridge.lab.evidence.outcomes import Judged

# Answers as columns, in order
HEAD = ("it", "cases", "fits", "does not fit", "cannot say", "not answered")
KEYS = ("yes", "no", "unknown", "skipped")
ALONE = ("source", "trace", "coverage", "by_source", "worst")  # of measured figures
DIED = {"runs": "ran", "out of memory": "died"}
SAID = {"yes": "fits", "no": "does not fit", "unknown": "cannot say"}


def told(form: str, asked: Mapping[str, Any]) -> None:
    """Print published outcomes beside our verdicts. Raises UsageError for options of figures."""
    wrong = next((name for name in ALONE if asked[name]), None)
    if wrong is not None:
        flag = f"--{wrong.replace('_', '-')}"
        raise UsageError(f"{flag} is of measured figures; leave it out, or --outcomes")
    found = _found(asked["engine"])
    if form == "json":
        from weighbridge.lab.evidence.outcomes import to_dict

        click.echo(json_text(to_dict(found)), nl=False)
    elif form == "quiet":
        click.echo("\n".join(_short(j) for j in found))
    else:
        click.echo("\n".join(_text(found, form, records=asked["records"])))


def _found(engine: str | None) -> "list[Judged]":
    from weighbridge.lab.evidence.outcomes import chosen, judged

    cases = chosen(engine)
    with progress("the outcomes", "cases") as callback:
        found = []
        for number, case in enumerate(cases, 1):
            found.append(judged(case))
            callback(number, len(cases))
    return found


def _text(found: "Sequence[Judged]", form: str, *, records: bool) -> Iterator[str]:
    from weighbridge.cli.accuracy import columns, markdown
    from weighbridge.lab.evidence.outcomes import counts, passed, wrong

    table: list[Sequence[str]] = [HEAD]
    for outcome, row in counts(found).items():
        cells = (str(row[key]) for key in KEYS)
        table.append((DIED[outcome], str(sum(row.values())), *cells))
    yield from (markdown if form == "markdown" else columns)(table, 1)
    against = list(wrong(found))
    if against:
        yield "\nthe verdict is another"
        yield from (f"  {_line(j)}" for j in against)
    yield "\nnot answered"
    yield from (f"  {count:>3} {reason}" for reason, count in passed(found).items())
    if records:
        yield "\ncases"
        yield from (f"  {_line(j)}" for j in found)


def _line(judged: "Judged") -> str:
    """One case: what was tried, how it went, what we say."""
    from weighbridge.lab.evidence.outcomes import AnsweredCase, cited

    c = judged.case
    card = c.accelerator or c.memory or " or ".join(c.between) or "a card without a name"
    start = f"{c.id}  {c.model} on {c.count} x {card}, {c.engine} {c.version or ''}".rstrip()
    if not isinstance(judged, AnsweredCase):
        why = f"{judged.reason}{f' ({judged.detail})' if judged.detail else ''}"
        return f"{start}: {DIED[c.outcome]}; not answered: {why}  [{cited(c)}]"
    because = f"; {c.because}" if c.because and judged.wrong else ""
    said = f"{SAID[judged.fits]}: {judged.verdict.reason}{because}"
    return f"{start}: {DIED[c.outcome]}; {said}  [{cited(c)}]"


def _short(judged: "Judged") -> str:
    from weighbridge.lab.evidence.outcomes import AnsweredCase

    said = SAID[judged.fits] if isinstance(judged, AnsweredCase) else "not answered"
    return f"{judged.case.id} {DIED[judged.case.outcome]}: {said}"

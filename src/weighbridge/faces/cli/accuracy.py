"""weighbridge accuracy"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.options import FORMS, output_form, print_json, switch
from weighbridge.faces.cli.progress import progress

if TYPE_CHECKING:
    from weighbridge_lab.evidence.accuracy import AccuracyRow, Coverage
    from weighbridge_lab.evidence.outcomes import Judged
    from weighbridge_lab.evidence.records import Outcome

_HEAD = """
engine quantity level n p50 p95 median max under inside above exact width
"""
HEAD = tuple(_HEAD.split())
TEXT = 3  # number of text columns, which stand before the numbers
HELD = ("source", "level", "n", "inside", "above", "width")
WORDS = 2
LEGEND = (
    "error = (predicted - measured) / measured: p50 and p95 of its size, median and max signed",
    "under: share that we put too low; inside: share within our interval",
    "above: share more than 1 % above our upper bound",
    "exact: share that the printed digits cannot tell from ours",
    "width: of our interval, median, as a share of what we expect",
)

# For --outcomes: published runs that ended well or out of memory
OUTCOME_HEAD = ("it", "cases", "fits", "does not fit", "cannot say", "not answered")
VERDICTS = ("yes", "no", "unknown", "skipped")  # in the order of the columns
OF_FIGURES = ("source", "trace", "coverage", "by_source", "worst")  # options for figures only
DIED = {"runs": "ran", "out of memory": "died"}
MEANS = {"yes": "fit", "no": "not fit"}
SAID = {"yes": "fits", "no": "does not fit", "unknown": "cannot say"}

Laid = Callable[[Sequence[Sequence[str]], int], Iterator[str]]


@click.command()
@click.option("--engine", metavar="NAME", help="Only figures of this engine.")
@click.option("--source", metavar="NAME", help="Only figures of this source.")
@switch("--trace", help="Programs too, on a fake GPU: needs torch, minutes.")
@switch("--coverage", help="How well intervals hold: each source left out.")
@switch("--by-source", help="A row for each source.")
@click.option("--worst", metavar="N", type=click.IntRange(0), default=0, help="And the N worst.")
@switch("--records", help="And every figure beside what we say.")
@switch("--outcomes", help="Runs that ran or died, beside our verdicts.")
@switch("--host", help="All of host memory: figures, and runs that ran or died.")
@click.option("--format", "form", type=click.Choice(FORMS), default="auto", show_default=True)
@switch("--json", "as_json", help="Same as --format json.")
@switch("-q", "--quiet", help="Ids and errors of the figures.")
def accuracy(
    form: str, as_json: bool, quiet: bool, outcomes: bool, host: bool, **asked: Any
) -> None:
    """Published measurements beside what we predict for them, with their citations.

    Errors are (predicted - measured) / measured. `under`: share that we put too low; `inside`:
    share within our interval; `above`: share more than 1 % above our upper bound; `exact`: share
    that the printed digits cannot tell from ours; `width`: of our interval, of what we expect.

    \b
    weighbridge accuracy
    weighbridge accuracy --engine vllm --worst 10
    weighbridge accuracy --coverage
    weighbridge accuracy --outcomes --records
    weighbridge accuracy --host
    weighbridge accuracy --trace --source xmem
    weighbridge accuracy --json | jq '.rows[] | select(.p95 > 0.1)'
    """
    from weighbridge_lab.evidence.accuracy import rows, to_dict

    form = output_form(form, as_json=as_json, quiet=quiet)
    if host:
        _print_host_outcomes(form, asked)
        return
    if outcomes:
        _print_outcomes(form, asked)
        return
    if form in ("human", "markdown") and not (_is_narrowed(asked) or asked["coverage"]):
        click.echo(
            "\n".join([*_coverage_lines(("",)), ""])
        )  # stored coverage, printed before the slow part
    figures = _load_outcomes(asked, apart=False)
    apart = _load_outcomes(asked, apart=True) if asked["coverage"] else None
    by_source, worst, records = asked["by_source"], asked["worst"], asked["records"]
    if form == "json":
        body = to_dict(figures, apart, by_source=by_source, worst_count=worst, all_records=records)
        print_json(body)
        return
    if form == "quiet":
        click.echo("\n".join(_error_lines(figures)))
        return
    laid = markdown if form == "markdown" else columns
    if apart is not None:
        click.echo("\n".join(_left_out_lines(figures, apart, laid)))
        return
    table = laid([HEAD, *map(_cells, rows(figures, by_source=by_source))], TEXT)
    others = _detail_lines(figures, worst=worst, records=records)
    click.echo("\n".join([*table, "", *LEGEND, *others]))


def _is_narrowed(asked: dict[str, Any]) -> bool:
    return asked["engine"] is not None or asked["source"] is not None


def _load_outcomes(asked: dict[str, Any], *, apart: bool) -> "list[Outcome]":
    """Return the outcomes of the chosen figures: predicted now with --trace, else as stored by the
    last run. `apart`: with intervals fitted without the figure's own source."""
    from weighbridge_lab.evidence import stored
    from weighbridge_lab.evidence.records import chosen
    from weighbridge_lab.evidence.traced import peaks

    figures = chosen(engine=asked["engine"], source=asked["source"])
    what, counted = ("margins", "sources") if apart else ("the evidence", "figures")
    with progress(what, counted) as callback:
        if asked["trace"] and not apart:
            from weighbridge_lab.evidence.predict import outcomes

            return outcomes(figures, peaks(figures))
        return stored.outcomes(figures, apart=apart, progress=callback)


def _coverage_lines(axes: Sequence[str]) -> Iterator[str]:
    """Yield lines on the coverage of our intervals: on figures published after the intervals were
    fitted, and on those used to fit them. `axes`: the kinds of new figures to list."""
    from weighbridge.answers.bounds.accuracy import coverage

    for row in coverage():
        if row["task"] is None and (row["axis"] is None or row["axis"] in axes):
            new = {None: "all figures", "": "new on none"}.get(row["axis"], f"new: {row['axis']}")
            way = {"forward": "published later", "in sample": "by all that is known"}[row["way"]]
            shares = (f"{name} {row[name]:.1%}" for name in ("inside", "above", "width"))
            yield f"{way:20}  {new:14}  {row['n']:5,}  {'  '.join(shares)}"


def _left_out_lines(
    outcomes: "Sequence[Outcome]", apart: "Sequence[Outcome]", laid: "Laid"
) -> Iterator[str]:
    """Yield the lines of --coverage: how often intervals hold, on all figures and for each source
    left out of the fit. `laid` formats a table."""
    from weighbridge.answers.bounds.novelty import AXES
    from weighbridge_lab.evidence.accuracy import coverage

    yield from _coverage_lines(("", *AXES))
    yield "\nintervals of all figures"
    yield from laid([HELD, *(_coverage_cells(c, "all") for c in coverage(outcomes))], WORDS)
    yield "\neach source left out in turn: its intervals are of all other sources"
    rows = [*coverage(apart), *coverage(apart, by_source=True)]
    yield from laid([HELD, *(_coverage_cells(c, "all") for c in rows)], WORDS)
    yield ""
    yield from (line for line in LEGEND if line.startswith(("under", "above", "width")))


def _coverage_cells(coverage: "Coverage", every: str) -> tuple[str, ...]:
    shares = (f"{100 * x:.1f}%" for x in (coverage.inside, coverage.above, coverage.width))
    return (coverage.source or every, coverage.level, str(coverage.n), *shares)


def _cells(row: "AccuracyRow") -> tuple[str, ...]:
    where = row.engine if row.source is None else f"{row.source}: {row.engine}"
    shares = (row.under, row.inside, row.above, row.exact, row.width)
    return (
        *(where, row.quantity, row.level, str(row.n)),
        *(f"{100 * x:.2f}%" for x in (row.p50, row.p95)),
        *(f"{100 * x:+.2f}%" for x in (row.signed, row.worst)),
        *(f"{100 * x:.0f}%" for x in shares),
    )


def columns(table: Sequence[Sequence[str]], words: int) -> Iterator[str]:
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        cells = (
            f"{cell:<{w}}" if i < words else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def markdown(table: Sequence[Sequence[str]], words: int) -> Iterator[str]:
    yield f"| {' | '.join(table[0])} |"
    yield "| --- " * words + "| ---: " * (len(table[0]) - words) + "|"
    yield from (f"| {' | '.join(line)} |" for line in table[1:])


def _detail_lines(outcomes: "Sequence[Outcome]", *, worst: int, records: bool) -> Iterator[str]:
    """Yield lines on the figures without a prediction, on the `worst` furthest off, and on all
    figures if `records`."""
    from weighbridge_lab.evidence.accuracy import skipped
    from weighbridge_lab.evidence.accuracy import worst as furthest

    missed = skipped(outcomes)
    if missed:
        yield "\nnot predicted"
    for source, reasons in missed.items():
        yield from (f"  {source}: {count} {reason}" for reason, count in reasons.items())
    if worst:
        yield "\nfurthest off"
        yield from (f"  {_figure_line(p)}" for p in furthest(outcomes, worst))
    if records:
        yield "\nfigures"
        yield from (f"  {_figure_line(o)}" for o in outcomes)


def _figure_line(outcome: "Outcome") -> str:
    from weighbridge_lab.evidence.records import Skip, cited

    r = outcome.record
    start = f"{r.id}  {r.engine} {r.version or ''}  {r.model}  {outcome.quantity}"
    if isinstance(outcome, Skip):
        detail = f" ({outcome.detail})" if outcome.detail else ""
        return f"{start}  not predicted: {outcome.reason}{detail}"
    return (
        f"{start}  measured {r.measured:,} {r.unit}, we say {outcome.bytes.expected:,} "
        f"({outcome.bytes.low:,} to {outcome.bytes.high:,}), {100 * outcome.error:+.2f}%  "
        f"[{cited(r)}]"
    )


def _error_lines(outcomes: "Sequence[Outcome]") -> Iterator[str]:
    from weighbridge_lab.evidence.records import Prediction

    for o in outcomes:
        if isinstance(o, Prediction):
            yield f"{o.record.id} {o.quantity.replace(', ', '-')} {o.error:+.6f}"


# Runs that ran or died, compared with our verdicts: --outcomes


def _print_outcomes(form: str, asked: Mapping[str, Any]) -> None:
    """Print published runs that ran or died with our verdicts. Raises UsageError for options that
    are for figures only."""
    wrong = next((name for name in OF_FIGURES if asked[name]), None)
    if wrong is not None:
        flag = f"--{wrong.replace('_', '-')}"
        raise UsageError(sentence("accuracy.of_figures", flag=flag))
    cases = _judged_cases(asked["engine"])
    if form == "json":
        from weighbridge_lab.evidence.outcomes import to_dict

        print_json(to_dict(cases))
    elif form == "quiet":
        click.echo("\n".join(_case_in_short(case) for case in cases))
    else:
        click.echo("\n".join(_outcomes_table(cases, form, records=asked["records"])))


def _judged_cases(engine: str | None) -> "list[Judged]":
    from weighbridge_lab.evidence.outcomes import chosen, judged

    cases = chosen(engine)
    with progress("the outcomes", "cases") as callback:
        answers = []
        for number, case in enumerate(cases, 1):
            answers.append(judged(case))
            callback(number, len(cases))
    return answers


def _outcomes_table(cases: "Sequence[Judged]", form: str, *, records: bool) -> Iterator[str]:
    from weighbridge_lab.evidence.outcomes import counts, passed, wrong

    table: list[Sequence[str]] = [OUTCOME_HEAD]
    for outcome, row in counts(cases).items():
        cells = (str(row[key]) for key in VERDICTS)
        table.append((DIED[outcome], str(sum(row.values())), *cells))
    yield from (markdown if form == "markdown" else columns)(table, 1)
    against = list(wrong(cases))
    if against:
        yield "\nthe verdict is another"
        yield from (f"  {_case_line(case)}" for case in against)
    yield "\nnot answered"
    yield from (f"  {count:>3} {reason}" for reason, count in passed(cases).items())
    if records:
        yield "\ncases"
        yield from (f"  {_case_line(case)}" for case in cases)


def _case_line(judged: "Judged") -> str:
    """Return a line on a published run: what was tried, how it ended, and our verdict."""
    from weighbridge_lab.evidence.outcomes import AnsweredCase, cited

    case = judged.case
    card = case.accelerator or case.memory or " or ".join(case.between) or "a card without a name"
    engine = f"{case.engine} {case.version or ''}".rstrip()
    start = f"{case.id}  {case.model} on {case.count} x {card}, {engine}"
    if not isinstance(judged, AnsweredCase):
        why = f"{judged.reason}{f' ({judged.detail})' if judged.detail else ''}"
        return f"{start}: {DIED[case.outcome]}; not answered: {why}  [{cited(case)}]"
    because = f"; {case.because}" if case.because and judged.wrong else ""
    line = f"{SAID[judged.fits]}: {judged.verdict.reason}{because}"
    return f"{start}: {DIED[case.outcome]}; {line}  [{cited(case)}]"


def _case_in_short(judged: "Judged") -> str:
    from weighbridge_lab.evidence.outcomes import AnsweredCase

    answer = SAID[judged.fits] if isinstance(judged, AnsweredCase) else "not answered"
    return f"{judged.case.id} {DIED[judged.case.outcome]}: {answer}"


# All figures and runs of host memory: --host


def _print_host_outcomes(form: str, asked: Mapping[str, Any]) -> None:
    """Print every figure of host memory, and every run on a machine of known host memory, each with
    our estimate. Raises UsageError for options that are for figures only."""
    from weighbridge_lab.evidence import outcomes, stored
    from weighbridge_lab.evidence.accuracy import to_dict
    from weighbridge_lab.evidence.records import of_host

    wrong = next((name for name in OF_FIGURES if asked[name]), None)
    if wrong is not None:
        raise UsageError(sentence("accuracy.host", flag=wrong.replace("_", "-")))
    figures = [f for f in of_host() if asked["engine"] in (None, f.engine)]
    compared = stored.outcomes(figures)
    cases = [outcomes.judged(c) for c in outcomes.on_host(asked["engine"])]
    if form == "json":
        body = to_dict(compared, by_source=False, worst_count=0, all_records=True)
        print_json({**body, "outcomes": outcomes.to_dict(cases)["cases"]})
    elif form == "quiet":
        click.echo("\n".join([*_error_lines(compared), *map(_host_in_short, cases)]))
    else:
        click.echo("\n".join(_host_lists(compared, cases, form)))


def _host_lists(
    outcomes: "Sequence[Outcome]", cases: "Sequence[Judged]", form: str
) -> Iterator[str]:
    from weighbridge_lab.evidence.accuracy import rows
    from weighbridge_lab.evidence.records import Skip

    table = [HEAD, *(_cells(row) for row in rows(outcomes))]
    yield f"{_host_answer(outcomes, cases)}\n"
    yield from (markdown if form == "markdown" else columns)(table, TEXT)
    yield "\nfigures"
    yield from (f"  {_figure_line(o)}" for o in outcomes if not isinstance(o, Skip))
    yield "\nruns, and the memory of their machine"
    yield from (f"  {_host_line(case)}" for case in cases)
    yield "\nfigures that are not compared"
    yield from (f"  {_figure_line(o)}{_measured_text(o)}" for o in outcomes if isinstance(o, Skip))


def _host_answer(outcomes: "Sequence[Outcome]", cases: "Sequence[Judged]") -> str:
    """Return a sentence on our estimates of host memory: how many figures lie in our range, and how
    many runs got the right verdict."""
    from weighbridge_lab.evidence.outcomes import AnsweredCase
    from weighbridge_lab.evidence.records import Prediction

    compared = [each for each in outcomes if isinstance(each, Prediction)]
    inside = sum(each.inside for each in compared)
    lines = [f"{inside} of {len(compared)} published figures of host memory lie in our range"]
    for went, means in (("ran", "yes"), ("died", "no")):
        halves = [
            each.verdict.host.fits if isinstance(each, AnsweredCase) and each.verdict.host else None
            for each in cases
            if DIED[each.case.outcome] == went
        ]
        if halves:
            so, none = sum(half == means for half in halves), halves.count(None)
            line = f"{so} of {len(halves)} runs that {went} are said to {MEANS[means]}"
            lines.append(f"{line}, {none} are not judged" if none else line)
    return "; ".join(lines)


def _measured_text(skip: "Outcome") -> str:
    from weighbridge_lab.evidence.records import cited

    measured = f"; measured {skip.record.measured:,} {skip.record.unit}"
    return f"{measured}, {skip.record.caveat or 'see there'}  [{cited(skip.record)}]"


def _host_line(judged: "Judged") -> str:
    """Return a line on a run: its machine's host memory, how it ended, and our verdict on host
    memory."""
    from weighbridge_lab.evidence.outcomes import AnsweredCase, cited

    case = judged.case
    start = f"{case.id}  {case.model} on {case.count} x {case.accelerator or 'no card'}, {case.ram}"
    end = f"  [{cited(case)}]"
    if not isinstance(judged, AnsweredCase) or judged.verdict.host is None:
        why = judged.verdict.reason if isinstance(judged, AnsweredCase) else judged.reason
        return f"{start}: {DIED[case.outcome]}; not answered: {why}{end}"
    half = judged.verdict.host
    answer = "not judged" if half.fits is None else SAID[half.fits]
    return f"{start}: {DIED[case.outcome]}; {answer}: {half.reason}{end}"


def _host_in_short(judged: "Judged") -> str:
    from weighbridge_lab.evidence.outcomes import AnsweredCase

    half = judged.verdict.host if isinstance(judged, AnsweredCase) else None
    answer = "not answered" if half is None or half.fits is None else SAID[half.fits]
    return f"{judged.case.id} {DIED[judged.case.outcome]}: {answer}"

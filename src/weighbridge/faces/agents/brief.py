"""An answer in brief: the few words and numbers that an agent reads instead of a report.

The words are those of the first screen (faces.view), verdict first, without its bars. The numbers
are the report's; `answer` is the verdict in one sentence, for clients that show an agent only the
numbers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.sentences import about, sentence
from weighbridge.base.wording import LONGEST, clipped, one_line, printable, safe_markdown
from weighbridge.base.words import words_in
from weighbridge.faces.render.markdown import MARKS, drawn
from weighbridge.faces.view import screen
from weighbridge.faces.view.changes import few, held
from weighbridge.faces.view.changes import found as cheapest
from weighbridge.faces.view.fit import screen as fit_screen
from weighbridge.faces.view.records import (
    Bar,
    Block,
    Grid,
    Headline,
    Lines,
    Mark,
    Note,
    Paste,
    Screen,
)
from weighbridge.faces.view.shown import fullest, shown
from weighbridge.faces.view.together import screen as together_screen
from weighbridge.machines.accelerators.listing import abilities
from weighbridge.machines.accelerators.parts import Instance, Part
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Fit, Question, Ranking, Solved
from weighbridge.memory.report.together import Services
from weighbridge.memory.report.verdict import Remedy, Verdict
from weighbridge.models.catalogue import CatalogueEntry
from weighbridge.models.catalogue.pipelines import CataloguePipeline

Numbers = dict[str, Any]
LONGEST_LINE = 1_500  # most characters of a line to paste; a longer one is left out
ROWS = 20  # most rows of a list
WARNINGS = 5
ROOM = ("largest_context", "largest_batch_size", "kv_cache_tokens", "max_concurrency")
LAUNCH = ("launch", "launch_note")
EN = words_in("en")


def text(page: Screen) -> str:
    """Return a screen as a few lines of Markdown."""
    head = f"**{_line(page.title)}**"
    sections = [
        "\n".join(line for block in part for line in _block_lines(block)) for part in page.sections
    ]
    foot = "\n".join(_line(line.removesuffix(EN("footer.more"))) for line in page.footer)
    shown = "\n".join(sections)
    new = [line for line in map(_line, page.warnings[:WARNINGS]) if line not in shown]
    warned = "\n".join(f"- warning: {line}" for line in new)
    return "\n\n".join(filter(None, (head, *sections, foot, warned)))


def _line(words: str) -> str:
    """Return a text as one line of safe Markdown, in which the tool's argument replaces
    `--details`."""
    return safe_markdown(one_line(words)).replace("--details", "detail: full")


def _block_lines(block: Block) -> Iterator[str]:
    match block:
        case Bar():
            yield f"- {_line(': '.join(filter(None, (block.label, block.legend))))}"
        case Grid() if not any(column.head for column in block.columns):
            yield from _list_items(block)
        case Grid():
            yield from drawn(_with_bounded_cells(block))
        case Headline():
            yield f"{_sign(block.mark)}**{_line(block.verdict)}**: {_line(_joined_figures(block))}"
        case Lines():
            yield from filter(None, (_line(block.heading),))
            yield from (f"- {_sign(line.mark)}{_line(line.text)}" for line in block.lines)
        case Paste():
            yield from _paste_lines(block)
        case Note():
            yield _line(block.text)


def _paste_lines(block: Paste) -> Iterator[str]:
    if len(block.text) > LONGEST_LINE:
        yield about(_line(block.heading), sentence("agent.long_line", count=len(block.text)))
    else:
        yield from filter(None, drawn(block))


def _sign(mark: Mark | None) -> str:
    return "" if mark is None else f"{MARKS[mark]} "


def _list_items(block: Grid) -> Iterator[str]:
    """Yield the rows of a table without column heads as items of a list."""
    if block.heading:
        yield _line(block.heading)
    for row in block.rows:
        yield f"- {_sign(row[0].mark)}{_line(' '.join(cell.text for cell in row if cell.text))}"


def _with_bounded_cells(block: Grid) -> Grid:
    """Return a grid whose cells have bounded length, since they may hold strangers' names."""
    rows = tuple(
        tuple(c._replace(text=clipped(c.text, LONGEST)) for c in row) for row in block.rows
    )
    heading = block.heading.replace("--details", "detail: full")
    return block._replace(rows=rows, heading=heading)


def of_report(report: Report) -> tuple[str, Numbers]:
    page = screen(report)
    return text(page), _numbers(report, page)


def _numbers(report: Report, page: Screen) -> Numbers:
    s = shown(report, EN)
    head = next(b for b in page.blocks if isinstance(b, Headline))
    d = report.derived
    numbers: Numbers = {
        "answer": _headline_sentence(head),
        "task": report.task,
        "model": _safe_name(report.model.name),
        "parameters": report.model.parameters,
        "active_parameters": _active_parameters(report),
        **_verdict_numbers(report),
        "peak_bytes": s.peak._asdict(),
        "peak_phase": s.phase.name,
        "parts_bytes": _parts_bytes(page),
        "host_bytes": _host_bytes(report),
        **{
            name: d.get(name) or None for name in ROOM
        },  # null if unknown, for which the text has the reason
        **({} if _does_not_fit(report) else {name: d.get(name) for name in LAUNCH}),
        "changes": _changes_numbers(cheapest(s)),
        "warnings": [one_line(line) for line in report.warnings[:WARNINGS]],
    }
    if report.task == "load":
        numbers["weights_bytes"] = {row.dtype: row.total_bytes for row in report.table}
        numbers["download_bytes"] = report.model.download_bytes
    return numbers_told(numbers)


def numbers_told(numbers: Numbers) -> Numbers:
    """Return `numbers` without empty values: null, and empty lists and objects."""
    return {name: value for name, value in numbers.items() if value not in (None, [], {})}


def _active_parameters(report: Report) -> int | None:
    """Return the number of parameters active per token; None if all are."""
    facts = report.model
    return None if facts.active_parameters == facts.parameters else facts.active_parameters


def _safe_name(text: str) -> str:
    return clipped(printable(text))


def _headline_sentence(head: Headline) -> str:
    return printable(one_line(f"{head.verdict}: {_joined_figures(head)}"))


def _joined_figures(head: Headline) -> str:
    return "; ".join(filter(None, (head.figures, head.margin, head.reason)))


def _verdict_numbers(report: Report) -> Numbers:
    verdict = report.verdict
    if verdict is None:
        return {}
    return {
        "fits": report.fits,
        "accelerator": verdict.accelerator,
        "count": verdict.count,
        "usable_bytes": verdict.usable_bytes,
        "margin_bytes": verdict.margin_bytes,
        "share_that_fits": _fitting_fraction(verdict),
    }


def _fitting_fraction(verdict: Verdict) -> float | None:
    """Return the fraction of the estimate's range that fits; None unless the verdict is
    "unknown"."""
    open_ = verdict.fits == "unknown" and verdict.share_that_fits is not None
    return round(verdict.share_that_fits or 0, 2) if open_ else None


def _parts_bytes(page: Screen) -> Numbers:
    """Return part name -> bytes, for the parts of the bar."""
    bar = next((b for b in page.blocks if isinstance(b, Bar)), None)
    return {} if bar is None else {part.name: part.nbytes for part in bar.segments}


def _host_bytes(report: Report) -> int | None:
    """Return the expected host memory in bytes, in the phase that needs most; None if no device is
    a host."""
    hosts = [d for d in report.devices if d.kind == "host" and d is not fullest(report)]
    return max((p.needed.expected for d in hosts for p in d.phases), default=None)


def _does_not_fit(report: Report) -> bool:
    return report.verdict is not None and report.verdict.fits == "no"


def _changes_numbers(remedies: Sequence[Remedy]) -> list[Numbers]:
    """Return the changes, cheapest first. Only the first that has a line to paste includes it."""
    pasted = next((r for r in remedies if r.paste), None)
    return [_change_numbers(r, line=r is pasted) for r in remedies]


def _change_numbers(remedy: Remedy, *, line: bool) -> Numbers:
    """Return the arguments to ask again with, and the verdict, bytes and cost of a change."""
    numbers: Numbers = {
        "arguments": dict(remedy.change),
        "fits": remedy.fits,
        "peak_bytes": held(remedy),
    }
    cost = few(EN, remedy)
    if cost:
        numbers["cost"] = cost
    if line and remedy.paste and len(remedy.paste) <= LONGEST_LINE:
        numbers["paste"] = "\n".join(map(printable, remedy.paste.splitlines()))
    return numbers


def of_fit(fit: Fit) -> tuple[str, Numbers]:
    if fit.pictures:
        page = screen(fit)
        return text(page), _fit_numbers(fit, page)
    page = fit_screen(fit)
    shown = page._replace(sections=page.sections[:-1])  # the last section is about exit codes
    return text(shown), _fit_numbers(fit, page)


def of_services(services: Services) -> tuple[str, Numbers]:
    """Return the text and numbers of models that share cards: verdict, bytes held, bytes left."""
    page = together_screen(services)
    sentences = [cell.text for cell in getattr(page.blocks[0], "lines", ())]
    numbers: Numbers = {
        "answer": printable(one_line("; ".join(sentences))),
        "accelerator": services.accelerator.name,
        "count": services.accelerator.count,
        "usable_bytes": services.accelerator.free,
        "fits": services.fits,
        "holds_bytes": services.holds._asdict(),
        "services": [
            numbers_told(
                {
                    "model": _safe_name(s.report.model.name),
                    "engine": s.report.workload["engine"],
                    "holds_bytes": s.holds.expected,
                    "left_bytes": left,
                    "share": s.share,
                    "launch": launch,
                }
            )
            for s, left, launch in zip(
                services.services, services.left, services.launches, strict=True
            )
        ],
        "warnings": [one_line(line) for line in services.warnings[:WARNINGS]],
    }
    return text(page), numbers_told(numbers)


def _fit_numbers(fit: Fit, page: Screen) -> Numbers:
    first = page.blocks[0]
    sentences = "; ".join(cell.text for cell in getattr(first, "lines", ()))
    solved = fit.solved
    numbers: Numbers = {
        "answer": _headline_sentence(first)
        if isinstance(first, Headline)
        else printable(one_line(sentences)),
        "model": _safe_name(fit.model.name),
        "accelerator": fit.accelerator.name,
        "count": fit.accelerator.count,
        "usable_bytes": fit.accelerator.free,
        "for": fit.about,
        "fits": fit.fits,
        "plan": None if fit.plan.why == "asked" else numbers_told(fit.plan.to_dict()),
        "questions": {q.name: _question_numbers(q, line=q is fit.asked) for q in fit.questions},
        "solved": None if solved is None else _solved_numbers(solved),
        "warnings": [one_line(line) for line in fit.warnings[:WARNINGS]],
    }
    return numbers_told(numbers)


def _solved_numbers(solved: Solved) -> Numbers:
    """Return the value that `fit` solved for, and the arguments that fit if asked again."""
    numbers: Numbers = {solved.unknown: solved.value}
    return {**numbers, "arguments": dict(solved.workload)} if solved.workload else numbers


def _question_numbers(question: Question, *, line: bool) -> Numbers:
    if question.report is None or question.verdict is None:
        return {"fits": question.fits, "reason": one_line(question.reason)}
    numbers: Numbers = {
        "fits": question.fits,
        "peak_bytes": question.verdict.per_device.expected,
        "margin_bytes": question.verdict.margin_bytes,
    }
    first = next(iter(cheapest(shown(question.report, EN))), None)
    if first is not None:
        numbers["change"] = _change_numbers(first, line=line)
    return numbers


def of_settings(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return settings as text, one per line: the name, its type or choices, and its description."""
    return "\n".join(
        f"- {name} ({'|'.join(map(str, schema.get('enum', ()))) or schema['type']}): "
        f"{schema['description']}"
        for name, schema in settings.items()
    )


def of_gpus(cards: Iterable[Part], machines: Iterable[Instance]) -> tuple[str, Numbers]:
    from weighbridge.faces.view.lists import gpus

    parts, rented = list(cards), list(machines)
    page = gpus(parts[:ROWS], rented[:ROWS])._replace(footer=())
    more = _more_note(len(parts) - ROWS, "pattern") + _more_note(len(rented) - ROWS, "pattern")
    numbers = {
        "count": len(parts),
        "gpus": [
            (
                {
                    "id": p.id,
                    "name": p.name,
                    "marketed_gb": p.marketed_gb,
                    "usable_bytes": p.room.low,
                    "computes_in": [name for name, can in abilities(p).items() if can],
                }
            )
            for p in parts[:ROWS]
        ],
        "machines": [i.to_dict() for i in rented[:ROWS]],
    }
    return text(page._replace(title=EN.some("gpus.title.one", "gpus.title", len(parts)))) + more, (
        numbers
    )


def of_models(
    found: Iterable[CatalogueEntry], makers: Sequence[CataloguePipeline] = ()
) -> tuple[str, Numbers]:
    from weighbridge.faces.view.lists import models

    entries = list(found)
    makers = makers[: max(0, ROWS - len(entries))]
    page = models(entries[:ROWS], makers=makers)
    title = EN.some("models.title.one", "models.title", len(entries) + len(makers))
    rows = [{"name": m.name, "repo_id": m.repo_id} for m in entries[:ROWS]]
    rows += [{"name": one.name, "repo_id": one.repo_id} for one in makers]
    listed = text(page._replace(title=title)) + _more_note(len(entries) - ROWS, "pattern")
    return listed, {"count": len(entries) + len(makers), "models": rows}


def of_ranking(ranks: Ranking) -> tuple[str, Numbers]:
    from weighbridge.faces.view.ranks import ranking

    rows = [_ranked_row(row) for row in ranks.fitting[:ROWS]]
    numbers = {
        "accelerator": ranks.accelerator,
        "for": ranks.about,
        "count": ranks.candidates,
        "models": rows,
    }
    more = ""
    if ranks.candidates == len(
        ranks.rows
    ):  # otherwise only the first models were estimated, and the number that fit is unknown
        numbers["fitting"] = len(ranks.fitting)
        more = _more_note(len(ranks.fitting) - ROWS, "pattern, quantization or min_context")
    return text(ranking(ranks)._replace(footer=())) + more, numbers


def _ranked_row(row: Mapping[str, Any]) -> Numbers:
    names = ("name", "parameters", "format", "peak_bytes", "margin_bytes", "context")
    return {name: row[name] for name in names if row.get(name) is not None}


def _more_note(left: int, arguments: str) -> str:
    return f"\n\n{left:,} more: narrow them down with {arguments}" if left > 0 else ""

"""The screen of an answer as records, which renderers draw.

    records.py    the block types of every screen; the page to read first
    shown.py      which device, which phase, which unit
    answer.py     the headline          parts.py   the bar
    load.py infer.py train.py fit.py    what else the screen of a command holds
    changes.py    what would make it fit, what that costs, what to ask next
    details.py    the full tables and the arithmetic; facts.py, what stands below them
    beside.py ranks.py lists.py doctor.py   answers side by side, ranks, catalogues, this machine

All sentences are in weighbridge.base.words.

`screen` reads a report and computes nothing that is not in it but sums, differences and words.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from weighbridge.base.sentences import keys_of
from weighbridge.base.wording import printable, redacted
from weighbridge.base.words import words_in
from weighbridge.faces.view.answer import filled, headline
from weighbridge.faces.view.parts import bar
from weighbridge.faces.view.records import Headline, Lines, Paste, Screen, Section
from weighbridge.faces.view.shown import ShownAnswer, ShownPage, shown
from weighbridge.memory.report import Report

if TYPE_CHECKING:
    from weighbridge.memory.report.fit import Fit

__all__ = ["screen"]


def screen(
    about: "Report | Fit",
    *,
    lang: str = "en",
    unit: str | None = None,
    details: bool = False,
    explain: bool = False,
    page: ShownPage | None = None,
) -> Screen:
    """Return the screen of a report, or of an answer of `fit` about a pipeline. `details` adds the
    full tables, `explain` the arithmetic. With a `page`, the text names the page's controls instead
    of options; changes are left out if none were searched, and a lower bound is a bar without a
    verdict."""
    report, fit = (about, None) if isinstance(about, Report) else (_report_as_asked(about), about)
    words, sought = words_in(lang, page=page is not None), page is None or page.sought
    answer = shown(report, words, unit, full=details, sought=sought, fit=fit)
    pictures = {"infer": "picture", "train": "picture_training"}
    kind = pictures[report.task] if report.pictures else report.task
    task = import_module(f"weighbridge.faces.view.{kind}")
    if page is not None and page.least:
        return Screen(task.title(answer), (_lower_bound_section(answer),), lang=lang)
    sections = (
        _first_section(answer, barred=page is not None),
        *_named(task.sections, answer),
    )
    return Screen(
        title=task.title(answer),
        sections=(*sections, *_detail_sections(answer, told=explain)),
        footer=(_footer(answer, task),),
        warnings=tuple(_shown_warnings(answer)),
        lang=lang,
        brief=_ticket_blocks(sections, task.brief(answer) if hasattr(task, "brief") else ()),
    )


def _report_as_asked(fit: "Fit") -> Report:
    """Return the report of an answer of `fit` with the settings as asked; a pipeline always has
    one."""
    assert fit.asked.report is not None
    return fit.asked.report


def _first_section(answer: ShownAnswer, *, barred: bool) -> Section:
    """Return the first section of a screen: verdict, bar and reason. For `fit` it is the way to run
    the model, with a bar if `barred`."""
    if answer.fit is not None:
        from weighbridge.faces.view.picture import runs

        if section := runs(answer, answer.fit):
            report = answer.fit.plan.report or answer.report
            way = [filled(shown(report, answer.say, answer.unit))] if barred else []
            return (*section, *way)
    head = headline(answer)
    bare = answer.report.verdict is not None and not answer.report.verdict.count
    return (head,) if bare else (head, filled(answer))


def _lower_bound_section(answer: ShownAnswer) -> Section:
    """Return the section shown until the answer is known: the least memory it takes, with its bar,
    and that the run is still traced."""
    size = answer.sizes.of(answer.peak.low)
    head = Headline(answer.say("least", size=size), answer.say("least.runs"))
    drawn = bar(answer, margin="")
    return head, drawn._replace(low=drawn.total, high=drawn.total)


def _named(
    build: Callable[[ShownAnswer], Iterator[Section]], answer: ShownAnswer
) -> Iterator[Section]:
    """Yield the sections that `build` makes, without empty blocks and sections, which would leave a
    blank line."""
    for section in build(answer):
        blocks = tuple(b for b in section if not isinstance(b, Lines) or b.lines)
        if blocks:
            yield blocks


def _detail_sections(answer: ShownAnswer, *, told: bool) -> Iterator[Section]:
    if not told and not answer.full and answer.device.exact is None:
        return
    from weighbridge.faces.view import details

    if told:
        yield from details.arithmetic(answer)
    if answer.full:
        yield from details.sections(answer)
    elif answer.device.exact is not None:  # the user asked for the trace
        yield (details.exact(answer),)


def _shown_warnings(answer: ShownAnswer) -> Iterator[str]:
    """Yield the warnings of the report as text; unread keys of a config only with the full
    tables."""
    for line in answer.report.warnings:
        if answer.full or "unread_keys" not in keys_of(line):
            yield redacted(answer.say.told(line))


def _ticket_blocks(sections: tuple[Section, ...], of_task: Section) -> Section:
    """Return the blocks to put into a ticket: the first section, those of the task, and the first
    line to paste."""
    pasted = (b for section in sections[1:] for b in section if isinstance(b, Paste))
    return (*sections[0], *of_task, *islice(pasted, 1))


def _footer(answer: ShownAnswer, task: Any) -> str:
    """Return the footer: the assumptions of the answer, and which option shows more."""
    w, d = answer.report.workload, answer.report.derived
    named = [*task.assumes(answer), ", ".join(_model_sources(answer))]
    if d.get("longest_context") not in (None, w.get("context") or w.get("seq_len")):
        named.append(answer.say("footer.context", end=f"{d['longest_context']:,}"))
    more = "" if answer.full else answer.say("footer.more")
    return answer.say("footer.assumes", what=" · ".join(filter(None, named))) + more


def _model_sources(answer: ShownAnswer) -> Iterator[str]:
    """Yield where the model was read from, without the address."""
    for text in answer.report.model.read_from:
        if text == "a bare size":
            yield answer.say("footer.size")
        elif text.startswith("built-in catalogue"):
            yield answer.say("footer.catalogue")
        else:
            yield answer.say("footer.read", source=printable(text).partition(" (")[0])

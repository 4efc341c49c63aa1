"""The screen of an answer as records, which renderers set in type.

    records.py    the block types of every screen; the page to read first
    shown.py      which device, which phase, which unit
    answer.py     the headline          parts.py   the bar
    load.py infer.py train.py fit.py    what else the screen of a command holds
    changes.py    what would make it fit, what that costs, what to ask next
    details.py    the full tables and the arithmetic; facts.py, what stands below them
    beside.py rank.py lists.py doctor.py    answers side by side, ranks, catalogues, this machine

All sentences are in weighbridge.words.

`screen` reads a report and computes nothing that is not in it but sums, differences and words.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from weighbridge.checkpoint.model import UNREAD
from weighbridge.view.answer import headline, margin
from weighbridge.view.parts import bar
from weighbridge.view.records import Lines, Paste, Screen, Section
from weighbridge.view.shown import ShownAnswer, ShownPage, shown
from weighbridge.wording import printable, redacted
from weighbridge.words import words_in

if TYPE_CHECKING:
    from weighbridge.report import Report

__all__ = ["screen"]


def screen(
    report: "Report",
    *,
    lang: str = "en",
    unit: str | None = None,
    details: bool = False,
    explain: bool = False,
    page: ShownPage | None = None,
) -> Screen:
    """The screen of a report. `details` adds the full tables, `explain` the arithmetic; a `page`
    names no options of the command line where it has its own, and says nothing of changes that
    nobody has looked for."""
    words, sought = words_in(lang, page=page is not None), page is None or page.sought
    s = shown(report, words, unit, full=details, sought=sought)
    task = import_module(f"weighbridge.view.{report.task}")
    sections = (_answer(s), *_named(task.sections, s))
    return Screen(
        title=task.title(s),
        sections=(*sections, *_more(s, told=explain)),
        footer=(_footer(s, task),),
        warnings=tuple(_warnings(s)),
        lang=lang,
        brief=_brief(sections, task.brief(s) if hasattr(task, "brief") else ()),
    )


def _answer(s: ShownAnswer) -> Section:
    """Verdict, bar and reason."""
    found = headline(s)
    bare = s.report.verdict is not None and not s.report.verdict.count
    return (found,) if bare else (found, bar(s, margin=margin(s)))


def _named(build: Callable[[ShownAnswer], Iterator[Section]], s: ShownAnswer) -> Iterator[Section]:
    """Sections that hold something."""
    for section in build(s):
        kept = tuple(b for b in section if not isinstance(b, Lines) or b.lines)
        if kept:
            yield kept


def _more(s: ShownAnswer, *, told: bool) -> Iterator[Section]:
    if not told and not s.full and s.device.exact is None:
        return
    from weighbridge.view import details

    if told:
        yield from details.arithmetic(s)
    if s.full:
        yield from details.sections(s)
    elif s.device.exact is not None:  # what was traced was asked for
        yield (details.exact(s),)


def _warnings(s: ShownAnswer) -> Iterator[str]:
    """Yield the warnings of the report; what was not read of a config is a detail."""
    for line in s.report.warnings:
        if s.full or UNREAD not in line:
            yield s.say.told(redacted(line))


def _brief(sections: tuple[Section, ...], own: Section) -> Section:
    """Return what stands in a ticket: the answer, and the line that runs it."""
    pasted = (b for section in sections[1:] for b in section if isinstance(b, Paste))
    return (*sections[0], *own, *islice(pasted, 1))


def _footer(s: ShownAnswer, task: Any) -> str:
    """Return the line of what was assumed, and where there is more."""
    w, d = s.report.workload, s.report.derived
    named = [*task.assumes(s), ", ".join(_read(s))]
    if (d.get("longest_context") or 0) > (w.get("context") or w.get("seq_len") or 0):
        named.append(s.say("footer.context", end=f"{d['longest_context']:,}"))
    more = "" if s.full else s.say("footer.more")
    return s.say("footer.assumes", what=" · ".join(filter(None, named))) + more


def _read(s: ShownAnswer) -> Iterator[str]:
    """Say where the model was read from, without its address."""
    for text in s.report.model.read_from:
        if s.report.model.rough:
            yield s.say("footer.size")
        elif text.startswith("built-in catalogue"):
            yield s.say("footer.catalogue")
        else:
            yield s.say("footer.read", source=printable(text).partition(" (")[0])

"""`train` on a screen: the phases of a step, and what would leave more room."""

from collections.abc import Iterator, Mapping

from weighbridge.units import human_count
from weighbridge.view.load import ram
from weighbridge.view.phases import phases
from weighbridge.view.records import Section, lines
from weighbridge.view.shown import Shown, card
from weighbridge.wording import printable

METHODS: Mapping[str, str] = {
    "full": "method.full",
    "lora": "method.lora",
    "qlora": "method.qlora",
    "dora": "method.dora",
}


def title(s: Shown) -> str:
    w, d = s.report.workload, s.report.derived
    what = s.say(METHODS[w["method"]], model=printable(s.report.model.name))
    asked = s.say("title.sequences", batch=f"{w['batch_size']:,}", length=f"{w['seq_len']:,}")
    whole = s.report.model.parameters
    trained = ""
    if d["trainable_parameters"] != whole:
        few, all_of_them = human_count(d["trainable_parameters"]), human_count(whole)
        trained = s.say("title.trained", count=few, whole=all_of_them)
    return " · ".join(filter(None, (what, card(s.report), asked, trained)))


def sections(s: Shown) -> Iterator[Section]:
    if s.report.remedies:
        yield from _changes(s)
    yield (phases(s),)
    yield (lines(*_facts(s)),)


def _changes(s: Shown) -> Iterator[Section]:
    """What would make it fit, and the line of the first that has one."""
    from weighbridge.view import changes

    told = changes.found(s)
    grid = changes.grid(s, told)
    pastes = [p for p in (changes.paste(s, r) for r in told) if p is not None]
    if grid is not None:
        yield (grid,)
        yield tuple(pastes[:1])


def _facts(s: Shown) -> Iterator[str]:
    d = s.report.derived
    yield s.say("train.kept", size=s.size(d["saved_activation_bytes"]))
    yield ram(s)


def assumes(s: Shown) -> Iterator[str]:
    """The run's own settings that matter most."""
    w = s.report.workload
    yield ", ".join((w["framework"], w["optimizer"], w["precision"]))

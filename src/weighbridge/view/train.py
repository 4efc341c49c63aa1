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
    yield (phases(s),)
    if s.report.remedies:
        from weighbridge.view import changes

        yield from changes.sections(s)
    yield (lines(*_facts(s)),)


def _facts(s: Shown) -> Iterator[str]:
    d = s.report.derived
    yield s.say("train.kept", size=s.size(d["saved_activation_bytes"]))
    yield ram(s)


def assumes(s: Shown) -> Iterator[str]:
    """The run's own settings that matter most."""
    w = s.report.workload
    yield ", ".join((w["framework"], w["optimizer"], w["precision"]))

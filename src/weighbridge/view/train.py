"""`train` on a screen: the phases of a step, and what would leave more room."""

from collections.abc import Iterator, Mapping

from weighbridge.report import Report
from weighbridge.units import human_count
from weighbridge.view.load import ram
from weighbridge.view.phases import label, phases
from weighbridge.view.records import Section, lines
from weighbridge.view.shown import Shown, card
from weighbridge.wording import printable

__all__ = ["assumes", "label", "sections", "title"]

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
    yield (lines(*_facts(s)),)


def _facts(s: Shown) -> Iterator[str]:
    d = s.report.derived
    yield s.say("train.kept", size=s.size(d["saved_activation_bytes"]))
    yield ram(s)


def assumes(report: Report) -> str:
    """The run's own settings that matter most."""
    w = report.workload
    return ", ".join((w["framework"], w["optimizer"], w["precision"]))

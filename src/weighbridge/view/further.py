"""The question to ask next, as a command."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from weighbridge.view.records import Note, Paste
from weighbridge.view.shown import ShownAnswer
from weighbridge.wording import printable

if TYPE_CHECKING:
    from weighbridge.report import Report

QUESTIONS: Mapping[str, str] = {  # task, or method of training -> as --for spells it
    "load": "load",
    "infer": "infer",
    "full": "train",
    "lora": "lora",
    "dora": "lora",
    "qlora": "qlora",
}


def asks(report: "Report", *, on: bool = True) -> str:
    """The command that asks `fit` about the same thing, as it is typed."""
    about = QUESTIONS[report.workload["method"] if report.task == "train" else report.task]
    v = report.verdict
    gpu = v.accelerator_id.partition("-")[2] if v is not None and v.marketed_gb else ""
    times = f":{v.count}" if v is not None and v.count > 1 else ""
    named = [f"--gpu {gpu}{times}"] if gpu and on else []
    model = printable(report.model.reference)
    wanted = [f"--for {about}"] if about != "infer" else []
    return " ".join(("weighbridge fit", model, *named, *wanted))


def unhelped(s: ShownAnswer) -> bool:
    """Whether it does not fit, and a search has found no change."""
    v = s.report.verdict
    missing = v is not None and v.count > 0 and v.fits == "no" and not s.report.remedies
    return missing and s.sought


def smallest(s: ShownAnswer) -> Paste | Note:
    """The question that finds a card; on a page it is asked by its form."""
    if s.say.page:
        return Note(s.say("changes.none"))
    return Paste(s.say("changes.none"), f"{asks(s.report, on=False)} --smallest gpu")

"""The screen of training a pipeline: changes that make it fit, and the phases of a step."""

from collections.abc import Iterator

from weighbridge.base.units import human_count
from weighbridge.base.wording import printable
from weighbridge.faces.view.parts import phases
from weighbridge.faces.view.picture import climbed, in_ram, in_words, pasted
from weighbridge.faces.view.records import Section, lines
from weighbridge.faces.view.shown import ShownAnswer


def title(answer: ShownAnswer) -> str:
    w, name = answer.report.workload, printable(answer.report.model.name)
    size = f"{w['width']} x {w['height']}"
    if w["frames"] > 1:
        size = answer.say("picture.video", size=size, frames=w["frames"])
    form = in_words(w)
    batch = answer.say("picture.batch", batch=w["batch_size"])
    what = answer.say(f"method.{w['method']}", model=name), size, batch, form, str(w["framework"])
    return " · ".join(what)


def sections(answer: ShownAnswer) -> Iterator[Section]:
    v = answer.report.verdict
    if v is not None and v.fits != "yes" and answer.report.remedies:
        yield (climbed(answer, "phase"),)
        yield from pasted(answer, "yaml")
    table = phases(answer)
    if v is not None and v.fits != "yes" and answer.report.remedies:
        table = table._replace(heading=answer.say("picture.phases"))
    yield (table,)
    size = answer.size(answer.report.derived["saved_activation_bytes"])
    yield (lines(answer.say("train.kept", size=size), in_ram(answer)),)


def assumes(answer: ShownAnswer) -> Iterator[str]:
    w, few = answer.report.workload, answer.report.derived["trainable_parameters"]
    yield ", ".join((w["framework"], w["optimizer"], w["precision"]))
    if w["checkpointing"] != "none":
        yield answer.say("footer.checkpointing", kind=w["checkpointing"])
    steps = w.get("gradient_accumulation") or 1
    yield answer.say("picture.accumulated" if steps > 1 else "picture.micro_batch", steps=steps)
    whole = human_count(answer.report.model.parameters)
    yield answer.say("footer.trained", count=human_count(few), whole=whole)

"""The screen of `train`: the phases of a step, and the changes that would leave more room."""

from collections.abc import Iterator, Mapping

from weighbridge.base.units import human_count
from weighbridge.base.wording import printable
from weighbridge.faces.view.changes import askable, asks, pasted, smallest, unhelped
from weighbridge.faces.view.load import ram
from weighbridge.faces.view.parts import phases, phases_differ
from weighbridge.faces.view.records import Paste, Section, lines
from weighbridge.faces.view.shown import ShownAnswer
from weighbridge.settings.ranks import Ranks
from weighbridge.workload.train import LEARNS, TUNERS

METHODS: Mapping[str, str] = {
    "full": "method.full",
    "lora": "method.lora",
    "qlora": "method.qlora",
    "dora": "method.dora",
}


def title(answer: ShownAnswer) -> str:
    w = answer.report.workload
    method, name = w["method"], printable(answer.report.model.name)
    if method in TUNERS:
        what = answer.say("method.tuner", tuner=TUNERS[method], model=name)
    elif method in LEARNS:
        from weighbridge.faces.view import learning

        return learning.title(answer, name)
    else:
        what = answer.say(METHODS[method], model=name)
    if answer.pictures:
        return f"{what} · {answer.pictures}"
    if answer.sees:
        return f"{what} · {answer.say.some('images.one', 'images.many', w['batch_size'])}"
    asked = answer.say("title.sequences", batch=f"{w['batch_size']:,}", length=f"{w['seq_len']:,}")
    form = (
        () if method == "full" else (w["quantization"] or w["dtype"],)
    )  # format of the frozen weights
    return " · ".join((what, *form, asked))


def sections(answer: ShownAnswer) -> Iterator[Section]:
    learns, steps = answer.report.workload["method"] in LEARNS, _changes
    if learns:
        from weighbridge.faces.view import learning

        yield (learning.instants(answer),)
        steps = learning.steps
    if answer.report.remedies:
        yield from steps(answer)
    else:
        yield from _next_step(answer)
    table = [(phases(answer),)] if phases_differ(answer) and not learns else []
    # The next step is in the first lines, if no script has it
    behind = answer.report.derived.get("launch") or answer.report.remedies
    room = [*_room_question(answer)]
    yield from (*table, *room) if behind else (*room, *table)
    yield (lines(*_fact_lines(answer)),)


def _changes(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the table of changes that make it fit, and the lines to paste of the first that has
    some."""
    from weighbridge.faces.view import changes

    remedies = changes.found(answer)
    grid = changes.grid(answer, remedies)
    pastes = (changes.paste(answer, r) for r in remedies)
    if grid is not None:
        yield (grid,)
        yield next(filter(None, pastes), ())


def _next_step(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the script that trains it; before it, the question to ask if no change makes it fit."""
    if unhelped(answer):
        yield (smallest(answer),)
    launch = answer.report.derived.get("launch")
    if launch:
        yield pasted(answer, answer.say("paste.run"), launch)


def _room_question(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the question that finds how much more fits, if the run fits on a known card."""
    v = answer.report.verdict
    if v is None or answer.say.page or v.fits != "yes" or not v.marketed_gb or v.usable_each:
        return
    if not askable(answer.report):
        return
    most = "batch" if answer.sees or answer.pictures else "seq-len"
    yield (Paste(answer.say("changes.room"), asks(answer.report, f"--max {most}")),)


def _fact_lines(answer: ShownAnswer) -> Iterator[str]:
    d, w = answer.report.derived, answer.report.workload
    stages = w["pipeline_parallel_size"]
    if stages > 1 and "fullest_stage" in d:
        yield answer.say("train.stage", stage=d["fullest_stage"], last=stages - 1)
    if "rows_up_to" in d:
        yield answer.say("learning.up_to", tokens=f"{d['rows_up_to']:,}")
    if w["method"] in LEARNS:
        from weighbridge.faces.view import learning

        yield from learning.apart(answer)
        yield from learning.cached(answer)
    yield answer.say("train.kept", size=answer.size(d["saved_activation_bytes"]))
    yield ram(answer)


def assumes(answer: ShownAnswer) -> Iterator[str]:
    """Yield the settings of the run that matter most, as phrases for the footer."""
    w, recipe = answer.report.workload, answer.report.derived.get("recipe")
    if recipe:
        yield answer.say("footer.recipe", who=recipe)
    yield ", ".join((w["framework"], w["optimizer"], w["precision"]))
    if w.get("method") in LEARNS and w["quantization"] is None:
        yield answer.say("footer.weights", dtype=w["dtype"])
    if w["checkpointing"] != "none":
        yield answer.say("footer.checkpointing", kind=w["checkpointing"])
    ranks = Ranks.of(w).among
    if w["shard"] != "none" and ranks > 1:
        yield answer.say("footer.shard", shard=w["shard"], ranks=ranks)
    few, whole = answer.report.derived["trainable_parameters"], answer.report.model.parameters
    if few != whole:
        yield answer.say("footer.trained", count=human_count(few), whole=human_count(whole))

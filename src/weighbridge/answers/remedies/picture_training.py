"""Remedies for the training of a pipeline, in the order in which people take them.

    encode before the run, checkpoints, sharding over several cards, texts encoded in a separate
    run, an 8-bit optimizer, Adafactor or fused backward, a base in fp8 or nf4, text encoders
    in fp8, batch 1, blocks in host memory, a smaller size, LoRA instead of full, another trainer

Of swapped blocks the smallest number that fits is taken. A step is listed if the trainer has flags
for it (pictures/trainer_words.txt), which the user pastes. Source of the order: threads about
kohya, musubi-tuner and ai-toolkit (docs/pictures.md).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.answers.remedies.climbing import Ask, Climb, Step, answered
from weighbridge.answers.remedies.pictures import CAST, PACKED, SMALL, SMALLER
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy
from weighbridge.pictures.base import canonical
from weighbridge.pictures.formats import TEXT, by_name
from weighbridge.pictures.trainers import CLASSES, TRAIN, TRAINERS, pasted, words
from weighbridge.pictures.training import CACHE
from weighbridge.pictures.training_request import trainer_of
from weighbridge.workload.flags import flags
from weighbridge.workload.picture_training import PictureTraining

FREE = Price(speed=-1)
AGAIN = Price(speed=25)
FEW = Price(quality=1)
SHARED = Price(speed=5)
SWAPPED = Price(speed=30)
ANOTHER = Price(effort=25)
OF_TEXTS = f"quantization={TEXT}="
SHARES = (0.25, 0.5, 0.75)  # shares of the bytes of blocks


def ladder(
    report: Report, w: PictureTraining, ask: Ask, pinned: frozenset[str]
) -> tuple[Remedy, ...]:
    """Return the steps climbed from the user's question. No typed setting changes, but text
    encoders may get a format in addition to the denoiser's."""
    cls = str(report.derived.get("denoiser_class", ""))
    steps = tuple(_climbed(report, w, ask, pinned))
    if "framework" in pinned or any(one.fits == "yes" for one in steps):
        return steps
    trains = (row for row, begins in CLASSES.items() if cls.startswith(begins) and TRAIN in row)
    others = (row.removeprefix(TRAIN) for row in trains if row != TRAIN + trainer_of(w).name)
    ways = (_by_another(name, w, ask, pinned) for name in others)
    another = next((one for one in ways if one is not None), None)
    return steps if another is None else (*steps, another)


def _climbed(
    report: Report, w: PictureTraining, ask: Ask, pinned: frozenset[str]
) -> Iterator[Remedy]:
    trainer, cls = trainer_of(w).name, str(report.derived.get("denoiser_class", ""))

    def line(then: Report, change: Mapping[str, Any]) -> str:
        return pasted(trainer, cls, change)

    def steps(now: Report, current: PictureTraining) -> Iterator[Step]:
        for step in _steps(report, current, pinned):
            if pinned.isdisjoint(step.change) or step.lowers == (CACHE,):
                yield step

    return Climb(report, w, ask, line).up(steps)


def _by_another(name: str, w: PictureTraining, ask: Ask, pinned: frozenset[str]) -> Remedy | None:
    """Return one step to another trainer with which it surely fits; None if it has no flag for a
    typed setting, or does not fit either."""
    moved = w.but(framework=name)
    report = answered(ask, moved)
    typed = {one: w.said[one] for one in pinned & {"size", "batch_size", "quantization"}}
    cls = "" if report is None else str(report.derived.get("denoiser_class", ""))
    if report is None or (typed and not pasted(name, cls, typed)):
        return None
    fits = (one for one in _climbed(report, moved, ask, pinned) if one.fits == "yes")
    first = next(fits, None)
    if first is None:
        return None
    cost = sentence("step.another", title=TRAINERS[name].title, what=first.flags)
    change = {"framework": name, **first.change}
    return replace(first, change=change, cost=cost, price=ANOTHER, flags=flags(change, ""))


def _steps(report: Report, w: PictureTraining, pinned: frozenset[str]) -> Iterator[Step]:
    row, cls = report.workload, str(report.derived.get("denoiser_class", ""))
    full, known = row["method"] == "full", words(trainer_of(w).name, cls)
    if w.uncached_latents or w.uncached_text:
        change = {"uncached_latents": False, "uncached_text": False}
        yield Step(change, sentence("step.cached"), FREE)
    yield Step({"checkpointing": "full"}, sentence("step.checkpointing"), AGAIN)
    if full and row.get("data_parallel_size", 1) > 1:
        yield from _shared(known)
    if "drop=text" in known and "drop" not in pinned:
        yield Step({"drop": (TEXT,)}, sentence("step.apart"), FREE, (CACHE,))
    yield Step({"optimizer": "adamw_8bit"}, sentence("step.optimizer"), FEW)
    yield from _adafactor(known, full=full)
    yield from () if full else _packed(known)
    yield from _of_texts(w, known)
    if row["batch_size"] > 1:
        yield Step({"batch_size": 1}, sentence("step.batch", batch=1), SMALL)
    yield from () if full else _away(report, known)
    for share in SMALLER:
        size = int(row["height"] * share), int(row["width"] * share)
        yield Step({"size": size}, sentence("step.size", width=size[1], height=size[0]), SMALL)
    if full:
        yield Step({"method": "lora"}, sentence("step.lora"), SMALL)


def _shared(known: Mapping[str, str]) -> Iterator[Step]:
    for kind in ("zero2", "fsdp2", "zero3"):
        if f"shard={kind}" in known:
            yield Step({"shard": kind}, sentence("step.shard", kind=kind), SHARED)


def _adafactor(known: Mapping[str, str], *, full: bool) -> Iterator[Step]:
    if full and "fused_backward" in known:
        fused = {"optimizer": "adafactor", "fused_backward": True}
        yield Step(fused, sentence("step.fused"), FEW)
    elif "optimizer=adafactor" in known:
        yield Step({"optimizer": "adafactor"}, sentence("step.adafactor"), FEW)


def _of_texts(w: PictureTraining, known: Mapping[str, str]) -> Iterator[Step]:
    """Yield formats of text encoders, added to the denoiser's, if these run before."""
    if TEXT in by_name(w.quantization, canonical):
        return
    for form in (one.removeprefix(OF_TEXTS) for one in known if one.startswith(OF_TEXTS)):
        beside = "+".join(filter(None, (w.quantization, f"{TEXT}={form}")))
        cost = sentence("step.text_base", form=form)
        yield Step({"quantization": beside}, cost, CAST, (CACHE,))


def _packed(known: Mapping[str, str]) -> Iterator[Step]:
    for name, _, form in (change.partition("=") for change in known):
        if name == "quantization" and "=" not in form:
            price = PACKED if "4" in form else CAST
            yield Step({name: form}, sentence("step.base", form=form), price)


def _away(report: Report, known: Mapping[str, str]) -> Iterator[Step]:
    """Yield steps that keep blocks in host memory, by the trainer. None swaps UNet blocks."""
    blocks = report.derived.get("blocks", 0)
    if blocks and "UNet" not in str(report.derived.get("denoiser_class")):
        if "blocks_to_swap" in known:
            cost = sentence("step.swap", count=blocks)
            yield Step({"blocks_to_swap": 0}, cost, SWAPPED, counts=tuple(range(1, blocks + 1)))
        elif "streaming=layers" not in known and "offload_fraction" in known:
            for share in SHARES:
                change = {"streaming": "blocks", "offload_fraction": share}
                yield Step(
                    change, sentence("step.blocks_share", percent=round(100 * share)), SWAPPED
                )
    if "streaming=layers" in known:
        yield Step({"streaming": "layers"}, sentence("step.layers"), SWAPPED)

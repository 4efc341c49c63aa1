"""What makes the training of a pipeline fit, in the order that people take it.

    encode before the run, checkpoints, parts for each of several cards, an 8-bit optimizer,
    fused backward, a base in fp8 or nf4, batch 1, blocks in host memory, a smaller size, a LoRA
    in place of all

Of blocks the fewest wait with which it fits. A step is told where the trainer has words for it
(pictures/trainer_words.txt), which are what is pasted.
Source of the order: threads about kohya, musubi-tuner and ai-toolkit (docs/pictures.md).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.answers.remedies.climbing import Ask, Step, climb
from weighbridge.answers.remedies.pictures import CAST, PACKED, SMALL, SMALLER
from weighbridge.base.sentences import sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy
from weighbridge.pictures.trainers import pasted, words
from weighbridge.pictures.training_request import trainer_of
from weighbridge.workload.picture_training import PictureTraining

FREE = Price(speed=-1)
AGAIN = Price(speed=25)
FEW = Price(quality=1)
SHARED = Price(speed=5)
SWAPPED = Price(speed=30)
SHARES = (0.25, 0.5, 0.75)  # of the bytes of blocks


def ladder(
    report: Report, w: PictureTraining, ask: Ask, pinned: frozenset[str]
) -> tuple[Remedy, ...]:
    """Climb from the question that was asked. Nothing that was typed is touched."""
    trainer, cls = trainer_of(w).name, str(report.derived.get("denoiser_class", ""))

    def line(then: Report, change: Mapping[str, Any]) -> str:
        return pasted(trainer, cls, change)

    return climb(report, w, ask, pinned, _steps(report, w), line)


def _steps(report: Report, w: PictureTraining) -> Iterator[Step]:
    row = report.workload
    full, known = row["method"] == "full", words(trainer_of(w).name)
    if w.uncached_latents or w.uncached_text:
        change = {"uncached_latents": False, "uncached_text": False}
        yield Step(change, sentence("step.cached"), FREE)
    yield Step({"checkpointing": "full"}, sentence("step.checkpointing"), AGAIN)
    several = row.get("data_parallel_size", 1) > 1
    for kind in ("zero2", "fsdp2", "zero3") if several and full else ():
        if f"shard={kind}" in known:
            yield Step({"shard": kind}, sentence("step.shard", kind=kind), SHARED)
    yield Step({"optimizer": "adamw_8bit"}, sentence("step.optimizer"), FEW)
    if full and "fused_backward" in known:
        fused = {"optimizer": "adafactor", "fused_backward": True}
        yield Step(fused, sentence("step.fused"), FEW)
    yield from () if full else _packed(known)
    if row["batch_size"] > 1:
        yield Step({"batch_size": 1}, sentence("step.batch", batch=1), SMALL)
    yield from () if full else _away(report, known)
    for share in SMALLER:
        size = int(row["height"] * share), int(row["width"] * share)
        yield Step({"size": size}, sentence("step.size", width=size[1], height=size[0]), SMALL)
    if full:
        yield Step({"method": "lora"}, sentence("step.lora"), SMALL)


def _packed(known: Mapping[str, str]) -> Iterator[Step]:
    for name, _, form in (change.partition("=") for change in known):
        if name == "quantization":
            price = PACKED if "4" in form else CAST
            yield Step({name: form}, sentence("step.base", form=form), price)


def _away(report: Report, known: Mapping[str, str]) -> Iterator[Step]:
    """Yield what waits in host memory, as the trainer has it. No trainer swaps blocks of UNets."""
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

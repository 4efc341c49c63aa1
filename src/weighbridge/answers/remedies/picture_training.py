"""What makes the training of a pipeline fit, in the order that people take it.

    encode before the run, checkpoints, an 8-bit optimizer, fused backward, a base in fp8 or nf4,
    batch 1, blocks in host memory, a smaller size, a LoRA in place of all

Of blocks a quarter waits, then a half.
Source of the order: threads about kohya, musubi-tuner and ai-toolkit (docs/pictures.md).
"""

from collections.abc import Iterator

from weighbridge.answers.remedies.climbing import Ask, Step, climb
from weighbridge.answers.remedies.pictures import CAST, PACKED, SMALL, SMALLER
from weighbridge.base.sentences import sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy
from weighbridge.workload.picture_training import PictureTraining

FREE = Price(speed=-1)
AGAIN = Price(speed=25)
FEW = Price(quality=1)
SWAPPED = Price(speed=30)
PARTS = (4, 2)  # of all blocks: a quarter, a half waits


def ladder(
    report: Report, w: PictureTraining, ask: Ask, pinned: frozenset[str]
) -> tuple[Remedy, ...]:
    """Climb from the question that was asked. Nothing that was typed is touched."""
    return climb(report, w, ask, pinned, _steps(report, w))


def _steps(report: Report, w: PictureTraining) -> Iterator[Step]:
    row = report.workload
    full = row["method"] == "full"
    if w.uncached_latents or w.uncached_text:
        change = {"uncached_latents": False, "uncached_text": False}
        yield Step(change, sentence("step.cached"), FREE)
    yield Step({"checkpointing": "full"}, sentence("step.checkpointing"), AGAIN)
    yield Step({"optimizer": "adamw_8bit"}, sentence("step.optimizer"), FEW)
    if full:
        fused = {"optimizer": "adafactor", "fused_backward": True}
        yield Step(fused, sentence("step.fused"), FEW)
    else:
        for form, price in (("fp8", CAST), ("nf4", PACKED)):
            yield Step({"quantization": form}, sentence("step.base", form=form), price)
    if row["batch_size"] > 1:
        yield Step({"batch_size": 1}, sentence("step.batch", batch=1), SMALL)
    blocks = report.derived.get("blocks", 0)
    for part in PARTS if blocks > 1 and not full else ():
        count = blocks // part
        yield Step({"blocks_to_swap": count}, sentence("step.swap", count=count), SWAPPED)
    for share in SMALLER:
        size = int(row["height"] * share), int(row["width"] * share)
        yield Step({"size": size}, sentence("step.size", width=size[1], height=size[0]), SMALL)
    if full:
        yield Step({"method": "lora"}, sentence("step.lora"), SMALL)

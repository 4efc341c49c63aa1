"""Images and sounds while vLLM profiles: as many of the largest as one batch may bring, whatever
requests bring later.

    largest   of shapes that a processor takes whole, the one with the most tokens

    items     max(1, min(tokens of a batch // tokens of an item, sequences x items of a prompt))
    inputs    items x positions x numbers of one, kept while the language model runs
    outputs   items x tokens x D (1 + levels of deepstack), kept until profiling ends
    widest    3 D' and the feed-forward of the tower, all items at once

Source: vllm 0.19 multimodal/encoder_budget.py, v1/core/encoder_cache_manager.py
(compute_mm_encoder_budget), v1/worker/gpu_model_runner.py (profile_run). Gemma 3 4B with 8,192
tokens: 147 MiB of inputs and 40 of outputs beside its logits.
"""

from collections.abc import Iterable
from typing import NamedTuple

from weighbridge.arch.body import Dense, Tower
from weighbridge.arch.stacks import sort
from weighbridge.arch.towers import of_stacks
from weighbridge.engines.interface import Subject
from weighbridge.engines.vllm.forward import RankShare
from weighbridge.memo import memo
from weighbridge.units import ceil_div

# Pixels, height and width: as large as processors take, in shapes that tiles may have
HUGE = tuple((8960 * h, 8960 * w) for h, w in ((1, 1), (4, 3), (3, 4), (2, 1), (16, 1)))


class Encoded(NamedTuple):
    """Elements that stay, and that encoding takes beside them."""

    held: int
    widest: int
    formula: str


NONE = Encoded(0, 0, "")


def encoded(
    towers: Iterable[Tower],
    hidden: int,
    *,
    tokens: int,
    context: int,
    sequences: int,
    share: RankShare,
) -> Encoded:
    """Estimate what the encoders take while vLLM profiles. It profiles one kind: the one with the
    most tokens an item."""
    tower = max(towers, key=lambda t: t.tokens, default=None)
    if tower is None or not tower.tokens:
        return NONE
    items = count(tower, tokens=tokens, context=context, sequences=sequences)
    inputs = items * tower.positions * tower.patch
    outputs = items * tower.tokens * hidden
    return Encoded(
        held=inputs + outputs,
        widest=items * tower.positions * _widest(tower, share),
        formula=f"{items} items of {tower.positions:,} positions and {tower.tokens:,} tokens",
    )


def largest(subject: Subject) -> tuple[Tower, ...]:
    """The towers with the image that gives the language model the most tokens, as
    get_image_size_with_most_features of each class looks for it."""

    def found() -> tuple[Tower, ...]:
        stacks = sort(subject.part.blueprint)
        tried = [of_stacks(*stacks, subject.config, image_size=size) for size in HUGE]
        return max(tried, key=lambda one: max((t.tokens for t in one), default=0))

    if not subject.body.towers:
        return ()
    return memo(subject.part, ("largest towers",), found)


def count(tower: Tower, *, tokens: int, context: int, sequences: int) -> int:
    each = max(1, context // tower.tokens)
    return max(1, min(max(tokens, tower.tokens) // tower.tokens, sequences * each))


def _widest(tower: Tower, share: RankShare) -> int:
    attended = ceil_div(4 * tower.heads * tower.head_dim, share.tensor)
    factor = 3 if isinstance(tower.feed, Dense) and tower.feed.gated else 2
    return 2 * tower.hidden + max(attended, factor * share.width(tower.feed))

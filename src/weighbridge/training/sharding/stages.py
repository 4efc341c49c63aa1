"""Layers of each stage of a pipeline.

    equal       as many each, the first ones taking the remainder
    torchtitan  what comes before the layers counts as one, and what comes after them as one:
                the sum is split equally, and the first and the last stage have one less than
                that. Before April 2025 those two had no part of the remainder
    in turn     a rank has two parts of the model: the next one has those that follow
    in a V      (zero-bubble) a rank has two parts: the first rank the first and the last one
    given       --pp-layer-partition

Source: torchtitan v0.2.2 distributed/pipeline_parallel.py (generate_llm_fqn_per_model_part,
pipeline_module_split; pipeline_parallel_first_stage_less_layers is 1), since f64cf3c18; before,
cec7fb6fc parallelisms/pipelining_utils.py (generate_split_points).
"""

from itertools import pairwise

from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import since
from weighbridge.engines.parallel.rules import bounds, given
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.training.sharding.schedule import INTERLEAVED, PARTS, ZERO_BUBBLE

ENDS_COUNT = (2025, 4, 15)  # torchtitan since which embedding and head count as layers


def layers_of_stages(
    count: int,
    sharding: Sharding,
    asked: tuple[float, ...] = (),
    *,
    titan: bool = False,
    release: tuple[int, ...] | None = None,
) -> tuple[int, ...]:
    """Return the number of layers of each stage, from `count` layers: as `asked`, or as torchtitan
    at the date `release` (None is the newest), or equally. Raises UsageError if a stage has none,
    or they do not add up."""
    stages = sharding.pipeline
    if asked:
        ends = given(asked, count, stages)
        return tuple(end - start for start, end in pairwise(ends))
    if stages == 1 or not count:
        return (count,)  # a model without layers is refused elsewhere
    if stages > count:
        raise UsageError(sentence("stages.layers", stages=stages, count=count))
    if not titan:
        return _equal(count, stages)
    parts = _layers_by_titan(
        count, stages * (PARTS if sharding.schedule in (INTERLEAVED, ZERO_BUBBLE) else 1), release
    )
    found = tuple(parts[i] + sum(_layers_of_second_part(parts, sharding, i)) for i in range(stages))
    if min(*parts, *found) < 0 or 0 in found:
        raise ContradictionError(sentence("stages.torchtitan", stages=stages, count=count))
    return found


def _layers_of_second_part(parts: list[int], sharding: Sharding, rank: int) -> list[int]:
    """Return the layers of a rank's second model part, as a list of one; an empty list if there is
    none."""
    others = parts[sharding.pipeline :]
    if sharding.schedule == ZERO_BUBBLE:
        others.reverse()
    return others[rank : rank + 1]


def first_and_end(each: tuple[int, ...], stage: int) -> tuple[int, int]:
    """Return (first layer, one past the last) of a stage, from the layers of `each` stage."""
    ends = bounds([*each])
    return ends[stage], ends[stage + 1]


def _layers_by_titan(count: int, parts: int, release: tuple[int, ...] | None) -> list[int]:
    if since(release, ENDS_COUNT):
        each = [*_equal(count + 2, parts)]
        each[0] -= 1
        each[-1] -= 1
        return each
    whole, more = divmod(count, parts)
    return [whole + (0 < i <= more) for i in range(parts)]


def _equal(count: int, parts: int) -> tuple[int, ...]:
    each, more = divmod(count, parts)
    return tuple(each + (i < more) for i in range(parts))

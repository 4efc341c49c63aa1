"""Which pipeline stage holds what: the bounds of the layers, and where the rest goes.

    vllm      layers // stages, the remainder from the last but one backwards
    sglang    layers // stages, the remainder to the last ones

What comes before the layers is on the first stage, what comes after on the last. A head that is
tied to the embedding makes a second copy of it there. Many classes build the embedding or the
head on every stage.

Source: vllm 0.33 distributed/utils.py (get_pp_indices, VLLM_PP_LAYER_PARTITION) and the
get_pp_group() of model_executor/models/*.py; sglang 0.5.23 srt/distributed/utils.py and
srt/models/*.py.
"""

from collections.abc import Callable

from weighbridge.errors import UsageError

Bounds = Callable[[int, int], tuple[int, ...]]  # of (layers, stages)


def given(partition: tuple[int, ...], layers: int, stages: int) -> tuple[int, ...]:
    """The environment variables of both engines: layers of each stage."""
    if len(partition) != stages or sum(partition) != layers:
        raise UsageError(
            f"layers by stage {','.join(map(str, partition))} do not make {layers} layers "
            f"in {stages} stages"
        )
    return bounds(list(partition))


def bounds(sizes: list[int]) -> tuple[int, ...]:
    """Numbers of the first layer of each stage, and of all layers."""
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    return tuple(ends)

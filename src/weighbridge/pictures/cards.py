"""Several cards of one pipeline: where each component goes, and what of a step is divided.

    balanced      diffusers' device_map: components by their size, the largest first; cards by what
                  is free of them, there and back again: 0 1 1 0. One that has no room there goes to
                  the CPU, and runs there
    name=1        a component on a card, by a script of its own (.to("cuda:1")), or by --backend
                  of stable-diffusion.cpp
    ulysses,      context parallelism: all weights on each card, and each block has its part of the
    ring          tokens. Around attention what a card has of all tokens and some heads is sent and
                  received, or the keys and values of all cards are gathered

Sizes are those of weights as they are loaded without a format, in the dtype of the pipeline.
Source: diffusers 0.42 pipelines/pipeline_loading_utils.py (_get_final_device_map,
_assign_components_to_devices), models/_modeling_parallel.py, models/transformers/ (_cp_plan),
models/attention_dispatch.py (TemplatedUlyssesAttention, TemplatedRingAttention); accelerate 1.15
utils/modeling.py (get_max_memory); stable-diffusion.cpp @ 97d29908 docs/backend.md.
"""

from collections.abc import Iterator, Mapping, Sequence

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import formats
from weighbridge.pictures.card import CPU
from weighbridge.pictures.config import class_of
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.values import Sizes
from weighbridge.workload.picture import Picture

BALANCED = "balanced"
PATCH = 2  # latents on each side of a token
# denoiser class whose tokens diffusers splits -> whether text tokens are split, too
DIVIDED: Mapping[str, bool] = {
    "FluxTransformer2DModel": True,
    "Flux2Transformer2DModel": True,
    "QwenImageTransformer2DModel": True,
    "LTXVideoTransformer3DModel": True,
    "LTX2VideoTransformer3DModel": True,
    "WanTransformer3DModel": False,
}


def placed(
    w: Picture,
    spec: PipelineSpec,
    parts: Mapping[str, ModelPart],
    dtype: DType,
    rooms: Sequence[int],
) -> dict[str, int]:
    """Return the card number of each component, {} if all are on one card. `rooms`: free bytes of
    each card before loading. Raises UsageError for an invalid map, ContradictionError with
    offload."""
    asked = w.device_map or ()
    if not asked:
        return {}
    if w.offload not in (None, "none"):
        raise ContradictionError(sentence("device_map.offload", offload=w.offload))
    if asked == (BALANCED,):
        if not rooms:
            raise UsageError(sentence("device_map.cards"))
        return balanced({n: formats.nbytes(p, None, dtype) for n, p in parts.items()}, rooms)
    return dict.fromkeys(parts, 0) | _by_name(asked, spec, rooms)


def _by_name(asked: Sequence[str], spec: PipelineSpec, rooms: Sequence[int]) -> dict[str, int]:
    """Return component -> card from items such as text=1 and transformer=0. Raises UsageError."""
    chosen: dict[str, int] = {}
    for item in asked:
        name, _, number = item.partition("=")
        if not number.isdigit() or (rooms and int(number) >= len(rooms)):
            last = max(0, len(rooms) - 1)
            raise UsageError(
                sentence("device_map.typed", last=last), where=f"--device-map {item:.40}"
            )
        chosen |= dict.fromkeys(formats.meant(name, spec), int(number))
    return chosen


def balanced(sizes: Mapping[str, int], rooms: Sequence[int]) -> dict[str, int]:
    """Return component -> card by diffusers' balanced rule.

    >>> balanced({"transformer": 24, "vae": 1, "t5": 10, "clip": 2}, [30, 30])
    {'transformer': 0, 't5': 1, 'clip': 1, 'vae': 0}
    """
    there = sorted(range(len(rooms)), key=lambda i: -rooms[i])
    left, cycle = [*rooms], (*there, *reversed(there))
    turn, cards = 0, {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        number = cycle[turn % len(cycle)]
        if sizes[name] > left[number]:
            number = CPU
        else:
            left[number] -= sizes[name]
            turn += 1
        cards[name] = number
    return cards


def divided(sizes: Sizes, ranks: int, cls: str) -> Sizes:
    """Return the sizes that one of `ranks` computes in a step, in whole tokens; `sizes` if the
    class has no known plan."""
    if ranks == 1 or cls not in DIVIDED:
        return sizes
    height = PATCH * ceil_div(sizes.height, PATCH * ranks)
    text = ceil_div(sizes.text, ranks) if DIVIDED[cls] else sizes.text
    return replace(sizes, height=height, text=text, tokens=ceil_div(sizes.tokens, ranks))


def on_cards(w: Picture, denoiser: ModelPart, count: int) -> Iterator[str]:
    """Yield notes on runs with several cards of which only one is used, or whose step no plan
    splits."""
    ranks, cls = w.context_parallel_size or 1, class_of(denoiser.config)
    if ranks > 1 and cls not in DIVIDED:
        yield sentence("context.no_plan", cls=cls)
    if count > 1 and ranks == 1 and not w.device_map:
        yield sentence("device_map.one", engine=w.engine or "diffusers", count=count)

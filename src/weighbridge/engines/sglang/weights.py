"""Weights that stay in host memory (servers/host.py says which).

    a step     a layer that has some copies them to the card, and frees them when it is done

So a card has room for one layer's at any moment, beside what stays on it. Layers are made on the
card and moved one by one, so that loading takes no more.

Source: sglang 0.5.14 srt/utils/offloader.py (OffloaderV1), 0.4.6 srt/utils.py
(maybe_offload_to_cpu).

How SGLang splits a model over devices.

Source: sglang 0.5.23: srt/distributed/utils.py, srt/layers/moe/fused_moe_triton/layer.py,
srt/layers/quantization/mxfp4.py, srt/models/*.py, srt/lora/mem_pool.py.
"""

from collections import defaultdict
from functools import cache

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.memory import Component, exactly
from weighbridge.base.units import GIB
from weighbridge.engines.engine import Version
from weighbridge.engines.parallel import rules as parallel
from weighbridge.engines.parallel.rules import HOPPER, WeightKernel
from weighbridge.engines.servers import host
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.sglang import ENGINE
from weighbridge.engines.sglang.rules import rules
from weighbridge.memory.components.weights import PlacedTensor
from weighbridge.models.arch.model_types import facts

SOURCE = "sglang srt/utils/offloader.py (OffloaderV1)"
Tensors = tuple[PlacedTensor, ...]
DATA_CENTRE = 10  # compute capability of Blackwell with TensorRT-LLM's kernels
BLACKWELL = WeightKernel(columns=128, hidden=128, bias_bytes=4)


def shared_out(
    rank: Rank, gib: float | None
) -> tuple[Tensors, host.PinnedWeights, tuple[Component, ...]]:
    """Return (tensors that stay on the device, offloaded ones, what a layer copies back)."""
    gone = host.taken(rank.tensors, round((gib or 0) * GIB))
    if not gone:
        return rank.tensors, host.PinnedWeights(), ()
    away: dict[str, int] = defaultdict(int)
    for t in gone:
        away[host.layer_of(t)] += t.nbytes * t.copies
    ids = set(map(id, gone))
    moved = Component(
        name="temporaries",
        bytes=exactly(max(away.values())),
        basis="computed",
        detail="offloaded weights of a layer, while it runs",
        formula="the layer with the most of them, copied to the device for its step",
        source=SOURCE,
    )
    stays = tuple(t for t in rank.tensors if id(t) not in ids)
    return stays, host.of_tensors(gone), (moved,)


# How ranks split the model


def bounds(layers: int, ranks: int) -> tuple[int, ...]:
    """Return the stages' bounds: layers // stages each, and one more for the last ones."""
    left_over = layers % ranks
    return parallel.bounds([layers // ranks + (i >= ranks - left_over) for i in range(ranks)])


def of_class(model_type: str) -> parallel.ClassSplit:
    """Return how SGLang splits the class of a model type."""
    known = facts(model_type).sglang
    return parallel.ClassSplit(
        embedding=known.every_stage in ("embedding", "both"),
        head=known.every_stage in ("head", "both"),
        # srt/models/gemma{3,3n,4}_causal.py (Gemma3TextScaledWordEmbedding)
        whole_embedding=known.whole_embedding,
        partial_blocks=known.partial_blocks,
    )


@cache
def split_rules(version: Version, *, towers: bool = True, major: int = 0) -> parallel.SplitRules:
    """Return the split rules, the same object each time: `shards` caches by it. `major`: of the
    card's compute capability."""
    r = rules(version)
    return parallel.SplitRules(
        name=ENGINE.name,
        version=version,
        bounds=bounds,
        of_class=of_class,
        grows=True,
        uneven=False,
        replicas_share=False,
        absorbs=True,
        rotary=FLOAT32,
        towers=towers,
        hopper=HOPPER,
        blackwell=BLACKWELL,
        mixed_scale=r.mixed_scale_blackwell if major == DATA_CENTRE else r.mixed_scale,
        lora_source="sglang srt/lora/mem_pool.py",
        uneven_seen="sglang srt/distributed/utils.py, ensure_divisibility: is not divisible by",
    )

"""Weights that stay in host memory: `--cpu-offload-gb` of each rank.

    which      tensors of the decoder's layers in their order, until the bytes are reached: the last
               one may go beyond them
    a step     a layer that has some copies them to the card, and lets them go when it is done

So a card has room for one layer's at any moment, beside what stays on it. Layers are made on the
card and moved one by one, so that loading takes no more.

Source: sglang 0.5.14 srt/utils/offloader.py (OffloaderV1), 0.4.6 srt/utils.py
(maybe_offload_to_cpu).
"""

from collections import defaultdict

from weighbridge.components.weights import PlacedTensor
from weighbridge.engines.servers.shards import Rank
from weighbridge.memory import Bytes, Component, exactly
from weighbridge.units import GIB

SOURCE = "sglang srt/utils/offloader.py (OffloaderV1)"
Tensors = tuple[PlacedTensor, ...]


def shared_out(rank: Rank, gib: float | None) -> tuple[Tensors, int, tuple[Component, ...]]:
    """(tensors that stay on the device, bytes that do not, what a layer brings back for a while)"""
    limit = round((gib or 0) * GIB)
    stays: list[PlacedTensor] = []
    away: dict[str, int] = defaultdict(int)
    for t in rank.tensors:
        layer = next((p for p in t.module.split(".") if p.isdigit()), "")
        if layer and t.component == "weights" and sum(away.values()) < limit:
            away[layer] += t.nbytes * t.copies
        else:
            stays.append(t)
    if not away:
        return rank.tensors, 0, ()
    moved = Component(
        name="temporaries",
        bytes=exactly(max(away.values())),
        basis="computed",
        detail="offloaded weights of a layer, while it runs",
        formula="the layer with the most of them, copied to the device for its step",
        source=SOURCE,
    )
    return tuple(stays), sum(away.values()), (moved,)


def on_the_host(nbytes: int) -> Component:
    """Pinned blocks, which torch rounds up to powers of two."""
    return Component(
        name="weights",
        bytes=Bytes(nbytes, 3 * nbytes // 2, 2 * nbytes),
        basis="assumed",
        detail="offloaded",
        formula="each tensor in a pinned block, rounded up to a power of two",
        source=f"{SOURCE}; torch ATen/core/CachingHostAllocator.h",
    )

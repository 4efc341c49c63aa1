"""Sleep mode: what loading frees, and what vLLM takes for used all the same.

Weights are made in a pool of their own. When loading ends, vLLM unmaps every segment of that pool
in which nothing is left, and torch goes on counting it as reserved. Since 0.10 the profile reckons

    outside torch = used - reserved

so that it comes out too small by what was unmapped, and the cache is made larger by as much. A
tensor that is made and freed whole while loading is thus beyond the share of the card:

    tied heads    classes that make a head and tie it afterwards (FREED) free a whole one; others
                  (SHARED) take the embedding for it at once
    repacking     packed weights are replaced by the layout of their kernel. Replaced tensors serve
                  the next layer's, so one layer's are left; a 70B in AWQ had 2 GiB more of cache
                  with sleep mode than without (vllm-project/vllm issue 40256)
    pool          buffers that are made in the pool after weights were measured, and its segments.
                  No rule is known. Language models had up to 0.2 GiB that nothing else explains,
                  and Gemma 4 E2B and E4B, which see and hear, 610 to 690 MiB alike, by 35 layers
                  and by 42 (AgileRL/AgileRL, tools/memory_profiling)

Source: vllm 0.26 device_allocator/cumem.py (use_memory_pool), utils/mem_utils.py
(memory_profiling), model_executor/models/; v1/worker/gpu_worker.py of 0.14 to 0.17 (load_model).
"""

from weighbridge.arch.model_types import facts
from weighbridge.arch.roles import VOCAB, role_of
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import weights
from weighbridge.engines.vllm.effective import VllmLaunch
from weighbridge.engines.vllm.sampling import padded
from weighbridge.engines.vllm.weights import of_layers
from weighbridge.memory import Bytes, Component, exactly, total
from weighbridge.units import GIB, MIB, ceil_div

LAYERS = 5  # of packed weights at most: a 70B in four bits has 0.43 GiB a layer
POOL, POOL_WITH_TOWERS = Bytes(0, 0, 200 * MIB), Bytes(0, GIB // 2, GIB)
POOL_WITH_SLICES = Bytes(490 * MIB, 640 * MIB, 790 * MIB)  # Gemma 4 E2B and E4B
NONE = exactly(0)
SOURCE = "vllm device_allocator/cumem.py, utils/mem_utils.py"


def asleep(subject: Subject, rank: Rank, launch: VllmLaunch) -> tuple[Component, ...]:
    """Bytes of this rank that sleep mode puts beyond the share of the card."""
    if not launch.sleeps:
        return ()
    pool = Component(
        name="other",
        bytes=_pool(subject),
        basis="assumed",
        detail="the pool of sleep mode",
        formula="its segments, and buffers that are made in it after weights were measured",
        source="NVML beside vLLM 0.23 and 0.26 (AgileRL/AgileRL, tools/memory_profiling)",
    )
    if not launch.rules.phantom:
        return (pool,)
    phantom = Component(
        name="other",
        bytes=total((_head(subject, rank, launch), _repacked(subject, rank))),
        basis="computed" if facts(subject.model_type).vllm.tied_head else "assumed",
        detail="freed while loading, and given to the cache",
        formula="a head that is made and then tied, weights that are packed anew: vLLM takes free "
        "memory of its pool for used by torch",
        source=SOURCE,
    )
    return (pool, phantom) if phantom.bytes.high else (pool,)


def _pool(subject: Subject) -> Bytes:
    if not subject.body.towers:
        return POOL
    return POOL_WITH_SLICES if weights.elements_through(subject) else POOL_WITH_TOWERS


def _head(subject: Subject, rank: Rank, launch: VllmLaunch) -> Bytes:
    """Return the bytes of an output layer that was made, then freed because it was tied. A class
    that was not read does one or the other."""
    head = facts(subject.model_type).vllm.tied_head
    if not rank.last or head == "shared" or not _tied(subject):
        return NONE
    body = subject.body
    rows = ceil_div(padded(body.vocab), launch.tensor)
    nbytes = int(subject.choice.dtype.size(rows * body.hidden))
    return exactly(nbytes) if head == "freed" else Bytes(0, nbytes // 2, nbytes)


def _tied(subject: Subject) -> bool:
    return any(p.tied and role_of(p) in VOCAB for p in subject.part.blueprint.counted)


def _repacked(subject: Subject, rank: Rank) -> Bytes:
    """Weights of layers that were replaced, where they are packed."""
    if subject.choice.scheme is None and not subject.part.packed:
        return NONE
    layers = max(1, len(rank.layers))
    each = sum(t.nbytes * t.copies for t in of_layers(rank)) // layers
    return Bytes(0, each, LAYERS * each)

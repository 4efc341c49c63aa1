"""Memory that vLLM's count of torch misses: kernels' own, NCCL's, and what sleep mode unmaps.

    growth        non-torch increase, from the first free-memory snapshot to the end of profiling
    talking       NCCL communicators, before that snapshot
    sleep mode    what loading frees, and vLLM still takes for used

Growth, by release:

    to 0.16      kernels of the model and of a sampler that sorts: 0.13 GiB on an H100, 0.16 before
                 0.11; 0.04 (12 GB card), 0.05 (T4), 0.08 (48 GB) and 0.34 (95 GB Blackwell)
    always       0.07 GiB of the model's kernels on a rank that does not sample
    to 0.20      kernels of the model; and the local memory
                 of one kernel for top-k and top-p. One log of 0.17 is still 0.13
    from 0.21    FlashInfer samples, which has no such memory; no log is published. Seven engines of
                 0.26 on an H100 (torch 2.11 for CUDA 13, driver 580) grew by 230 MiB, but 238 with
                 gpt-oss in MXFP4 and 246 with Qwen3-30B-A3B: eager or captured, dense, with experts
                 or MLA, with FlashInfer's sampler or torch's (our own runs)

Local memory: what a kernel's registers do not hold is on its thread's stack, and as long as the
context lives the driver keeps room for every thread that can be resident:

    bytes per thread x multiprocessors x resident threads per multiprocessor

The vocabulary is a constant of that kernel and the distance between its rows. If it is odd, rows
are not aligned and are read element by element, which spills more. Compiled by Triton 3.6 for
vocabularies of 32,016 to 262,208, its stack is 736 to 880 bytes on Hopper, 848 to 1,056 on A100 and
880 on Ada; 1,888, 2,824 and 1,864 for odd vocabularies. 26 logs of 0.19 on an H100 are 0.24 to 0.27
GiB, and Granite's, whose vocabulary is odd, 0.46: seven eighths of that rule.

Source: vllm 0.17 to 0.23 v1/sample/ops/topk_topp_triton.py, topk_topp_sampler.py, v1/worker/
gpu_worker.py; jgchn/llm-d-planner, accuracy/results; CUDA C++ programming guide (local memory).
"""

from collections.abc import Mapping

from weighbridge.base.memory import Bytes, Component, exactly, total
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import GIB, MIB, ceil_div
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers.communication import Collectives, linked
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import ENGINE, hardware, weights
from weighbridge.engines.vllm.effective import VllmLaunch
from weighbridge.engines.vllm.profile import FEW, padded
from weighbridge.engines.vllm.rules import VllmRules
from weighbridge.engines.vllm.weights import of_layers
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.chips import SWITCHED as SWITCHED_CHIPS
from weighbridge.machines.accelerators.parts import chip_of
from weighbridge.machines.accelerators.seen import Card, fact
from weighbridge.models.arch.model_types import facts
from weighbridge.models.arch.roles import VOCAB, role_of

SORTING = Bytes(40 * MIB, 130 * MIB, GIB // 4)
MODEL = Bytes(40 * MIB, 75 * MIB, 128 * MIB)  # a rank that does not sample
HOPPER = Bytes(
    180 * MIB, 230 * MIB, 300 * MIB
)  # since 0.21: 230 to 246 as measured, a fifth around
UNREAD = Bytes(40 * MIB, 130 * MIB, 352 * MIB)  # since 0.21, on other cards
HELD, EIGHTHS = (6, 7, 8), 8  # eighths of the rule: low, expected, high
COMMUNICATOR = Bytes(400 * MIB, 520 * MIB, 640 * MIB)
UNKNOWN = Bytes(12 * MIB, 520 * MIB, 640 * MIB)  # without a named card
# MiB beyond the first communicators, by ranks, on cards with an NVLink switch: low, expected, high
SWITCHED = {2: (1500, 1780, 2300), 4: (1500, 1930, 2600), 8: (1500, 2150, 3400)}
PLAIN = (40, 160, 560)
# vLLM 0.11 grew by 0.55 GiB outside torch at two H100 with FP8, 0.13 of it kernels (one log). Its
# compiler does not fuse sums of ranks with what follows; later ones do, and keep a workspace.
UNFUSED = (300, 430, 2300)
SCATTER = 16 * MIB


class ThreadStack(NamedTuple):
    """Stack bytes per thread, for aligned and for odd rows of logits."""

    aligned: Bytes
    odd: int


STACKS: Mapping[tuple[int, int], ThreadStack] = {
    (8, 0): ThreadStack(Bytes(848, 950, 1056), 2824),
    (8, 9): ThreadStack(Bytes(800, 880, 960), 1864),
    (9, 0): ThreadStack(Bytes(736, 800, 880), 1888),
}
OTHER = ThreadStack(Bytes(736, 850, 1056), 2824)
ALIGNED = 4  # elements: 16 bytes of float32


def growth(launch: VllmLaunch, rank: Rank, vocabulary: int, card: Card) -> Bytes:
    """Return the non-torch increase of one rank in bytes, without communicators."""
    if not rank.last or launch.pooling:
        return MODEL
    if launch.rules.sampler == "sort":
        return SORTING
    if launch.rules.sampler == "flashinfer":
        return HOPPER if hardware.hopper(card) else UNREAD
    if launch.sequences < FEW:
        return MODEL
    with_kernel = MODEL.plus(local_memory(vocabulary, card))
    if not launch.rules.kernel_of_samples:
        return Bytes(SORTING.low, SORTING.expected, with_kernel.high)
    return with_kernel


def local_memory(vocabulary: int, card: Card) -> Bytes:
    """Return the bytes that the driver keeps for stacks of the sampling kernel."""
    return _stacks(card, vocabulary)


@fact
def _stacks(budget: Budget | None, vocabulary: int) -> Bytes:
    threads = chip_of(budget.choice.part if budget else None).resident
    thread = stack_bytes(vocabulary, hardware.capability(budget))
    shares = zip(thread, HELD, strict=True)
    return Bytes(*(nbytes * threads * share // EIGHTHS for nbytes, share in shares))


def stack_bytes(vocabulary: int, capability: tuple[int, int]) -> Bytes:
    """Return stack bytes per thread. Even vocabularies not divisible by 4 may be either."""
    aligned, odd = STACKS.get(capability, OTHER)
    if vocabulary % 2:
        return Bytes(odd, odd, odd)
    return aligned if vocabulary % ALIGNED == 0 else aligned._replace(high=odd)


# NCCL communicators, which are outside vLLM's budget since 0.11
#
# One communicator per group of ranks, and torch's own: 2 with tensor parallelism, and one more each
# with experts (a group of the same ranks), with a pipeline, with data-parallel replicas. What the
# first collectives open later is in `engines/servers/communication.py`, and inside the budget.
#
# No source gives a size, so it is assumed: vLLM 0.19 on 2 and 4 H100 held 1.02 and 1.04 GiB beside
# the context with dense models, 1.50 and 1.56 with experts (jgchn/llm-d-planner): 0.51 each. Cards
# of other generations by NCCL's own channels (kernels/nccl.py).
#
# Source: vllm 0.33 distributed/parallel_state.py (initialize_model_parallel).


def collectives(rules: VllmRules) -> Collectives:
    """Return the collectives of this release, opened after the first free-memory snapshot."""
    return Collectives(
        engine=ENGINE.name,
        switched=SWITCHED,
        plain=PLAIN,
        most=None if rules.fuses else UNFUSED,
        scatter=SCATTER if rules.scatters else 0,
        always_experts=True,
        symmetric=True,
    )


def first_communicators(launch: VllmLaunch, card: Card, *, experts: bool) -> Bytes:
    if launch.tensor * launch.pipeline * launch.data == 1:
        return exactly(0)
    groups = 2 * (launch.tensor > 1) + (launch.pipeline > 1) + (launch.data > 1)
    count = max(2, groups + (experts and launch.tensor * launch.data > 1))
    return Bytes(*(count * b for b in _communicator(card)))


@fact
def _communicator(budget: Budget | None) -> Bytes:
    if budget is None:
        return UNKNOWN
    part = budget.choice.part
    return COMMUNICATOR if part.capability in SWITCHED_CHIPS else linked(part)


# Sleep mode: what loading frees, and what vLLM still takes for used.
#
# Weights are allocated in a separate pool. When loading ends, vLLM unmaps every segment of that
# pool that is empty, but torch still counts it as reserved. Since 0.10 the profile computes
#
#     outside torch = used - reserved
#
# so that it comes out too small by what was unmapped, and the KV cache becomes larger by as much. A
# tensor that is allocated and freed entirely while loading is thus beyond the budget:
#
#     tied heads    classes that make a head and tie it afterwards (FREED) free a whole one; others
#                   (SHARED) use the embedding for it at once
#     repacking     quantized weights are replaced by the layout of their kernel. Replaced tensors
#                   serve the next layer's, so one layer's are left; a 70B in AWQ had 2 GiB more of
#                   cache with sleep mode than without (vllm-project/vllm issue 40256)
#     pool          buffers that are made in the pool after weights were measured, and its segments.
#                   No rule is known. Language models had up to 0.2 GiB that nothing else explains,
#                   and Gemma 4 E2B and E4B, which see and hear, 610 to 690 MiB alike, by 35 layers
#                   and by 42 (AgileRL/AgileRL, tools/memory_profiling)
#
# Source: vllm 0.26 device_allocator/cumem.py (use_memory_pool), utils/mem_utils.py
# (memory_profiling), model_executor/models/; v1/worker/gpu_worker.py of 0.14 to 0.17 (load_model).

LAYERS = 5  # repacked layers at most: a 70B in four bits has 0.43 GiB per layer
POOL, POOL_WITH_TOWERS = Bytes(0, 0, 200 * MIB), Bytes(0, GIB // 2, GIB)
POOL_WITH_SLICES = Bytes(490 * MIB, 640 * MIB, 790 * MIB)  # Gemma 4 E2B and E4B
NONE = exactly(0)
SOURCE = "vllm device_allocator/cumem.py, utils/mem_utils.py"


def asleep(subject: Subject, rank: Rank, launch: VllmLaunch) -> tuple[Component, ...]:
    """Return the memory of this rank that sleep mode puts outside the budget."""
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
        passing=True,
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
    """Return the bytes of an output layer that was allocated, then freed because it is tied. A
    class that was not read may do either."""
    head = facts(subject.model_type).vllm.tied_head
    tied = any(p.tied and role_of(p) in VOCAB for p in subject.part.blueprint.counted)
    if not rank.last or head == "shared" or not tied:
        return NONE
    body = subject.body
    rows = ceil_div(padded(body.vocab), launch.tensor)
    nbytes = int(subject.choice.dtype.size(rows * body.hidden))
    return exactly(nbytes) if head == "freed" else Bytes(0, nbytes // 2, nbytes)


def _repacked(subject: Subject, rank: Rank) -> Bytes:
    """Return the bytes of quantized weights of layers that repacking replaced."""
    if subject.choice.scheme is None and not subject.part.packed:
        return NONE
    layers = max(1, len(rank.layers))
    each = sum(t.nbytes * t.copies for t in of_layers(rank)) // layers
    return Bytes(0, each, LAYERS * each)

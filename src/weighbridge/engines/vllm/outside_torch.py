"""What grows outside torch from vLLM's first look at free memory to the end of profiling.

    to 0.16      kernels of the model and of a sampler that sorts: 0.13 GiB on an H100, 0.16 before
                 0.11; 0.04 (12 GB card), 0.05 (T4), 0.08 (48 GB) and 0.34 (95 GB Blackwell)
    always       0.07 GiB of the model's kernels on a rank that does not sample
    to 0.20      kernels of the model; and the local memory
                 of one kernel for top-k and top-p. One log of 0.17 is still 0.13
    from 0.21    FlashInfer samples, which has no such memory; no log is published

Local memory: what a kernel's registers do not hold is on the stack of its thread, and the driver
keeps room for every thread that can be resident as long as the context lives:

    bytes of a thread x multiprocessors x threads that one keeps

The vocabulary is a constant of that kernel and the distance between its rows. Where it is odd, rows
are not aligned and are read number by number, which spills more. Compiled by Triton 3.6 for
vocabularies of 32,016 to 262,208, its stack is 736 to 880 bytes on Hopper, 848 to 1,056 on A100 and
880 on Ada; 1,888, 2,824 and 1,864 where the vocabulary is odd. 26 logs of 0.19 on an H100 are 0.24
to 0.27 GiB, and Granite's, whose vocabulary is odd, 0.46: seven eighths of that rule.

Source: vllm 0.17 to 0.23 v1/sample/ops/topk_topp_triton.py, topk_topp_sampler.py, v1/worker/
gpu_worker.py; jgchn/llm-d-planner, accuracy/results; CUDA C++ programming guide (local memory).

What NCCL takes before vLLM first looks at free memory: outside its share since 0.11.

One communicator a group of ranks, and torch's own: 2 with tensor parallelism, and one more each
with experts (a group of the same ranks), with a pipeline, with replicas. What the first collectives
open later is in `engines/servers/communication.py`, and inside the share.

No source gives a size, so it is assumed: vLLM 0.19 on 2 and 4 H100 held 1.02 and 1.04 GiB beside
the context with dense models, 1.50 and 1.56 with experts (jgchn/llm-d-planner): 0.51 each. Cards of
other generations by NCCL's own channels (kernels/nccl.py).

Source: vllm 0.33 distributed/parallel_state.py (initialize_model_parallel).
"""

from collections.abc import Mapping
from typing import NamedTuple

from weighbridge.accelerators.budget import Budget
from weighbridge.accelerators.chips import SWITCHED as SWITCHED_CHIPS
from weighbridge.accelerators.parts import chip_of
from weighbridge.engines.servers.communication import Collectives, linked
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import ENGINE, hardware
from weighbridge.engines.vllm.effective import VllmLaunch
from weighbridge.engines.vllm.rules import VllmRules
from weighbridge.engines.vllm.sampling import FEW
from weighbridge.memory import Bytes, exactly
from weighbridge.units import GIB, MIB

SORTING = Bytes(40 * MIB, 130 * MIB, GIB // 4)
MODEL = Bytes(40 * MIB, 75 * MIB, 128 * MIB)  # a rank that does not sample
UNREAD = Bytes(40 * MIB, 130 * MIB, 352 * MIB)  # since 0.21
HELD, EIGHTHS = (6, 7, 8), 8  # of the rule
COMMUNICATOR = Bytes(400 * MIB, 520 * MIB, 640 * MIB)
UNKNOWN = Bytes(12 * MIB, 520 * MIB, 640 * MIB)  # no card was named
# By ranks, on cards with a switch: low, expected, high MiB beyond the first communicators
SWITCHED = {2: (1500, 1780, 2300), 4: (1500, 1930, 2600), 8: (1500, 2150, 3400)}
PLAIN = (40, 160, 560)
# vLLM 0.11 grew by 0.55 GiB outside torch at two H100 with FP8, 0.13 of it kernels (one log). Its
# compiler does not fuse sums of ranks with what follows; later ones do, and keep a workspace.
UNFUSED = (300, 430, 2300)
SCATTER = 16 * MIB


class ThreadStack(NamedTuple):
    """Bytes of a thread, by whether rows of logits are aligned."""

    aligned: Bytes
    odd: int


STACKS: Mapping[tuple[int, int], ThreadStack] = {
    (8, 0): ThreadStack(Bytes(848, 950, 1056), 2824),
    (8, 9): ThreadStack(Bytes(800, 880, 960), 1864),
    (9, 0): ThreadStack(Bytes(736, 800, 880), 1888),
}
OTHER = ThreadStack(Bytes(736, 850, 1056), 2824)
ALIGNED = 4  # numbers: 16 bytes of float32


def growth(launch: VllmLaunch, rank: Rank, vocabulary: int, budget: Budget | None) -> Bytes:
    """Bytes of one rank, communicators aside."""
    if not rank.last or launch.pooling:
        return MODEL
    if launch.rules.sampler == "sort":
        return SORTING
    if launch.rules.sampler == "flashinfer":
        return UNREAD
    if launch.sequences < FEW:
        return MODEL
    with_kernel = MODEL.plus(local_memory(vocabulary, budget))
    if not launch.rules.kernel_of_samples:
        return Bytes(SORTING.low, SORTING.expected, with_kernel.high)
    return with_kernel


def local_memory(vocabulary: int, budget: Budget | None) -> Bytes:
    """Memory that the driver keeps for stacks of the kernel."""
    threads = chip_of(budget.choice.part if budget else None).resident
    thread = stack_bytes(vocabulary, hardware.capability(budget))
    shares = zip(thread, HELD, strict=True)
    return Bytes(*(nbytes * threads * share // EIGHTHS for nbytes, share in shares))


def stack_bytes(vocabulary: int, capability: tuple[int, int]) -> Bytes:
    """Even vocabularies that are no multiple of four were not compiled: between the others."""
    aligned, odd = STACKS.get(capability, OTHER)
    if vocabulary % 2:
        return Bytes(odd, odd, odd)
    return aligned if vocabulary % ALIGNED == 0 else aligned._replace(high=odd)


# Communicators


def collectives(rules: VllmRules) -> Collectives:
    """Return the way in which this release sums over ranks, after its first look at free memory."""
    return Collectives(
        engine=ENGINE.name,
        switched=SWITCHED,
        plain=PLAIN,
        most=None if rules.fuses else UNFUSED,
        scatter=SCATTER if rules.scatters else 0,
        always_experts=True,
        symmetric=True,
    )


def first_communicators(launch: VllmLaunch, budget: Budget | None, *, experts: bool) -> Bytes:
    if launch.tensor * launch.pipeline * launch.data == 1:
        return exactly(0)
    groups = 2 * (launch.tensor > 1) + (launch.pipeline > 1) + (launch.data > 1)
    count = max(2, groups + (experts and launch.tensor * launch.data > 1))
    return Bytes(*(count * b for b in _communicator(budget)))


def _communicator(budget: Budget | None) -> Bytes:
    if budget is None:
        return UNKNOWN
    part = budget.choice.part
    return COMMUNICATOR if part.capability in SWITCHED_CHIPS else linked(part)

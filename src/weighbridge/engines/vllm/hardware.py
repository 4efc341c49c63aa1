"""What of a GPU decides vLLM's buffers: its multiprocessors, its L2 cache, its architecture.

    workspace    cuBLAS keeps 32 MiB for Hopper and Blackwell, 8.125 MiB for older parts
    processors   rows of the buffer that top-k and top-p filter in
    cache        Inductor's benchmark of a kernel overwrites the L2 cache before each run

Source: ATen/cuda/CublasHandlePool.cpp (parseChosenWorkspaceSize), torch/_inductor/runtime/
benchmarking.py (InductorBenchmarker: a buffer of L2_cache_size), vllm v1/sample/ops/
topk_topp_triton.py; accelerators/chips.py.
"""

from weighbridge.accelerators import chips
from weighbridge.accelerators.budget import Budget
from weighbridge.accelerators.chips import Chip
from weighbridge.units import KIB, MIB

NEW_CUBLAS, OLD_CUBLAS = 32 * MIB, 2 * 4096 * KIB + 8 * 16 * KIB
HOPPER = 9, 0


UNKNOWN = Chip(108, 48)  # assumed where no part is named, or none of these


def chip(budget: Budget | None) -> Chip:
    found = chips.chip(budget.choice.part.id) if budget else None
    return UNKNOWN if found is None else found


def cublas(budget: Budget | None) -> int:
    """Bytes of the workspace; the larger where the architecture is not known."""
    return NEW_CUBLAS if capability(budget) >= HOPPER else OLD_CUBLAS


def capability(budget: Budget | None) -> tuple[int, int]:
    """Hopper's where no part is named, or none of CUDA's."""
    found = budget.choice.part.capability if budget else None
    return HOPPER if found is None else found


def total(budget: Budget) -> int:
    """What `torch.cuda.mem_get_info` calls the total, which vLLM takes its share of."""
    return budget.choice.part.visible.bytes.expected


def blackwell(budget: Budget | None) -> bool:
    """A data-centre one: sm_100 to sm_109."""
    return capability(budget)[0] == 10


def splits_contexts(budget: Budget | None) -> bool:
    """FlashAttention 3 decodes on Hopper."""
    return capability(budget)[0] == HOPPER[0]


def small_for_its_memory(budget: Budget) -> bool:
    """Cards whose defaults are those of smaller ones: A100 by name, GB10 by its architecture."""
    part = budget.choice.part
    return "a100" in part.name.lower() or part.capability == (12, 1)

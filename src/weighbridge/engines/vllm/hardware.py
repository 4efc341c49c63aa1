"""What of a GPU decides vLLM's buffers: its multiprocessors, its L2 cache, its architecture.

    workspace    cuBLAS keeps 32 MiB for Hopper and Blackwell, 8.125 MiB for older parts
    processors   rows of the buffer that top-k and top-p filter in
    cache        Inductor's benchmark of a kernel overwrites the L2 cache before each run

Source: ATen/cuda/CublasHandlePool.cpp (parseChosenWorkspaceSize), torch/_inductor/runtime/
benchmarking.py (InductorBenchmarker: a buffer of L2_cache_size), vllm v1/sample/ops/
topk_topp_triton.py; processors and caches from the vendor's architecture papers.
"""

from collections.abc import Mapping
from typing import NamedTuple

from weighbridge.accelerators.budget import Budget
from weighbridge.memory import Bytes
from weighbridge.units import KIB, MIB

NEW_CUBLAS, OLD_CUBLAS = 32 * MIB, 2 * 4096 * KIB + 8 * 16 * KIB
HOPPER = 9.0


class Chip(NamedTuple):
    """`cache` in MiB."""

    processors: int
    cache: int


# By the start of the part's id, the longest that fits
CHIPS: Mapping[str, Chip] = {
    "nvidia-t4": Chip(40, 4),
    "nvidia-tesla-v100": Chip(80, 6),
    "nvidia-a10": Chip(72, 6),
    "nvidia-a10g": Chip(80, 6),
    "nvidia-a30": Chip(56, 24),
    "nvidia-a40": Chip(84, 6),
    "nvidia-rtx-a6000": Chip(84, 6),
    "nvidia-a100": Chip(108, 40),
    "nvidia-a800": Chip(108, 40),
    "nvidia-l4": Chip(58, 48),
    "nvidia-l40": Chip(142, 96),
    "nvidia-geforce-rtx-3090": Chip(82, 6),
    "nvidia-geforce-rtx-4090": Chip(128, 72),
    "nvidia-geforce-rtx-5090": Chip(170, 96),
    "nvidia-rtx-6000-ada": Chip(142, 96),
    "nvidia-rtx-pro-6000": Chip(188, 128),
    "nvidia-h100": Chip(132, 50),
    "nvidia-h100-pcie": Chip(114, 50),
    "nvidia-h800": Chip(132, 50),
    "nvidia-h20": Chip(78, 60),
    "nvidia-h200": Chip(132, 50),
    "nvidia-gh200": Chip(132, 50),
    "nvidia-b200": Chip(148, 126),
    "nvidia-gb200": Chip(148, 126),
}
# What a worker held when it had a context and nothing else: vLLM 0.19 logs on an H100
# (jgchn/llm-d-planner, "init_cuda_memory" 0.51 GiB in all 21 runs with one device).
READINGS: Mapping[str, int] = {"nvidia-h100": 522 * MIB}
UNKNOWN = Chip(108, 48)  # assumed where no part is named, or none of these


def chip(budget: Budget | None) -> Chip:
    name = budget.choice.part.id if budget else ""
    fitting = [start for start in CHIPS if name.startswith(start)]
    return CHIPS[max(fitting, key=len)] if fitting else UNKNOWN


def cublas(budget: Budget | None) -> int:
    """Bytes of the workspace; the larger where the architecture is not known."""
    return NEW_CUBLAS if capability(budget) >= HOPPER else OLD_CUBLAS


def capability(budget: Budget | None) -> float:
    found = budget.choice.part.compute_capability if budget else None
    return float(found) if found else HOPPER


def total(budget: Budget) -> int:
    """What `torch.cuda.mem_get_info` calls the total, which vLLM takes its share of."""
    return budget.choice.part.visible.bytes.expected


def blackwell(budget: Budget | None) -> bool:
    """A data-centre one: sm_100 to sm_109."""
    return int(capability(budget)) == 10


def splits_contexts(budget: Budget | None) -> bool:
    """FlashAttention 3 decodes on Hopper."""
    return int(capability(budget)) == int(HOPPER)


def small_for_its_memory(budget: Budget) -> bool:
    """Cards whose defaults are those of smaller ones: A100 by name, GB10 by its architecture."""
    part = budget.choice.part
    return "a100" in part.name.lower() or part.compute_capability == "12.1"


def context(budget: Budget | None) -> Bytes | None:
    """Of the part, where it was read; a quarter less or more under other drivers."""
    if budget is None:
        return None
    part = budget.choice.part
    read = part.context[0] * MIB if part.context else _reading(part.id)
    return Bytes(read * 3 // 4, read, read * 5 // 4) if read else None


def _reading(part: str) -> int:
    return next((n for start, n in READINGS.items() if part.startswith(start)), 0)

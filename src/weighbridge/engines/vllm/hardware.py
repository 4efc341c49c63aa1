"""GPU facts that decide vLLM's buffers: multiprocessors, L2 cache, architecture.

    multiprocessors   rows of the buffer in which top-k and top-p filter
    cache             Inductor's benchmark of a kernel overwrites the L2 cache before each run

Source: torch/_inductor/runtime/benchmarking.py (InductorBenchmarker: a buffer of L2_cache_size),
vllm v1/sample/ops/topk_topp_triton.py.
"""

from typing import Literal

from weighbridge.base.memory import Component
from weighbridge.base.records import NamedTuple
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.parts import chip_of, parts
from weighbridge.machines.accelerators.seen import fact
from weighbridge.machines.kernels.workspaces import product
from weighbridge.memory.components import device

HOPPER = 9, 0
RYZEN = "gfx115"  # architecture prefix of chips that use host memory
CACHE = 48  # MiB of L2, assumed if unknown

Scores = Literal["none", "maybe", "likely"]  # whether encoders' attention stores its scores


class KernelSizes(NamedTuple):
    """Properties of a card that kernels of a profiled step depend on: bytes of cuBLAS's workspace,
    MiB of L2 that a benchmark overwrites, processors that filter logits; 0 if not needed."""

    cublas: int
    cache: int = 0
    processors: int = 0
    scores: Scores = "none"


@fact
def context(budget: Budget | None) -> Component:
    """Return the memory that a process takes on that card outside the allocator."""
    return device.context(budget.choice.part if budget else None)


@fact
def multiprocessors(budget: Budget | None) -> int:
    """Return the number of multiprocessors; an A100's if unknown."""
    return chip_of(budget.choice.part if budget else None).multiprocessors


@fact
def cache(budget: Budget | None) -> int:
    """Return the MiB of L2."""
    chip = budget.choice.part.chip if budget else None
    return CACHE if chip is None or chip.cache is None else chip.cache


@fact
def cublas(budget: Budget | None) -> int:
    """Return the bytes of cuBLAS's workspace; the larger one for unknown architectures."""
    return product(capability(budget)[0])


@fact
def capability(budget: Budget | None) -> tuple[int, int]:
    """Return the compute capability; Hopper's without a named card, or without CUDA."""
    number = budget.choice.part.capability if budget else None
    return HOPPER if number is None else number


@fact
def shares_memory(budget: Budget | None) -> bool:
    """Return whether the device uses the machine's own memory."""
    return budget is not None and budget.choice.part.shares_host


@fact
def major(budget: Budget | None) -> int:
    """Return the major compute capability."""
    return capability(budget)[0]


@fact
def hopper(budget: Budget | None) -> bool:
    """Return whether the card is sm_90, or taken for one."""
    return capability(budget) == HOPPER


def total(budget: Budget) -> int:
    """Return the total of `torch.cuda.mem_get_info`, in bytes, of which vLLM takes its share: the
    whole card, even if the user says that others hold part of it; for chips in host memory, the
    size that the user set."""
    part = budget.choice.part
    known = parts().get(part.id, part) if part.pool is None else part
    return max(known.visible.bytes.expected, part.visible.bytes.expected)


@fact
def blackwell(budget: Budget | None) -> bool:
    """Return whether it is a data-center Blackwell: sm_100 to sm_109."""
    return capability(budget)[0] == 10


@fact
def rocm(budget: Budget | None) -> Literal["", "home", "centre"]:
    """Return whether a ROCm card is for consumers ("home") or data centers ("centre"); "" for other
    cards."""
    part = budget.choice.part if budget else None
    if part is None or part.stack != "hip":
        return ""
    return "home" if part.at_home else "centre"


@fact
def ryzen(budget: Budget | None) -> bool:
    """Return whether it is an AMD chip with a part of the host's memory."""
    return budget is not None and (budget.choice.part.compute_capability or "").startswith(RYZEN)


def small_for_its_memory(budget: Budget, *, carved: bool) -> bool:
    """Return whether vLLM's defaults are those of a smaller card: A100 by name, GB10 by
    architecture; if ROCm reports VRAM (`carved`), AMD's chips in host memory, whose VRAM is what
    the BIOS set aside, mostly less than 70 GiB."""
    part = budget.choice.part
    return "a100" in part.name.lower() or part.capability == (12, 1) or (carved and ryzen(budget))

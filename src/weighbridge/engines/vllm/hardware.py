"""Facts of a GPU that decide vLLM's buffers: its multiprocessors, its L2 cache, its architecture.

    multiprocessors   rows of the buffer that top-k and top-p filter in
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
RYZEN = "gfx115"  # architectures of chips whose memory is the host's
CACHE = 48  # MiB of L2, assumed where it is not known

Scores = Literal["none", "maybe", "likely"]  # whether attention of towers writes its scores


class KernelSizes(NamedTuple):
    """What kernels of a profiled step take of a card: bytes of the workspace of cuBLAS, MiB of L2
    that a benchmark overwrites, processors that filter logits; 0 where nothing asks for them."""

    cublas: int
    cache: int = 0
    processors: int = 0
    scores: Scores = "none"


@fact
def context(budget: Budget | None) -> Component:
    """Estimate what a process takes on that card beside the allocator."""
    return device.context(budget.choice.part if budget else None)


@fact
def multiprocessors(budget: Budget | None) -> int:
    """The count of the part; an A100's is assumed where it is not known."""
    return chip_of(budget.choice.part if budget else None).multiprocessors


@fact
def cache(budget: Budget | None) -> int:
    """MiB of L2."""
    chip = budget.choice.part.chip if budget else None
    return CACHE if chip is None or chip.cache is None else chip.cache


@fact
def cublas(budget: Budget | None) -> int:
    """Bytes of the workspace; the larger where the architecture is not known."""
    return product(capability(budget)[0])


@fact
def capability(budget: Budget | None) -> tuple[int, int]:
    """Hopper's where no part is named, or none of CUDA's."""
    number = budget.choice.part.capability if budget else None
    return HOPPER if number is None else number


@fact
def shares_memory(budget: Budget | None) -> bool:
    """Tell whether its memory is the machine's own."""
    return budget is not None and budget.choice.part.shares_host


@fact
def major(budget: Budget | None) -> int:
    """Return the first number of that."""
    return capability(budget)[0]


@fact
def hopper(budget: Budget | None) -> bool:
    """Tell whether it is of sm_90, or taken for one."""
    return capability(budget) == HOPPER


def total(budget: Budget) -> int:
    """Return the bytes that `torch.cuda.mem_get_info` calls the total, which vLLM takes its share
    of: all of a card of which less was said to be there for a process, which others hold. What a
    chip has of the memory of its host is what was set."""
    part = budget.choice.part
    known = parts().get(part.id, part) if part.pool is None else part
    return max(known.visible.bytes.expected, part.visible.bytes.expected)


@fact
def blackwell(budget: Budget | None) -> bool:
    """A data-centre one: sm_100 to sm_109."""
    return capability(budget)[0] == 10


@fact
def rocm(budget: Budget | None) -> Literal["", "home", "centre"]:
    """Tell where a card of ROCm stands: in a computer of one's own, or in a data centre; "" of
    another."""
    part = budget.choice.part if budget else None
    if part is None or part.stack != "hip":
        return ""
    return "home" if part.at_home else "centre"


@fact
def ryzen(budget: Budget | None) -> bool:
    """Tell whether it is AMD's chip with a part of the host's memory."""
    return budget is not None and (budget.choice.part.compute_capability or "").startswith(RYZEN)


def small_for_its_memory(budget: Budget, *, carved: bool) -> bool:
    """Cards whose defaults are those of smaller ones: A100 by name, GB10 by its architecture; where
    ROCm is asked for VRAM (`carved`), AMD's chips with a part of the host's memory, of which that
    is what the BIOS set aside, mostly less than 70 GiB."""
    part = budget.choice.part
    return "a100" in part.name.lower() or part.capability == (12, 1) or (carved and ryzen(budget))

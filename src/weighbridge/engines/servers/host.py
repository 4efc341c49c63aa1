"""Host memory of a server: a process per rank, pages of files, and weights kept on the host with
`--cpu-offload-gb`, per rank.

    which      parameters of the decoder layers in order, until the bytes are reached: the last one
               may exceed them
    RAM        each has a separate pinned block, which torch rounds up to a power of two, for as
               long as the server runs; releases with `pinned_max_round_threshold_mb` may round less

Source: vllm 0.33 model_executor/offloader/uva.py, 0.9 model_executor/models/utils.py
(maybe_offload_to_cpu); sglang 0.5.14 srt/utils/offloader.py (OffloaderV1); torch
ATen/core/CachingHostAllocator.h (PowerOf2Ceil). vllm-project/vllm issue 56410 measured 1.87 times
what was asked for, where the shapes say 1.86.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from weighbridge.base.memory import ONCE, Bytes, Component, Device
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import power_of_two
from weighbridge.machines.accelerators.machines import by_machine
from weighbridge.memory.components import host
from weighbridge.memory.components.weights import PlacedTensor
from weighbridge.models.checkpoint.model import Model

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

T = TypeVar("T")
OFFLOADED = "offloaded"


class PinnedWeights(NamedTuple):
    """Bytes of offloaded parameters (`nbytes`), and of the pinned blocks that hold them."""

    nbytes: int = 0
    blocks: int = 0

    def times(self, ranks: int) -> "PinnedWeights":
        """Return the sum over `ranks` equal ranks."""
        return PinnedWeights(self.nbytes * ranks, self.blocks * ranks)


def together(parts: Iterable[PinnedWeights]) -> PinnedWeights:
    """Return the sum of all parts, tensors or ranks."""
    every = tuple(parts)
    return PinnedWeights(sum(one.nbytes for one in every), sum(one.blocks for one in every))


def of_tensors(tensors: Iterable[PlacedTensor]) -> PinnedWeights:
    """Return the host memory of tensors, with a pinned block per copy."""
    return together(
        PinnedWeights(t.nbytes, power_of_two(t.nbytes)).times(t.copies) for t in tensors
    )


def taken(tensors: Iterable[PlacedTensor], limit: int) -> list[PlacedTensor]:
    """Return the layers' parameters that are offloaded, in order, until they are `limit` bytes or
    more."""
    away: list[PlacedTensor] = []
    for t in tensors:
        if limit <= 0:
            break
        if t.component == "weights" and layer_of(t):
            away.append(t)
            limit -= t.nbytes * t.copies
    return away


def layer_of(tensor: PlacedTensor) -> str:
    """Return the number of a tensor's layer; "" for embeddings, the last norm and the head."""
    return next((part for part in tensor.module.split(".") if part.isdigit()), "")


def offloaded(ranks: Iterable[PinnedWeights], source: str) -> tuple[Component, ...]:
    """Return the component of offloaded parameters on a machine, for all of its ranks."""
    away = together(ranks)
    component = Component(
        name="weights",
        bytes=Bytes(away.nbytes, away.blocks, away.blocks),
        basis="computed",
        detail=OFFLOADED,
        formula="each tensor in a pinned block, rounded up to a power of two",
        source=f"{source}; torch ATen/core/CachingHostAllocator.h",
    )
    return (component,) if away.nbytes else ()


def fullest(
    ranks: Sequence[T], budget: "Budget | None", machine: Callable[[Sequence[T]], Device]
) -> Device:
    """Return the host of the machine that holds most, over the ranks of all replicas."""
    machines = map(machine, by_machine(ranks, budget))
    return max(machines, key=lambda device: device.peak("driver").expected)


def processes(nbytes: Bytes, formula: str) -> Component:
    """Return the component of a machine's processes, without what they load."""
    return Component(
        name="other",
        bytes=nbytes,
        basis="assumed",
        role=ONCE,
        detail="processes",
        formula=formula,
        source="no rule is published",
    )


def files(model: Model, loaded: int, source: str) -> Component:
    """Return the pages of a model's files; `loaded` are its weights, if file sizes are unknown."""
    stored = sum(t.nbytes for part in model.parts for t in part.stored)
    return host.pages(stored or loaded, source=source)

"""What the device holds once the weights are on it: tensors, the allocator's share, the context."""

from collections.abc import Callable, Iterable, Sequence

from weighbridge.allocator import Allocator
from weighbridge.components.weights import Placed, total
from weighbridge.memory import Basis, Bytes, Component, Phase, exactly
from weighbridge.units import MIB

# What a process that has touched the GPU holds outside the allocator: published readings go from
# 226 MiB (L4) and 256 (RTX 3090) to 501 (A100) and 616 (a data-centre node), all with lazy loading
# of kernels. No source gives a rule: the driver decides.
CONTEXT = Bytes(200 * MIB, 450 * MIB, 650 * MIB)
REPLAY = "c10/cuda/CUDACachingAllocator.cpp, replayed tensor by tensor"
Order = Callable[[Iterable[tuple[str, Placed]]], Iterable[Placed]]  # of (module, tensor)


def loaded(tensors: Sequence[Placed], *, formula: str, basis: Basis, order: Order | None) -> Phase:
    """The load phase, tensors placed in the engine's `order`. Without one they come in their own,
    after one block of all their bytes: transformers' `caching_allocator_warmup`."""
    weights, buffers = total(tensors, "weights"), total(tensors, "buffers")
    allocator = replay(tensors, order)
    components = (
        Component(
            name="weights",
            bytes=exactly(weights),
            basis=basis,
            formula=formula,
            source="file headers" if basis == "read" else "the class's tensors",
        ),
        Component(
            name="buffers",
            bytes=exactly(buffers),
            basis="computed",
            formula="tensors that modules hold and do not train",
            source="the class's register_buffer calls",
        ),
        Component(
            name="rounding",
            bytes=exactly(allocator.allocated - weights - buffers),
            basis="computed",
            formula="blocks of 512 bytes, and remainders too small to split off",
            source=REPLAY,
        ),
        Component(
            name="fragmentation",
            bytes=exactly(allocator.reserved - allocator.allocated),
            basis="computed",
            formula="free room in segments of 2 MiB, 20 MiB or a tensor's own",
            source=REPLAY,
        ),
        context(),
    )
    return Phase("load", tuple(c for c in components if c.bytes.high))


def context() -> Component:
    return Component(
        name="context",
        bytes=CONTEXT,
        basis="assumed",
        formula="CUDA context and kernels; published readings are 226 to 616 MiB",
        source="GPU, driver and versions decide",
    )


def rough(weights: int) -> Phase:
    """A bare size. Names round: "7B" models have 6.7 to 7.7 billion parameters."""
    tenth = weights // 10
    guess = Component(
        name="weights",
        bytes=Bytes(weights - tenth, weights, weights + tenth),
        basis="assumed",
        formula="the size as it was typed, a tenth more or less",
        source="what models called 7B hold",
    )
    return Phase("load", (guess, context()))


def in_one_buffer(weights: int, *, formula: str, basis: Basis) -> Phase:
    """llama.cpp asks the driver for one buffer a device, so nothing is rounded or fragmented."""
    held = Component(
        name="weights",
        bytes=exactly(weights),
        basis=basis,
        formula=formula,
        source="file headers" if basis == "read" else "the class's tensors",
    )
    return Phase("load", (held, context()))


def replay(tensors: Sequence[Placed], order: Order | None) -> Allocator:
    """The allocator after all tensors are placed."""
    allocator = Allocator()
    if order is None:
        allocator.free(allocator.malloc(sum(t.nbytes for t in tensors)))
        placed: Iterable[Placed] = tensors
    else:
        placed = order((t.module, t) for t in tensors)
    for t in placed:
        allocator.malloc(t.nbytes)
    return allocator

"""Memory of a device once the weights are on it: tensors, the allocator's share, the context.

    context(part)     what a process that has touched the GPU holds outside the allocator

        measured      on such a part; a fifth less or more under another driver
        computed      multiprocessors x resident threads x 1 KiB of stack, and 272 MiB on parts with
                      HBM, 136 on others: a quarter less or more
        unknown       200 to 650 MiB

The four published readings that name their part are within 3 % of the computed bytes: A100 501 MiB
(488), H100 522 (536), L4 226 (223), RTX 3090 256 (259); 616 MiB were read on a node of eight data
center cards. All are with lazy loading of kernels (CUDA 11.7 and newer).

    libraries(torch)        kernels loaded outside the context, when they are first used

        lazy         from torch 1.13 on, which sets CUDA_MODULE_LOADING=LAZY: what cuBLAS, cuDNN and
                     attention use. 240 MiB for a training step and 168 for inference, text and
                     pictures alike, over the 518 of an H100's context in 94 of 95 runs (our own:
                     torch 2.11, CUDA 13, driver 580); 940 MiB over the context of an A100
                     (itu-rad/GPUMemNet, perceptrons: 1,429 in nvidia-smi)
        eager        before: all of torch's kernels as well. 690 MiB on a Titan V (pytorch#28394:
                     1,008 less the 320 of another library), 380 between the two ways on one card
                     (pytorch#86509), 1,488 and 879 in all (pytorch#49877)

For other chips, and per library, no measured bytes are published: those are assumed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from weighbridge.base.memory import ONCE, Basis, Bytes, Component, Instant, exactly
from weighbridge.base.records import dataclass
from weighbridge.base.units import KIB, MIB
from weighbridge.machines.allocator.filling import Filling
from weighbridge.memory.components.weights import FormatChoice, PlacedTensor, together, total

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

CONTEXT = Bytes(200 * MIB, 450 * MIB, 650 * MIB)  # if the part is not known
LAZY_SINCE = (1, 13)  # of torch
# Compute capability -> MiB of a training step (True) and of inference; others have TRAINED's width
READ: Mapping[tuple[int, int], Mapping[bool, int]] = {(9, 0): {True: 240, False: 168}}
TRAINED, EAGER = Bytes(64 * MIB, 240 * MIB, 960 * MIB), Bytes(320 * MIB, 690 * MIB, 1200 * MIB)
GENERATED = Bytes(64 * MIB, 168 * MIB, 384 * MIB)
ASPECT = 128  # width / layers: estimate/rough.py
WORDS = 152_064  # vocabulary of Qwen2.5, of the largest; Gemma's 256,000 are one tied table
STACK = KIB  # bytes per thread: cudaLimitStackSize
BASE, OTHER_BASE = 272 * MIB, 136 * MIB  # for parts with HBM, for others
RECKONED_SINCE = (7, 0)  # compute capability: no older one was read with lazy loading
PLAIN_ROOM, PLAIN_SHARE = 256 * MIB, 0.05  # most free room in the loads that were measured
OPEN = 20 * MIB  # kLargeBuffer: the segment for blocks from 1 to 10 MiB
REPLAY = "c10/cuda/CUDACachingAllocator.cpp, replayed tensor by tensor"
Order = Callable[
    [Iterable[tuple[str, PlacedTensor]]], Iterable[PlacedTensor]
]  # of (module, tensor)


@dataclass(frozen=True, slots=True)
class Settled:
    """Bytes of tensors on a device, and what the allocator allocates and reserves for them."""

    weights: int
    buffers: int
    allocated: int
    reserved: int

    @property
    def rounding(self) -> int:
        return self.allocated - self.weights - self.buffers

    @property
    def free(self) -> int:
        return self.reserved - self.allocated


def settled(tensors: Sequence[PlacedTensor], order: Order | None) -> Settled:
    """Return the bytes after all tensors are placed in `order`. If None, they are placed in their
    own order after one block of all their bytes was freed: transformers'
    `caching_allocator_warmup`."""
    filled = replay(tensors, order)
    return Settled(
        weights=total(tensors, "weights"),
        buffers=total(tensors, "buffers"),
        allocated=filled.allocated,
        reserved=filled.reserved,
    )


def loaded(settled: Settled, *, formula: str, basis: Basis, part: "Part | None" = None) -> Instant:
    """Return the load phase: the tensors, the allocator's overhead, the context."""
    components = (
        Component(
            name="weights",
            bytes=exactly(settled.weights),
            basis=basis,
            formula=formula,
            source="file headers" if basis == "read" else "the class's tensors",
        ),
        Component(
            name="buffers",
            bytes=exactly(settled.buffers),
            basis="computed",
            formula="tensors that modules hold and do not train",
            source="the class's register_buffer calls",
        ),
        rounding(settled.rounding),
        fragmentation(_unused(settled)),
        context(part),
    )
    return Instant("load", tuple(c for c in components if c.bytes.high))


def _unused(settled: Settled) -> Bytes:
    """Return the unused bytes in the weights' segments. Above the largest measured, they may be
    less: that depends on the order in which tensors arrive."""
    usual = max(PLAIN_ROOM, int(PLAIN_SHARE * settled.allocated))
    return Bytes(settled.free if settled.free <= usual else 0, settled.free, settled.free)


def rounding(nbytes: int) -> Component:
    """Return the component of bytes by which blocks are larger than their tensors."""
    return Component(
        name="rounding",
        bytes=exactly(nbytes),
        basis="computed",
        formula="blocks of 512 bytes, and remainders too small to split off",
        source=REPLAY,
    )


def fragmentation(free: Bytes, when: str = "") -> Component:
    """Return `free`, unused bytes in segments, as a component; `when`: the condition without
    any."""
    return Component(
        name="fragmentation",
        bytes=free,
        basis="computed",
        formula="free room in segments of 2 MiB, 20 MiB or a tensor's own" + when,
        source=REPLAY,
    )


def cached(free: int, passing: int = 0) -> Bytes:
    """Return the bytes of cached blocks, `free` by the replay. torch releases them before it fails;
    another order of blocks leaves one more segment open, also for a short-lived block of `passing`
    bytes."""
    return Bytes(0, free, free + OPEN + passing) if free else exactly(0)


def context(part: "Part | None" = None) -> Component:
    """Return the context: what a torch process takes on `part` outside the allocator. Only CUDA and
    ROCm have contexts; other chips have a runtime."""
    if part is not None and part.stack == "own":
        return Component(
            name="other",
            detail=f"{part.vendor}'s runtime",
            bytes=CONTEXT,
            basis="assumed",
            formula="its runtime and compiled kernels: no reading is published, so as CUDA's",
            source="GPU, driver and versions decide",
            role=ONCE,
        )
    if part is not None and part.context:
        mib, source = part.context
        return _context(_around(mib * MIB, 5), "measured", f"{mib} MiB were read", source)
    reckoned = None if part is None else _reckoned(part)
    if reckoned is None:
        formula = "published readings are 226 to 616 MiB"
        hip = part is not None and part.stack == "hip"
        decided = "GPU, driver and versions decide"
        return _context(CONTEXT, "assumed", formula, decided, library="HIP" if hip else "CUDA")
    formula = "a stack of 1 KiB for every resident thread, and what the driver takes beside"
    return _context(
        _around(reckoned, 4), "assumed", formula, "four published readings agree in 3 %"
    )


def kernels(
    torch: tuple[int, ...], part: "Part | None", *, training: bool = True
) -> tuple[Component, ...]:
    """Return `libraries` as a tuple; () if the part has no context."""
    contextless = part is not None and part.stack == "own"
    return () if contextless else (libraries(torch, part, training=training),)


def libraries(
    torch: tuple[int, ...], part: "Part | None" = None, *, training: bool = True
) -> Component:
    """Return the bytes of libraries' kernels that are loaded while a model trains or runs."""
    eager = torch < LAZY_SINCE
    hip = part is not None and part.stack == "hip"
    named = "rocBLAS, MIOpen, attention" if hip else "cuBLAS, cuDNN, attention"
    read = READ.get((part and part.capability) or (0, 0), {}).get(training)
    lazy = TRAINED if training else GENERATED
    if read:  # half to twice as much with other drivers and torch
        lazy = Bytes(read * MIB // 2, read * MIB, 2 * read * MIB)
    return Component(
        name="context",
        detail="kernels of libraries",
        bytes=lazy.plus(EAGER) if eager else lazy,
        basis="measured" if read and not eager else "assumed",
        formula=f"loaded when they are first used: {named}"
        + (", and all of torch's own at once, before 1.13" if eager else ""),
        source="pytorch/pytorch issues 28394, 49877, pull 86509; itu-rad/GPUMemNet; an H100",
        role=ONCE,
    )


def _reckoned(part: "Part") -> int | None:
    chip = part.chip
    if chip is None or part.kind != "gpu" or chip.capability < RECKONED_SINCE:
        return None
    base = BASE if chip.hbm else OTHER_BASE
    return base + chip.resident * STACK


def _around(nbytes: int, share: int) -> Bytes:
    return Bytes(nbytes - nbytes // share, nbytes, nbytes + nbytes // share)


def _context(
    nbytes: Bytes, basis: Basis, formula: str, source: str, *, library: str = "CUDA"
) -> Component:
    return Component(
        name="context",
        bytes=nbytes,
        basis=basis,
        formula=f"{library} context and kernels: {formula}; other drivers differ",
        source=source,
        role=ONCE,
    )


def rough(weights: int, part: "Part | None" = None, *, alone: int = 0) -> Instant:
    """Return the load phase of a bare size such as "7B", which models of 6.7 to 7.7 billion
    parameters have. `alone`: further bytes if the format leaves embedding and head in 16 bits."""
    tenth = weights // 10
    guess = Component(
        name="weights",
        bytes=Bytes(weights - tenth, weights, weights + tenth + alone),
        basis="assumed",
        formula="the size as it was typed, a tenth more or less"
        + ", and words in 16 bits at most" * bool(alone),
        source="what models called 7B hold",
    )
    return Instant("load", (guess, context(part)))


def words_alone(parameters: int, choice: FormatChoice, weights: int) -> int:
    """Return the further bytes of a bare size whose format leaves embedding and head in 16 bits: at
    most two tables of the largest usual vocabulary, or half of the model."""
    if choice.scheme is None or choice.scheme.engine:
        return 0
    layers: int = max(1, round((parameters / (12 * ASPECT**2)) ** (1 / 3)))
    words = min(parameters // 2, 2 * WORDS * ASPECT * layers)
    return max(0, choice.dtype.size(words) - weights * words // max(1, parameters))


def in_one_buffer(
    weights: int, *, formula: str, basis: Basis, part: "Part | None" = None
) -> Instant:
    """Return the load phase of llama.cpp, which allocates one buffer per device: nothing is rounded
    or fragmented."""
    buffer = Component(
        name="weights",
        bytes=exactly(weights),
        basis=basis,
        formula=formula,
        source="file headers" if basis == "read" else "the class's tensors",
    )
    return Instant("load", (buffer, context(part)))


def replay(tensors: Sequence[PlacedTensor], order: Order | None) -> Filling:
    """Return an allocator with all tensors placed; callers must place no more in it."""
    freed = sum(t.nbytes * t.copies for t in tensors) if order is None else 0
    placed = tensors if order is None else order((t.module, t) for t in tensors)
    groups = ((times, tuple([t.nbytes for t in group])) for times, group in together(placed))
    return _filled(freed, tuple(groups))


@lru_cache(maxsize=8)  # serving, and each search, places the loaded weights again
def _filled(freed: int, groups: tuple[tuple[int, tuple[int, ...]], ...]) -> Filling:
    """Return an allocator with `freed` bytes cached, then filled with `groups`: (repeats, sizes of
    tensors)."""
    filled = Filling(freed=freed)
    alone: list[int] = []  # tensors that are not repeated, up to the next experts
    for times, sizes in groups:
        if times == 1:
            alone.append(sizes[0])
            continue
        filled.place(alone)
        filled.place(sizes, times)
        alone = []
    filled.place(alone)
    return filled

"""The stream on which ZeRO-3 gathers parameters: DeepSpeed's coordinator, module by module.

    fetch      the parameters of the module that runs. Several at once are gathered into one buffer
               and copied out of it; parts that wait on the host come to the card before
    prefetch   once the order of modules is known (after the first micro-batch): those of the next
               modules, until prefetch_bucket_size elements are in flight or max_live_parameters
               are whole. The last one that is taken may be of any size
    release    after the module, unless the parameter is needed again within max_reuse_distance

Nothing else takes the blocks of this stream. Parameters differ in size, and a block that was split
for smaller ones holds no embedding again: the stream reserves up to half as much again as is ever
alive. An 8B on eight H100 reserved 2.0 GiB more than all that is alive at once (tests/golden/
h100_ranks.jsonl).

Source: DeepSpeed 0.9.5 to 0.19.5 runtime/zero/partitioned_param_coordinator.py (fetch_sub_module,
__params_to_release), partition_parameters.py (all_gather_coalesced, AllGatherCoalescedHandle.wait).
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div
from weighbridge.machines.allocator import Allocator
from weighbridge.machines.allocator.blocks import Block
from weighbridge.machines.allocator.options import AllocatorOptions

REUSE = 1_000_000_000  # elements: stage3_max_reuse_distance, which the Trainer leaves alone
PASSES = 3  # one without an order, and two with it: the second reserves no more


class GatherLimits(NamedTuple):
    """DeepSpeed's limits of what is gathered at once, in elements; `hosted`: shards of parameters
    are in host memory."""

    live: int
    prefetch: int
    ranks: int
    hosted: bool
    allocator: AllocatorOptions


@lru_cache(16)  # a search repeats it with each optimizer, batch and length
def follow(
    numels: tuple[int, ...],
    sizes: tuple[int, ...],
    calls: tuple[tuple[int, ...], ...],
    limits: GatherLimits,
) -> tuple[int, int]:
    """Return (most bytes of gathered parameters, bytes that their stream reserves). `calls` are the
    modules of one forward and backward in their order, each as the indices of its parameters;
    `numels` and `sizes` are the parameters' elements and bytes."""
    stream = _GatherStream(numels, sizes, calls, limits)
    for turn in range(PASSES):
        stream.turn(ordered=turn > 0)
    return stream.most, stream.allocator.reserved


class _GatherStream:
    def __init__(
        self,
        numels: Sequence[int],
        sizes: Sequence[int],
        calls: Sequence[Sequence[int]],
        limits: GatherLimits,
    ) -> None:
        self._numels = numels
        self._sizes = sizes
        self._calls = calls
        self._limits = limits
        self.allocator = Allocator(limits.allocator)
        self._blocks: dict[int, Block | None] = {}  # blocks of gathered parameters
        self._numbers = self._nbytes = self.most = 0  # elements and bytes of gathered parameters
        # elements of the calls before each call
        self._before = [0, *accumulate(sum(numels[i] for i in call) for call in calls)]

    def turn(self, *, ordered: bool) -> None:
        ahead, prefetches = 0, ordered and self._limits.prefetch
        stays = self._stays() if ordered else [()] * len(self._calls)
        for place, call in enumerate(self._calls):
            self._gather([i for i in call if i not in self._blocks])
            if prefetches:
                ahead = self._fetch_ahead(max(ahead, place + 1))
            for i in call:
                if i not in stays[place]:
                    self._release(i)
        for i in tuple(self._blocks):
            self._release(i)

    def _stays(self) -> list[Sequence[int]]:
        """Return, for each call, the indices of parameters that are not released after it."""
        stays: list[Sequence[int]] = []
        following: dict[int, int] = {}  # elements before its next call
        for place in reversed(range(len(self._calls))):
            call, here = self._calls[place], self._before[place + 1]
            stays.append([i for i in call if following.get(i, here + REUSE) - here < REUSE])
            following |= dict.fromkeys(call, self._before[place])
        return stays[::-1]

    def _fetch_ahead(self, place: int) -> int:
        """Gather parameters of the calls from `place` on, within the limits; return the first call
        that is not gathered."""
        most = min(self._limits.live - self._numbers, self._limits.prefetch)
        wanted: list[int] = []
        numbers = 0
        while place < len(self._calls) and numbers < most:
            for i in self._calls[place]:
                if i not in self._blocks and i not in wanted:
                    wanted.append(i)
                    numbers += self._numels[i]
            place += 1
        self._gather(wanted)
        return place

    def _gather(self, places: Sequence[int]) -> None:
        take, free = self.allocator.malloc, self.allocator.free
        sizes = [self._sizes[i] for i in places]
        parts = [take(ceil_div(n, self._limits.ranks)) for n in sizes if self._limits.hosted]
        joined = take(sum(sizes)) if len(sizes) > 1 else None
        for i, nbytes in zip(places, sizes, strict=True):
            self._blocks[i] = take(nbytes)
            self._numbers += self._numels[i]
            self._nbytes += nbytes
        for block in (*parts, joined):
            free(block)
        self.most = max(self.most, self._nbytes)

    def _release(self, place: int) -> None:
        if place in self._blocks:
            self.allocator.free(self._blocks.pop(place))
            self._numbers -= self._numels[place]
            self._nbytes -= self._sizes[place]

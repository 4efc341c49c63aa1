"""Private pools: what a CUDA graph captured, or `torch.cuda.use_mem_pool` served, stays apart.

Source: struct PrivatePool, beginAllocateToPool, endAllocateToPool, releasePool and get_pool of
c10/cuda/CUDACachingAllocator.cpp.
"""

from collections.abc import Iterable, Iterator

from weighbridge.allocator.blocks import SHARED, Block, Pool, PoolId
from weighbridge.errors import UsageError

Streams = frozenset[int] | None  # None for every stream


class PrivatePool:
    __slots__ = ("large", "small", "users")

    def __init__(self, owner: PoolId) -> None:
        self.small, self.large = Pool(small=True, owner=owner), Pool(small=False, owner=owner)
        self.users = 0


class Captures:
    """All private pools, and those that serve requests now: the last one begun comes first."""

    __slots__ = ("capturing", "pools", "underway")

    def __init__(self) -> None:
        self.pools: dict[PoolId, PrivatePool] = {}
        self.underway: list[tuple[PoolId, Streams]] = []
        self.capturing: set[PoolId] = set()  # by a graph, during which the driver may not wait

    def begin(self, pool: PoolId, streams: Streams, *, capture: bool) -> None:
        if any(pool == begun for begun, _ in self.underway):
            raise UsageError(f"private pool {pool} serves requests already: end it first")
        if pool == SHARED:
            raise UsageError(f"{SHARED} is the shared pool: a private pool needs another id")
        self._pool(pool).users += 1
        self.underway.append((pool, streams))
        if capture:
            self.capturing.add(pool)

    def end(self, pool: PoolId) -> None:
        left = [entry for entry in self.underway if entry[0] != pool]
        if len(left) == len(self.underway):
            raise UsageError(f"private pool {pool} serves no requests: begin it first")
        self.underway = left
        self.capturing.discard(pool)

    def release(self, pool: PoolId) -> None:
        if pool not in self.pools or not self.pools[pool].users:
            raise UsageError(f"no graph uses a private pool {pool}")
        self.pools[pool].users -= 1

    def home(self, shared: Pool, stream: int) -> Pool:
        """Return the private counterpart of a shared pool; the shared one itself where no capture
        claims `stream`."""
        for pool, streams in reversed(self.underway):
            if streams is None or stream in streams:
                private = self._pool(pool)
                return private.small if shared.small else private.large
        return shared

    def abandoned(self) -> Iterator[PrivatePool]:
        """Return the pools of graphs that are gone."""
        return (pool for pool in self.pools.values() if not pool.users)

    def forget(self, heads: Iterable[Block]) -> None:
        """Drop abandoned pools without a segment; `heads` are the first blocks of all segments."""
        gone = {owner for owner, pool in self.pools.items() if not pool.users}
        for owner in gone - {head.pool.owner for head in heads}:
            del self.pools[owner]

    @property
    def cached(self) -> int:
        return sum(pool.small.cached + pool.large.cached for pool in self.pools.values())

    def _pool(self, owner: PoolId) -> PrivatePool:
        if owner not in self.pools:
            self.pools[owner] = PrivatePool(owner)
        return self.pools[owner]

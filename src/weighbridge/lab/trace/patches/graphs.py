"""CUDA graphs: what is captured runs once, on tensors of a stream of its own; replays do nothing.
Pools of memory (torch.cuda.MemPool) are streams as well.

The allocator keeps a capture's blocks in a pool that nothing else is served from. Blocks of one
stream are not given to another either, so a pool is a stream here. Source: c10/cuda/
CUDACachingAllocator.cpp, PrivatePool.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch.cuda import memory

from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.recorder import Recorder
from weighbridge.lab.trace.tape import Tape

Pool = tuple[int, int]
FIRST = 1 << 40  # streams of pools: no other stream has such a number


class FakeGraph:
    """torch.cuda.CUDAGraph"""

    tapes: ClassVar[Sequence[Tape]] = ()
    made = 0  # pools

    def __init__(self, keep_graph: bool = False) -> None:
        self._pool: Pool = (0, 0)
        self._before: list[int] = []

    def capture_begin(self, pool: Any = None, **_: Any) -> None:
        self._pool = handle() if pool is None else tuple(getattr(pool, "id", pool))
        self._before = [tape.stream for tape in self.tapes]
        for tape in self.tapes:
            tape.stream = FIRST + self._pool[1]

    def capture_end(self) -> None:
        for tape, stream in zip(self.tapes, self._before, strict=True):
            tape.stream = stream

    def pool(self) -> Pool:
        return self._pool

    def instantiate(self) -> None: ...
    def replay(self) -> None: ...
    def reset(self) -> None: ...
    def enable_debug_mode(self) -> None: ...
    def debug_dump(self, debug_path: str) -> None: ...


class FakePool:
    """torch.cuda.MemPool: its blocks are given to nothing else, so it is a stream as well."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.id = handle()
        self.allocator = None

    def use_count(self) -> int:
        return 1

    def snapshot(self, *_: Any, **__: Any) -> list[Any]:
        return []


def _pools(tapes: Sequence[Tape]) -> Iterator[Patch]:
    """Yield what torch.cuda.use_mem_pool calls on the way in and out, which is nested."""
    before: list[int] = []

    def begin(device: int, pool: Pool) -> None:
        before.append(tapes[device].stream)
        tapes[device].stream = FIRST + pool[1]

    def end(device: int, _: Pool) -> None:
        tapes[device].stream = before.pop()

    for owner in (torch.cuda, memory):
        yield Patch(owner, "MemPool", FakePool)
    for name in ("_cuda_beginAllocateCurrentThreadToPool", "_cuda_beginAllocateToPool"):
        yield Patch(memory, name, begin)
    yield Patch(memory, "_cuda_endAllocateToPool", end)
    yield Patch(memory, "_cuda_releasePool", lambda *_: None)


def handle() -> Pool:
    """torch.cuda.graph_pool_handle"""
    FakeGraph.made += 1
    return (0, FakeGraph.made)


def graphs(recorder: Recorder) -> Iterator[Patch]:
    captured = type("CUDAGraph", (FakeGraph,), {"tapes": recorder.tapes})
    for owner in (torch.cuda, torch.cuda.graphs):
        yield Patch(owner, "CUDAGraph", captured)
        yield Patch(owner, "graph_pool_handle", handle)
    yield from _pools(recorder.tapes)
    yield Patch(torch._C, "_host_emptyCache", lambda: None)
    yield Patch(torch.cuda.graph, "default_capture_stream", None)

"""Streams, events and generators of a device on which nothing runs, and CUDA graphs.

What a graph captures runs once, on tensors of a stream of its own; replays do nothing. Pools of
memory (torch.cuda.MemPool) are streams as well: the allocator keeps a capture's blocks in a pool
that nothing else is served from, and blocks of one stream are not given to another either. Source:
c10/cuda/CUDACachingAllocator.cpp, PrivatePool.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch.cuda import memory

from weighbridge_lab.trace.patches import Patch
from weighbridge_lab.trace.recorder import Recorder
from weighbridge_lab.trace.tape import Tape

Pool = tuple[int, int]
FIRST = 1 << 40  # numbers of pools' streams: no other stream has one as large


class FakeGraph:
    """A stand-in for torch.cuda.CUDAGraph."""

    tapes: ClassVar[Sequence[Tape]] = ()
    made = 0  # number of pools

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
    """A stand-in for torch.cuda.MemPool: its blocks serve nothing else, so it is a stream too."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.id = handle()
        self.allocator = None

    def use_count(self) -> int:
        return 1

    def snapshot(self, *_: Any, **__: Any) -> list[Any]:
        return []


def _pools(tapes: Sequence[Tape]) -> Iterator[Patch]:
    """Yield patches of what torch.cuda.use_mem_pool calls on entry and exit, which may be
    nested."""
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
    """Stand in for torch.cuda.graph_pool_handle."""
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


# Streams, events and generators


class Stream:
    """A stream whose work is done before anything could wait for it."""

    made = 0

    def __init__(self, device: Any = None, priority: int = 0, **known: Any) -> None:
        index = known.get("device_index")
        if index is None:
            index = torch.device("cuda" if device is None else device).index or 0
        self.device_index = index
        self.device = torch.device("cuda", index)
        self.device_type = 1
        self.priority = priority
        if "stream_id" in known:
            self.stream_id = known["stream_id"]
        else:
            Stream.made += 1
            self.stream_id = Stream.made
        self.cuda_stream = self.stream_id
        self._within: Any = None

    def wait_event(self, event: Any) -> None: ...
    def wait_stream(self, stream: Any) -> None: ...
    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False

    def record_event(self, event: Any = None) -> Any:
        return Event() if event is None else event

    def __enter__(self) -> "Stream":
        self._within = torch.cuda.stream(self)
        self._within.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._within.__exit__(*error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and hash(self) == hash(other)

    def __hash__(self) -> int:
        return hash((self.device_index, self.stream_id))


LEAF = (1 << 64) - 1  # the number of a node that adds to a leaf's gradient


class ForwardStreams:
    """The stream on which each autograd node runs: the one that was current when forward made it.
    torch's engine sets it for the backward of a real device (torch/csrc/autograd/engine.cpp,
    evaluate_function). Nodes are numbered as they are made, one after another."""

    def __init__(self) -> None:
        self._starts, self._streams = [0], [0]
        self._node: Any = None
        self._outside = 0  # the stream around a backward

    def note(self, stream: int) -> None:
        """Record that nodes are made on this stream from here on."""
        self._starts.append(torch._C._autograd._get_sequence_nr())
        self._streams.append(stream)

    def entered(self, now: int) -> int:
        """Return the stream of the running node if it has just begun; else `now`, the current
        one."""
        node = torch._C._current_autograd_node()
        if node is self._node:
            return now
        if self._node is None:
            self._outside = now
        self._node = node
        if node is None:
            return self._outside
        number = node._sequence_nr()
        if number == LEAF:
            return now
        return self._streams[bisect_right(self._starts, number) - 1]


class Event:
    """An event that has already happened."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self, stream: Any = None) -> None: ...
    def wait(self, stream: Any = None) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Any) -> float:
        return 0.0


GENERATOR: Any = torch.Generator
META: Any = type(GENERATOR)
STATE = 16  # bytes of a CUDA generator's state: seed and offset


class _Known(META):  # type: ignore[misc]
    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, GENERATOR)


class Generator(GENERATOR, metaclass=_Known):  # type: ignore[misc]
    """A stand-in for torch.Generator. A CPU wheel makes none for CUDA, and fake kernels do not use
    it."""

    def __new__(cls, device: Any = "cpu") -> Any:
        if torch.device(device).type != "cuda":
            return GENERATOR(device)
        return super().__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self.said = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self.said

    def get_state(self) -> torch.Tensor:
        return torch.zeros(STATE, dtype=torch.uint8)

    def set_state(self, state: torch.Tensor) -> "Generator":
        return self

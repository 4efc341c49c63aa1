"""DistributedDataParallel on fake tensors: its C++ makes the buckets, and dispatch sees them.

torch/csrc/distributed/c10d/reducer.cpp. Three places need help:

    numbers on the host   parameters are compared across ranks, and buckets arranged anew after the
                          first backward, by way of small CPU tensors that C++ reads and writes:
                          `HostMode` makes those real, and takes what comes back of the device from
                          its shadow
    the timer             a Reducer measures times with CUDA events; without a driver there are
                          none. Its registry of timers has CUDA's entry hidden while one is made
    which are used        with find_unused_parameters or a static graph, a map of small numbers is
                          sent by way of pinned memory: here it is on the host on both sides

Of torch's work on sharded tensors some is no memory of the program's, or no work here:

    shapes                DTensor finds those of results by running the operation on whole, fake
                          tensors (torch/distributed/tensor/_sharding_prop.py: ShardingPropagator).
                          It runs outside of all modes, where it makes a fake mode of its own
    checkpoints           of all ranks (torch.distributed.checkpoint) need all ranks: none is
                          written or read
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import distributed as dist
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_iter

from weighbridge_lab.trace.patches import Notes, Patch, Patches
from weighbridge_lab.trace.recorder import Recorder
from weighbridge_lab.trace.shadows import shadow

EMPTY = torch.ops.aten.empty.memory_format
REGISTRY = "_ZN4c10d13TimerRegistryEv"
CUDA, NONE = 1, 127  # c10::DeviceType
# std::unordered_map of libstdc++, in words: buckets, their number, first node, size
FIRST, SIZE = 2, 3
WORD = ctypes.sizeof(ctypes.c_void_p)


def replicas(recorder: Recorder) -> Iterator[Patch]:
    """Yield the patches of torch.distributed's bindings."""
    if not dist.is_available():
        return
    reducer = dist.Reducer
    yield Patch(reducer, "__init__", _made(reducer.__init__, recorder))
    yield Patch(reducer, "_set_static_graph", _made(reducer._set_static_graph, recorder))
    yield Patch(reducer, "_rebuild_buckets", _within(HostMode, reducer._rebuild_buckets, recorder))
    verify = _within(HostMode, dist._verify_params_across_processes, recorder)
    yield Patch(dist, "_verify_params_across_processes", verify)
    yield Patch(dist.Logger, "set_runtime_stats_and_log", lambda _: None)


class HostMode(TorchDispatchMode):  # type: ignore[misc]
    """Runs operations on the CPU for real if all their arguments are there."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _beyond(func, args, kwargs):
            with _disable_current_modes():
                return func(*args, **kwargs)
        if func is torch.ops.aten.copy_.default and not isinstance(args[0], FakeTensor):
            return _received(*args[:2])
        return _bucket(self.recorder, func, func(*args, **kwargs))


class Maps(TorchDispatchMode):  # type: ignore[misc]
    """Makes the map of used parameters on the host, even its copy for the device."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is EMPTY and kwargs.get("dtype") is torch.int32:
            kwargs = kwargs | {"device": torch.device("cpu")}
        return _bucket(self.recorder, func, func(*args, **kwargs))


def _beyond(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether an operation involves anything but real tensors on the host."""
    device = kwargs.get("device")
    if func.namespace == "c10d" or (device is not None and torch.device(device).type != "cpu"):
        return True
    return any(isinstance(t, FakeTensor) for t in tree_iter((args, kwargs)))


def _received(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    known = shadow(fake)
    with _disable_current_modes():
        return real if known is None else real.copy_(known)


def _bucket(recorder: Recorder, func: Any, out: Any) -> Any:
    if func is EMPTY and out.device.type == "cuda" and out.is_floating_point():
        recorder.mark(out, "gradient")
    return out


def _within(
    mode: Callable[[Recorder], TorchDispatchMode], inner: Callable[..., Any], recorder: Recorder
) -> Callable[..., Any]:
    def within(*args: Any, **kwargs: Any) -> Any:
        with mode(recorder):
            return inner(*args, **kwargs)

    return within


def _made(inner: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    mapped = _within(Maps, inner, recorder)

    def untimed(*args: Any, **kwargs: Any) -> Any:
        with _timers_hidden():
            return mapped(*args, **kwargs)

    return untimed


@contextmanager
def _timers_hidden() -> Iterator[None]:
    """Hide CUDA's timers inside the block by giving their entry another key. A CPU wheel has
    none."""
    keys = [key for key in _keys() if key.value == CUDA]
    for key in keys:
        key.value = NONE
    try:
        yield
    finally:
        for key in keys:
            key.value = CUDA


@cache
def _keys() -> list[ctypes.c_int8]:
    """Return the keys in c10d::TimerRegistry, in place; [] if its memory layout is unknown."""
    path = os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")
    registry = getattr(ctypes.CDLL(path), REGISTRY)
    registry.restype = ctypes.c_void_p
    words = (ctypes.c_uint64 * (SIZE + 1)).from_address(registry())
    keys: list[ctypes.c_int8] = []
    node = words[FIRST]
    while node and len(keys) < words[SIZE] <= 4:
        keys.append(ctypes.c_int8.from_address(node + WORD))
        node = ctypes.c_uint64.from_address(node).value
    return keys if not node and len(keys) == words[SIZE] else []


# Sharded tensors

UNWRITTEN = "checkpoints of all ranks (torch.distributed.checkpoint) are not written and not read"
NAMES = ("_propagate_tensor_meta", "_propagate_tensor_meta_non_cached")


def sharding(notes: Notes) -> dict[str, Patches]:
    """Return the patches of modules by name, to apply when they are imported."""
    return {
        "torch.distributed.tensor._sharding_prop": _propagation,
        "torch.distributed.checkpoint": partial(_checkpoints, notes),
    }


def _checkpoints(notes: Notes, module: Any) -> Iterator[Patch]:
    def nothing(*_: Any, **__: Any) -> None:
        notes(UNWRITTEN)

    for name in ("save", "async_save", "load"):
        yield Patch(module, name, nothing)


def _propagation(module: Any) -> Iterator[Patch]:
    for name in NAMES:
        owner = module.ShardingPropagator
        yield Patch(owner, name, _apart(getattr(owner, name)))


def _apart(inner: Callable[..., Any]) -> Callable[..., Any]:
    def apart(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return inner(*args, **kwargs)

    return apart

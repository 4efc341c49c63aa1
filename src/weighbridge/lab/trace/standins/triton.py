"""Kernels of Triton do nothing when they are launched: what they write was allocated in Python.

What they are tuned with is allocated as on a card: `do_bench` holds a buffer that clears the L2
cache, 256 MiB, while a kernel with several configurations runs for the first time.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import torch

from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.patches.arrivals import Patches
from weighbridge.units import MIB

CLEARED = 256 * MIB  # testing.do_bench, backends/nvidia/driver.py get_empty_cache_for_benchmark
REGISTERS = 65536  # of a multiprocessor, in all capabilities
WARP = 32


def table() -> dict[str, Patches]:
    return {
        "triton.runtime.jit": _launches,
        "triton.runtime.autotuner": _tuning,
        "triton.runtime.driver": _driver,
        "triton.testing": lambda module: [Patch(module, "do_bench", bench)],
    }


def _launches(module: Any) -> Iterator[Patch]:
    for name in ("run", "warmup"):
        yield Patch(module.JITFunction, name, lambda *_, **__: None)


def _tuning(module: Any) -> Iterator[Patch]:
    """Patch the tuner: it runs as it is; what it finds is forgotten, as no kernel ran."""
    run = module.Autotuner.run
    caches: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()

    def tuned(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = vars(self)
        before = dict(state)
        state.update(cache=caches.setdefault(self, {}), cache_results=False)
        state.pop("do_bench", None)  # a cached property
        try:
            return run(self, *args, **kwargs)
        finally:
            state.clear()
            state.update(before)

    yield Patch(module.Autotuner, "run", tuned)


def _driver(module: Any) -> Iterator[Patch]:
    config = module.driver
    yield Patch(config, "_active" if "_active" in vars(config) else "active", TritonDriver())


def bench(
    fn: Callable[[], Any],
    *_: Any,
    grad_to_none: Any = None,
    quantiles: Any = None,
    return_mode: str = "mean",
    **__: Any,
) -> Any:
    """Stand in for triton.testing.do_bench: it takes no time."""
    fn()
    cleared = torch.empty(CLEARED // 4, dtype=torch.int, device="cuda")
    for tensor in grad_to_none or ():
        tensor.grad = None
    fn()
    del cleared
    if quantiles is not None:
        return [0.0] * len(quantiles) if len(quantiles) > 1 else 0.0
    return [0.0] if return_mode == "all" else 0.0


class TritonDriver:
    """triton.runtime.driver.active, of the card that torch.cuda tells of."""

    def __init__(self) -> None:
        self.utils = SimpleNamespace(get_device_properties=_properties)
        self.get_current_device = torch.cuda.current_device
        self.set_current_device = torch.cuda.set_device
        self.get_device_capability = torch.cuda.get_device_capability
        self.get_current_stream = torch._C._cuda_getCurrentRawStream

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        major, minor = torch.cuda.get_device_capability()
        return GPUTarget("cuda", 10 * major + minor, WARP)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device())

    def get_device_interface(self) -> Any:
        return torch.cuda

    def get_benchmarker(self) -> Any:
        return bench

    def get_empty_cache_for_benchmark(self) -> torch.Tensor:
        return torch.empty(CLEARED // 4, dtype=torch.int, device="cuda")

    def clear_cache(self, cache: torch.Tensor) -> None:
        cache.zero_()


def _properties(index: int) -> dict[str, int]:
    of = torch.cuda.get_device_properties(index)
    return {
        "max_shared_mem": of.shared_memory_per_block_optin,
        "max_num_regs": REGISTERS,
        "multiprocessor_count": of.multi_processor_count,
        "warpSize": WARP,
    }

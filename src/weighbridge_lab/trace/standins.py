"""Kernels of other libraries, which fake tensors cannot enter: what stands in for them.

A library's Python code runs as it is, so its tensors are those of a real run, whatever its version.
Only what is below it, and takes addresses, is replaced.

bitsandbytes   Since 0.46 each kernel is an operation of torch, and its code for CUDA is Python: it
               allocates, chooses by the card's capability, and calls C by addresses
               (backends/cuda/ops.py). That code runs here for fake tensors, over C functions that
               do nothing:

    quantize_4bit      packed weights and a float for each block; a mean, codes of 8 bits and their
                       own floats where statistics are compressed
    gemm_4bit          one kernel for few rows, else the weight dequantised and a product; how many
                       rows, the card decides
    int8_scaled_mm     int32 sums, then float16, then the caller's dtype
    optimizers         their Python code; states under 4096 elements have 32 bits. Paged states are
                       managed memory of the driver: on the host here, and not in torch's allocator

flex           flex_attention, of which torch makes one kernel, with its functions, that is compiled
               (torch/_inductor/kernel/flex/flex_attention.py). Uncompiled, all scores would be
               there at once, which torch itself warns of, and nobody trains with:

    forward            the output, and a logsumexp of float32
    backward           the sum over dO * O of each row in float32, dQ, dK and dV; where heads share
                       a key head, their dK and dV are added up in it

triton         Launches do nothing: what kernels write was allocated in Python. What they are tuned
               with is allocated as on a card: `do_bench` holds a buffer that clears the L2 cache,
               256 MiB, while a kernel with several configurations runs for the first time.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge.base.units import MIB
from weighbridge_lab.trace.carriers import addressed, subclass
from weighbridge_lab.trace.patches import Patch, Patches, patched
from weighbridge_lab.trace.recorder import Recorder

DEFAULT = torch._C.DispatchKey.CompositeExplicitAutograd
NAMESPACE = "bitsandbytes"
CUDA = "bitsandbytes.backends.cuda.ops"
# C functions by the gradient's dtype, before optimizers were operations of torch
TABLES = {"str2optimizer32bit", "str2optimizer8bit", "str2optimizer8bit_blockwise"}
LOG2E = math.log2(math.e)
CLEARED = 256 * MIB  # testing.do_bench, backends/nvidia/driver.py get_empty_cache_for_benchmark
REGISTERS = 65536  # registers of a multiprocessor, in all capabilities
WARP = 32


def standins(recorder: Recorder) -> dict[str, Patches]:
    """Return the patches of each module by name, for when it is imported."""
    return {**bitsandbytes(recorder), **flex(), **triton()}


# bitsandbytes


def bitsandbytes(recorder: Recorder) -> dict[str, Patches]:
    def package(module: Any) -> Iterator[Patch]:
        for cls in (module.nn.Params4bit, module.nn.Int8Params):
            yield subclass(cls)
        functional = module.functional
        yield Patch(functional, "lib", Silent())
        for name in TABLES & vars(functional).keys():
            yield Patch(functional, name, dict.fromkeys(vars(functional)[name], SILENT))
        yield Patch(functional, "get_ptr", lambda _: None)
        yield Patch(functional, "get_paged", paged)
        yield Patch(functional, "create_dynamic_map", _computed(functional.create_dynamic_map))
        yield Patch(functional, "name2qmap", {})  # keeps a code on the device after its first use
        for holder in (functional.GlobalPageManager, functional.CUBLAS_Context):
            yield Patch(holder, "_instance", None)
        recorder.replaced.update(_kernels(module))

    return {NAMESPACE: package}


class Silent:
    """A native library whose functions do nothing, and return success."""

    compiled_with_cuda = True

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_: 0


def _computed(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return `function`, changed so that it can read the numbers that it makes."""

    def computed(*args: Any, **kwargs: Any) -> torch.Tensor:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return computed


SILENT = (Silent().any,) * 3


def paged(*shape: int, dtype: torch.dtype = torch.float32, device: Any = None) -> Any:
    """Stand in for functional.get_paged: return a tensor on the host."""
    out: Any = torch.empty(shape, dtype=dtype, device="cpu")
    out.is_paged, out.page_deviceid = True, torch.device(device).index
    return out


def _kernels(module: Any) -> dict[Any, Callable[..., Any]]:
    """Return the function of each operation: its CUDA code, else the code for all devices."""
    of_cuda = _cuda_functions(module)
    kernels = {}
    for name in torch._C._dispatch_get_all_op_names():
        if name.startswith(f"{NAMESPACE}::"):
            packet, _, overload = name.removeprefix(f"{NAMESPACE}::").partition(".")
            func = getattr(getattr(torch.ops.bitsandbytes, packet), overload or "default")
            if name in of_cuda:
                kernels[func] = of_cuda[name]
            elif torch._C._dispatch_has_kernel_for_dispatch_key(name, DEFAULT):
                kernels[func] = partial(func._op_dk, DEFAULT)
    return kernels


def _cuda_functions(module: Any) -> dict[str, Callable[..., Any]]:
    """Return functions from a copy of the module, which caches a card's facts and is not
    registered."""
    functions: dict[str, Callable[..., Any]] = {}

    def register(name: str, _: str) -> Callable[..., Any]:
        return lambda function: functions.setdefault(name, addressed(function))

    spec: Any = importlib.util.find_spec(CUDA)
    copy: ModuleType = importlib.util.module_from_spec(spec)
    with patched(
        [
            Patch(module._ops, "register_kernel", register),
            Patch(module.cextension, "lib", Silent()),
        ]
    ):
        spec.loader.exec_module(copy)
    return functions


# flex_attention


def flex() -> dict[str, Patches]:
    return {"torch.nn.attention.flex_attention": _flex_module}


class FlexKernel(torch.autograd.Function):  # type: ignore[misc]
    """One kernel that stands for flex_attention, forward and backward."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (*q.shape[:-1], v.shape[-1])
        out = q.new_empty(shape)
        lse = q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.set_materialize_grads(False)  # of the logsumexp, if nobody asks for it
        return out, lse

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        q, k, v, _, lse = ctx.saved_tensors
        torch.empty_like(lse)  # delta
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _flex_module(module: ModuleType) -> Iterator[Patch]:
    auxiliary = vars(module).get("AuxOutput")

    def flex_attention(  # noqa: PLR0913  torch's own arguments
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        score_mod: Any = None,
        block_mask: Any = None,
        scale: float | None = None,
        enable_gqa: bool = False,
        return_lse: bool = False,
        kernel_options: Any = None,
        *,
        return_aux: Any = None,
    ) -> Any:
        out, lse = FlexKernel.apply(query, key, value)
        if return_aux is not None and auxiliary is not None:
            return out, auxiliary(lse=lse if return_aux.lse else None, max_scores=None)
        return (out, lse / LOG2E) if return_lse else out

    yield Patch(module, "flex_attention", flex_attention)


# Triton


def triton() -> dict[str, Patches]:
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
    """Yield a patch of the tuner: it runs unchanged, but its results are dropped, as no kernel
    ran."""
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
    """Stand in for triton.testing.do_bench, with a time of 0."""
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
    """A stand-in for triton.runtime.driver.active, for the card that torch.cuda reports."""

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

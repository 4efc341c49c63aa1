"""bitsandbytes without its native library: 4-bit and 8-bit layers, 8-bit optimizers.

Since 0.46 each kernel is an operation of torch, and its code for CUDA is Python: it allocates,
chooses by the card's capability, and calls C by addresses (backends/cuda/ops.py). That code runs
here for fake tensors, over C functions that do nothing:

    quantize_4bit      packed weights and a float for each block; a mean, codes of 8 bits and their
                       own floats where statistics are compressed
    gemm_4bit          one kernel for few rows, else the weight dequantised and a product; how many
                       rows, the card decides
    int8_scaled_mm     int32 sums, then float16, then the caller's dtype
    optimizers         their Python code; states under 4096 elements have 32 bits

Paged states are managed memory of the driver: on the host here, and not in torch's allocator.
"""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge.lab.trace.patches import Patch, patched
from weighbridge.lab.trace.patches.arrivals import Patches
from weighbridge.lab.trace.recorder import Recorder
from weighbridge.lab.trace.standins.tensors import addressed, subclass

DEFAULT = torch._C.DispatchKey.CompositeExplicitAutograd
NAMESPACE = "bitsandbytes"
CUDA = "bitsandbytes.backends.cuda.ops"
# Functions of C by the gradient's dtype, until optimizers were operations of torch as well
TABLES = {"str2optimizer32bit", "str2optimizer8bit", "str2optimizer8bit_blockwise"}


def table(recorder: Recorder) -> dict[str, Patches]:
    def package(module: Any) -> Iterator[Patch]:
        for cls in (module.nn.Params4bit, module.nn.Int8Params):
            yield subclass(cls)
        functional = module.functional
        yield Patch(functional, "lib", Silent())
        for name in TABLES & vars(functional).keys():
            yield Patch(functional, name, dict.fromkeys(vars(functional)[name], SILENT))
        yield Patch(functional, "get_ptr", lambda _: None)
        yield Patch(functional, "get_paged", paged)
        yield Patch(functional, "create_dynamic_map", _real(functional.create_dynamic_map))
        yield Patch(functional, "name2qmap", {})  # keeps a code on the device from its first use on
        for holder in (functional.GlobalPageManager, functional.CUBLAS_Context):
            yield Patch(holder, "_instance", None)
        recorder.replaced.update(_kernels(module))

    return {NAMESPACE: package}


class Silent:
    """A native library whose functions do nothing, and say that it went well."""

    compiled_with_cuda = True

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_: 0


def _real(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Let a function look at the numbers that it makes."""

    def computed(*args: Any, **kwargs: Any) -> torch.Tensor:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return computed


SILENT = (Silent().any,) * 3


def paged(*shape: int, dtype: torch.dtype = torch.float32, device: Any = None) -> Any:
    """Stand in for functional.get_paged: a tensor on the host."""
    out: Any = torch.empty(shape, dtype=dtype, device="cpu")
    out.is_paged, out.page_deviceid = True, torch.device(device).index
    return out


def _kernels(module: Any) -> dict[Any, Callable[..., Any]]:
    """Return what is done for each operation: the code for CUDA, else that for all devices."""
    of_cuda = _of_cuda(module)
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


def _of_cuda(module: Any) -> dict[str, Callable[..., Any]]:
    """Return functions from a copy of the module, which remembers things of a card and is not
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

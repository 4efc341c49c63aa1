"""What operations return on a GPU where torch's own fake kernels refuse to say, or ask the driver.

_grouped_mm            types beside bfloat16 too: CUDA then makes one product a group into the
                       output (aten/src/ATen/native/cuda/GroupedBlas.cpp)
_use_cudnn_ctc_loss    no: cuDNN takes targets and lengths on the host alone, float32 and blank
                       0 (aten/src/ATen/native/cudnn/LossCTC.cpp); no MIOpen
_ctc_loss              losses, and the sums over paths: (batch, time, 2 x longest target + 1)
                       (aten/src/ATen/native/cuda/LossCTC.cu)
_sample_dirichlet      as their first argument, and so do the gradients of draws
and others             (aten/src/ATen/native/cuda/Distributions.cpp)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import _meta_registrations as meta
from torch._subclasses import fake_impls


@contextmanager
def shaped() -> Iterator[None]:
    """Let these rules stand before torch's own inside."""
    table = fake_impls.op_implementations_dict
    before = {op: table.get(op) for op in RULES}
    table.update(RULES)
    try:
        yield
    finally:
        for op, rule in before.items():
            if rule is None:
                del table[op]
            else:
                table[op] = rule


def _grouped(mode: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
    a, b, offsets = args[0], args[1], args[2] if len(args) > 2 else kwargs.get("offs")
    if a.dtype == torch.bfloat16:
        return NotImplemented
    with mode:
        out: torch.Tensor = meta._create_grouped_mm_output_tensor(a, b, offsets, a.dtype)
    return out


def _never(*_: Any, **__: Any) -> bool:
    return False


def _ctc(mode: Any, func: Any, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    log_probs, longest = args[0], max(args[3], default=0)
    time, batch = log_probs.shape[0], tuple(log_probs.shape[1:-1])  # or no batch
    with mode:
        losses = log_probs.new_empty(batch)
        return losses, log_probs.new_empty((*batch, time, 2 * longest + 1))


def _ctc_backward(mode: Any, func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    with mode:
        return torch.empty_like(args[1], memory_format=torch.legacy_contiguous_format)


def _channels(tensor: torch.Tensor) -> torch.Tensor:
    """Return a number for each channel, as sums are kept: acc_type of half types is float."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return tensor.new_empty(tensor.shape[1], dtype=torch.float32 if half else tensor.dtype)


def _statistics(mode: Any, func: Any, *args: Any, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with mode:
        return _channels(args[0]), _channels(args[0])


def _alike(mode: Any, func: Any, *args: Any, **_: Any) -> torch.Tensor:
    with mode:
        return torch.empty_like(args[0])


def _reduced(mode: Any, func: Any, *args: Any, **_: Any) -> tuple[torch.Tensor | None, ...]:
    grad, weight, (of_input, of_weight, of_bias) = args[0], args[4], args[5:8]
    with mode:
        sums = [_channels(grad) if of_input else None for _ in range(2)]
        like = grad if weight is None else weight
        gradients = [
            like.new_empty(grad.shape[1]) if wanted and weight is not None else None
            for wanted in (of_weight, of_bias)
        ]
        return (*sums, *gradients)


NAMES: dict[str, Callable[..., Any]] = {
    "_grouped_mm": _grouped,
    "_use_cudnn_ctc_loss": _never,
    "_use_miopen_ctc_loss": _never,
    "_ctc_loss": _ctc,
    "_ctc_loss_backward": _ctc_backward,
    "binomial": _alike,
    "_sample_dirichlet": _alike,
    "_dirichlet_grad": _alike,
    "_standard_gamma": _alike,
    "_standard_gamma_grad": _alike,
    "batch_norm_stats": _statistics,
    "batch_norm_gather_stats_with_counts": _statistics,
    "batch_norm_elemt": _alike,
    "batch_norm_backward_reduce": _reduced,
    "batch_norm_backward_elemt": _alike,
}
RULES: dict[Any, Callable[..., Any]] = {
    getattr(getattr(torch.ops.aten, name), overload): rule
    for name, rule in NAMES.items()
    if torch._C._jit_get_operation(f"aten::{name}")[0] is not None  # the older have not all
    for overload in getattr(torch.ops.aten, name).overloads()
    if "out" not in overload and overload != "Tensor"  # lengths are lists by then: kernels.py
}

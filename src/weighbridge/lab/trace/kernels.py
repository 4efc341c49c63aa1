"""Operations that torch would do otherwise with fake tensors than the card does.

    scaled_dot_product_attention   by the kernel that the card takes (attention.py)
    silu_backward and others       whole: a CPU wheel lacks their kernels and takes them apart
    lstm, gru, rnn                 step by step: cuDNN's kernels ask the device
    ctc_loss                       with lengths as lists: CUDA fetches those of tensors
    grouped products, CTC          shapes.py says what they return
    packed sequences               packed.py

Registered for CUDA tensors above autograd and below autocast, and only while a fake GPU stands in.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge.lab.trace.attention import Chooser, SdpaCall, attend
from weighbridge.lab.trace.looks import shadow
from weighbridge.lab.trace.packed import packed, padded
from weighbridge.lab.trace.shapes import shaped

aten = torch.ops.aten
WHOLE = ("silu_backward", "mish_backward", "native_channel_shuffle", "_fused_rms_norm")
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
MEAN, SUM = 1, 2  # at::Reduction
STEPWISE = (
    "recurrent layers are traced step by step: cuDNN does them at once, in a reserve of its own"
)


@contextmanager
def registered(chooser: Chooser) -> Iterator[dict[Any, Callable[..., Any]]]:
    """Register the kernels inside. Gives what is to be done for operations that come undivided, in
    inference mode."""
    attention = _attention(chooser)
    library = torch.library.Library("aten", "IMPL")
    library.impl("scaled_dot_product_attention", attention, "AutogradCUDA")
    for name in WHOLE:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "CUDA"):
            library.impl(name, _never, "CUDA")
    for name in RECURRENT:
        for overload in ("input", "data"):
            stepwise = _stepwise(getattr(getattr(torch.ops.aten, name), overload))
            library.impl(f"{name}.{overload}", stepwise, "AutogradCUDA")
    for key in ("AutogradCUDA", "AutogradCPU"):
        library.impl("ctc_loss.Tensor", _ctc, key)
        library.impl("ctc_loss.IntList", _ctc, key)
        library.impl("_pad_packed_sequence", padded, key)
    try:
        with shaped():
            whole = {aten.scaled_dot_product_attention.default: attention}
            yield whole | {aten._pack_padded_sequence.default: packed}
    finally:
        library._destroy()


def _attention(chooser: Chooser) -> Callable[..., torch.Tensor]:
    def attention(  # noqa: PLR0913  torch's own arguments
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        call = SdpaCall(
            query=query,
            key=key,
            value=value,
            mask=attn_mask,
            dropout=dropout_p,
            causal=is_causal,
            scale=scale,
            gqa=enable_gqa,
        )
        return attend(chooser, call)

    return attention


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("a fake tensor never comes to a kernel of the device")


def _ctc(  # noqa: PLR0913  torch's own arguments
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    inputs: Any,
    lengths: Any,
    blank: int = 0,
    reduction: int = MEAN,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """Compute a CTC loss as aten/src/ATen/native/LossCTC.cpp does: lengths are copied to the host,
    and read. Where they are not known, all of the time and of the targets is taken."""
    longest = targets.shape[-1] // (1 if targets.dim() > 1 else max(len(lengths), 1))
    times, sizes = _lengths(inputs, log_probs.shape[0]), _lengths(lengths, longest)
    moved = targets.to(log_probs.device, torch.long)
    out: torch.Tensor = aten._ctc_loss(log_probs, moved, times, sizes, blank, zero_infinity)[0]
    if zero_infinity:
        out = torch.where(
            out == torch.inf, torch.zeros((), dtype=out.dtype, device=out.device), out
        )
    if reduction == MEAN:
        return (out / torch.tensor(sizes, dtype=out.dtype, device=out.device).clamp_min(1)).mean()
    return out.sum() if reduction == SUM else out


def _lengths(lengths: Any, otherwise: int) -> list[int]:
    if not isinstance(lengths, torch.Tensor):
        return list(lengths)
    known = shadow(lengths)
    if known is None:
        return [otherwise] * lengths.numel()
    with unset_fake_temporarily():
        return [int(n) for n in known.reshape(-1).tolist()]


def _stepwise(func: Any) -> Callable[..., Any]:
    def steps(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(STEPWISE, stacklevel=2)
        with torch.backends.cudnn.flags(enabled=False):
            return func.decompose(*args, **kwargs)

    return steps

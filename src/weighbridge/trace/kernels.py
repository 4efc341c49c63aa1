"""Operations that torch would do otherwise with fake tensors than the card does.

    scaled_dot_product_attention   by the kernel that the card takes (attention.py)
    silu_backward and others       whole: a CPU wheel lacks their kernels and takes them apart
    lstm, gru, rnn                 step by step: cuDNN's kernels ask the device
    grouped products, CTC          shapes.py says what they return

Registered for CUDA tensors above autograd and below autocast, and only while a fake GPU stands in.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from weighbridge.trace.attention import Call, Chooser, attend
from weighbridge.trace.shapes import shaped

WHOLE = ("silu_backward", "mish_backward", "native_channel_shuffle", "_fused_rms_norm")
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
STEPWISE = (
    "recurrent layers are traced step by step: cuDNN does them at once, in a reserve of its own"
)


@contextmanager
def registered(chooser: Chooser) -> Iterator[dict[Any, Callable[..., Any]]]:
    """Gives what is to be done for operations that come undivided, in inference mode."""
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
    try:
        with shaped():
            yield {torch.ops.aten.scaled_dot_product_attention.default: attention}
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
        call = Call(
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


def _stepwise(func: Any) -> Callable[..., Any]:
    def steps(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(STEPWISE, stacklevel=2)
        with torch.backends.cudnn.flags(enabled=False):
            return func.decompose(*args, **kwargs)

    return steps

"""The kernel that scaled_dot_product_attention takes on the card, and what it then calls.

The order of kernels, and what each can serve, is in kernels/attention.py. A machine without the
card has no chooser, or one that asks the driver. Source: attention.cpp
(scaled_dot_product_attention) of aten/src/ATen/native/transformers, PyTorch 2.5 to 2.13.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode

from weighbridge.base.records import dataclass, frozen_record
from weighbridge.machines.kernels import attention as kernels
from weighbridge_lab.trace.card import Card
from weighbridge_lab.trace.hidden.products import shape

aten = torch.ops.aten
FUSED = (torch.float32, torch.float16, torch.bfloat16)  # types of the fused kernels


@frozen_record
class SdpaCall:
    """A call of scaled_dot_product_attention: its arguments under short names."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None = None
    dropout: float = 0.0
    causal: bool = False
    scale: float | None = None
    gqa: bool = False

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.query, self.key, self.value

    @property
    def differentiated(self) -> bool:
        return torch.is_grad_enabled() and any(t.requires_grad for t in self.tensors)


@dataclass(frozen=True, slots=True)
class Chooser:
    card: Card
    version: tuple[int, int]  # of torch

    def choose(self, call: SdpaCall) -> str:
        """Return the name of the first kernel, in torch's order, that can serve `call`."""
        sizes = None if len(call.query.shape) != 4 else shape(call.query, call.key, call.value)
        for name in kernels.order(self.card.chip, self.version):
            if ENABLED[name]() and (name == "math" or (sizes and self._can(name, sizes, call))):
                return name
        raise RuntimeError("No available kernel. Aborting execution.")  # as torch says

    def _can(self, name: str, sizes: kernels.KernelShape, call: SdpaCall) -> bool:
        facts = kernels.AttentionCall(
            masked=call.mask is not None,
            causal=call.causal,
            dropout=call.dropout,
            groups=call.gqa,
            differentiated=call.differentiated,
        )
        return _dense(call) and kernels.can(name, sizes, facts, self.card.chip, self.version)


def _dense(call: SdpaCall) -> bool:
    """Return whether the fused kernels can read the tensors: of one float type, without gaps, the
    mask too (sdp_utils_cpp.h, check_last_dim_stride_equals_1_dense)."""
    q, k, v = call.tensors
    return (
        q.dim() == k.dim() == v.dim() == 4
        and q.shape[0] == k.shape[0] == v.shape[0]
        and q.shape[-1] == k.shape[-1]
        and q.dtype == k.dtype == v.dtype
        and q.dtype in FUSED
        and min(q.shape[-2], k.shape[-2]) > 0
        and all(t.stride(-1) == 1 or t.shape[-1] == 1 for t in call.tensors)
        and (call.mask is None or call.mask.stride(-1) == 1)
    )


def attend(chooser: Chooser, call: SdpaCall) -> torch.Tensor:
    """Return the result of scaled_dot_product_attention with the chosen kernel."""
    out: torch.Tensor = KERNELS[chooser.choose(call)](call)
    return out


def _flash(call: SdpaCall) -> torch.Tensor:
    dim = call.query.shape[-1]
    scale = dim**-0.5 if call.scale is None else call.scale
    wide = [t if dim % 8 == 0 else pad(t, (0, 8 - dim % 8)) for t in call.tensors]
    out = aten._scaled_dot_product_flash_attention(*wide, call.dropout, call.causal, scale=scale)[0]
    narrow: torch.Tensor = out if dim % 8 == 0 else out[..., :dim]
    return narrow


def _efficient(call: SdpaCall) -> torch.Tensor:
    mask = _bias(call)
    if mask is not None:
        size = mask.shape[-1]
        if size % 16:  # the kernel loads 16 elements
            mask = pad(mask, (0, 16 - size % 16))[..., :size]
        mask = mask.expand(*call.query.shape[:-1], call.key.shape[-2])
    outs = aten._scaled_dot_product_efficient_attention(
        *call.tensors, mask, call.differentiated, call.dropout, call.causal, scale=call.scale
    )
    first: torch.Tensor = outs[0]
    return first


def _cudnn(call: SdpaCall) -> torch.Tensor:
    outs = aten._scaled_dot_product_cudnn_attention(
        *call.tensors,
        _bias(call),
        call.differentiated,
        call.dropout,
        call.causal,
        scale=call.scale,
    )
    first: torch.Tensor = outs[0]
    return first


class _InPlace(TorchDispatchMode):  # type: ignore[misc]
    """Adds the mask to the scores in place, as torch does, though not for tensor subclasses such as
    fake tensors (attention.cpp, areAnyTensorSubclassLike)."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not aten.add.Tensor:
            return func(*args, **(kwargs or {}))
        scores, mask = args
        aten.add_.Tensor(scores, mask)
        return aten.alias.default(scores)


def _math(call: SdpaCall) -> torch.Tensor:
    with _InPlace():
        outs = aten._scaled_dot_product_attention_math(
            *call.tensors,
            _bias(call),
            call.dropout,
            call.causal,
            scale=call.scale,
            enable_gqa=call.gqa,
        )
    first: torch.Tensor = outs[0]
    return first


def _bias(call: SdpaCall) -> torch.Tensor | None:
    """Return a boolean mask as numbers to add (convert_boolean_attn_mask); other masks
    unchanged."""
    if call.mask is None or call.mask.dtype != torch.bool:
        return call.mask
    zero = torch.zeros((), dtype=call.query.dtype, device=call.query.device)
    return torch.where(call.mask.logical_not(), -torch.inf, zero)


KERNELS: dict[str, Callable[[SdpaCall], torch.Tensor]] = {
    "flash": _flash,
    "efficient": _efficient,
    "cudnn": _cudnn,
    "math": _math,
}
ENABLED: dict[str, Callable[[], bool]] = {
    "flash": torch.backends.cuda.flash_sdp_enabled,
    "efficient": torch.backends.cuda.mem_efficient_sdp_enabled,
    "math": torch.backends.cuda.math_sdp_enabled,
    "cudnn": torch.backends.cuda.cudnn_sdp_enabled,
}

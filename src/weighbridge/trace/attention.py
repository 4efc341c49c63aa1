"""Which kernel scaled_dot_product_attention takes on the card, and what it then calls.

    order      cuDNN first where torch prefers it, then flash, efficient, math
    flash      capability 8.0 or more, half types, equal head dims up to 256, no mask, causal only
               if as many queries as keys, GQA
    efficient  float32 and half types, head dims a multiple of 16 bytes, a mask, no GQA
    cudnn      capability 8.0 or more, half types, head dims up to 128 (256 on 9.0), a mask, GQA
    math       everything: the S x S matrix, in float32 for half types

A machine without the card has no chooser, or one that asks the driver. Source: sdp_utils.cpp
(priority_order, can_use_*) and attention.cpp (scaled_dot_product_attention) of
aten/src/ATen/native/transformers, PyTorch 2.5 to 2.13.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode

from weighbridge.trace.card import Card

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
BLACKWELL_SINCE = (2, 7)  # flash and efficient kernels for capability 10 and 12
CUDNN_FIRST_SINCE = (2, 10)  # wheels with cuDNN above 9.15
CUDNN_FIRST = ((9, 0), (10, 0), (10, 3))
CUDNN_SINCE = (2, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of scaled_dot_product_attention."""

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

    def choose(self, call: Call) -> str:
        """The first kernel of the order that can serve `call`."""
        order = ["flash", "efficient", "math", "cudnn"]
        if self.version >= CUDNN_FIRST_SINCE and self.card.capability in CUDNN_FIRST:
            order.insert(0, "cudnn")
        for name in order:
            can: Callable[[Call], bool] = getattr(self, f"_{name}")
            if ENABLED[name]() and can(call):
                return name
        raise RuntimeError("No available kernel. Aborting execution.")  # as torch says

    def _flash(self, call: Call) -> bool:
        q, k, v = call.tensors
        dim = q.shape[-1]
        return (
            self._supported((8, 0))
            and _dense(call, HALF)
            and call.mask is None
            and dim == k.shape[-1] == v.shape[-1] <= 256
            and not (call.causal and q.shape[-2] != k.shape[-2])
            and (call.gqa or _same_heads(call))
            and not (call.differentiated and self._too_wide(dim, call.dropout))
        )

    def _efficient(self, call: Call) -> bool:
        q, k, v = call.tensors
        major = self.card.capability[0]
        types = (torch.float32, torch.float16) + ((torch.bfloat16,) if major >= 8 else ())
        align = self._alignment(q.dtype)
        return (
            self._supported((5, 0))
            and _dense(call, types)
            and q.shape[-1] == k.shape[-1]
            and q.shape[-1] % align == 0
            and v.shape[-1] % align == 0
            and _same_heads(call)
            and not call.gqa
        )

    def _cudnn(self, call: Call) -> bool:
        q, k, v = call.tensors
        limit = 256 if self.card.capability == (9, 0) else 128
        return (
            self.version >= CUDNN_SINCE
            and self._supported((8, 0))
            and _dense(call, HALF)
            and max(q.shape[-1], v.shape[-1]) <= limit
            and q.shape[-1] % 8 == 0
            and v.shape[-1] % 8 == 0
            and min(q.shape[-2], k.shape[-2]) > 1
            and (call.gqa or _same_heads(call))
        )

    def _math(self, call: Call) -> bool:
        return True

    def _supported(self, lowest: tuple[int, int]) -> bool:
        highest = (12, 1) if self.version >= BLACKWELL_SINCE else (9, 0)
        return lowest <= self.card.capability <= highest

    def _too_wide(self, dim: int, dropout: float) -> bool:
        """For flash's backward on cards with 99 KiB of shared memory."""
        small = (8, 6) <= self.card.capability <= (8, 9) or self.card.capability[0] == 12
        return small and (192 < dim <= 224 or (dim > 224 and dropout > 0))

    def _alignment(self, dtype: torch.dtype) -> int:
        """Elements in what a matrix unit loads at once."""
        major = self.card.capability[0]
        tensor_cores = major >= 8 or (major == 7 and dtype in HALF)
        whole = 8 if dtype in HALF else 4
        return whole if tensor_cores else 1


def _same_heads(call: Call) -> bool:
    q, k, v = call.tensors
    return bool(q.shape[:-2] == k.shape[:-2] == v.shape[:-2])


def _dense(call: Call, types: tuple[torch.dtype, ...]) -> bool:
    q, k, v = call.tensors
    return (
        q.dim() == k.dim() == v.dim() == 4
        and q.shape[0] == k.shape[0] == v.shape[0]
        and q.dtype == k.dtype == v.dtype
        and q.dtype in types
        and min(q.shape[-2], k.shape[-2]) > 0
        and all(t.stride(-1) == 1 or t.shape[-1] == 1 for t in call.tensors)
    )


def attend(chooser: Chooser, call: Call) -> torch.Tensor:
    """What scaled_dot_product_attention does with the kernel that is chosen."""
    out: torch.Tensor = KERNELS[chooser.choose(call)](call)
    return out


def _flash(call: Call) -> torch.Tensor:
    dim = call.query.shape[-1]
    scale = dim**-0.5 if call.scale is None else call.scale
    wide = [t if dim % 8 == 0 else pad(t, (0, 8 - dim % 8)) for t in call.tensors]
    out = aten._scaled_dot_product_flash_attention(*wide, call.dropout, call.causal, scale=scale)[0]
    narrow: torch.Tensor = out if dim % 8 == 0 else out[..., :dim]
    return narrow


def _efficient(call: Call) -> torch.Tensor:
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


def _cudnn(call: Call) -> torch.Tensor:
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
    """The mask is added to the scores in place, but not to those of a subclass, as fake ones are
    (attention.cpp, areAnyTensorSubclassLike)."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not aten.add.Tensor:
            return func(*args, **(kwargs or {}))
        scores, mask = args
        aten.add_.Tensor(scores, mask)
        return aten.alias.default(scores)


def _math(call: Call) -> torch.Tensor:
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


def _bias(call: Call) -> torch.Tensor | None:
    """A boolean mask as what is added (convert_boolean_attn_mask)."""
    if call.mask is None or call.mask.dtype != torch.bool:
        return call.mask
    zero = torch.zeros((), dtype=call.query.dtype, device=call.query.device)
    return torch.where(call.mask.logical_not(), -torch.inf, zero)


KERNELS: dict[str, Callable[[Call], torch.Tensor]] = {
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

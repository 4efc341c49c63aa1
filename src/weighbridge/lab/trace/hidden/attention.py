"""Attention kernels: what accumulates outside registers (kernels/attention.py), and copies of what
they cannot read."""

from collections.abc import Callable, Iterable

import torch

from weighbridge.kernels import attention as kernels
from weighbridge.lab.trace.hidden.rule import HALF, HiddenRule, Op, size


def shape(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> kernels.KernelShape:
    """Return the sizes of q, k and v, [batch, heads, tokens, dim] each, as kernels read them."""
    batch, heads, queries, dim = q.shape
    return kernels.KernelShape(
        batch=batch,
        heads=heads,
        kv_heads=k.shape[1],
        queries=queries,
        keys=k.shape[2],
        key_dim=dim,
        value_dim=v.shape[-1],
        itemsize=q.element_size(),
        bfloat16=q.dtype == torch.bfloat16,
    )


def _copies(*positions: int) -> Callable[[Op], list[int]]:
    """Return a rule for bytes copied of the arguments at `positions` (gradient, output), which the
    kernels read as (B, M, H, D) without gaps."""

    def nbytes(op: Op) -> list[int]:
        tensors = (op.arg(i) for i in positions)
        return [size(tensor) for tensor in tensors if not tensor.transpose(1, 2).is_contiguous()]

    return nbytes


def _flash_forward(op: Op) -> list[int]:
    sizes = shape(*op.args[:3])
    return kernels.flash_forward(sizes, op.arg(3, "dropout_p", 0.0), op.card.chip)


def _flash_backward(op: Op) -> list[int]:
    sizes = shape(*op.args[1:4])
    deterministic = torch.are_deterministic_algorithms_enabled()
    return kernels.flash_backward(sizes, op.card.chip, deterministic=deterministic)


def _efficient_forward(op: Op) -> list[int]:
    return kernels.efficient_forward(shape(*op.args[:3]))


def _efficient_backward(op: Op) -> list[int]:
    dropout, deterministic = (
        op.arg(9, "dropout_p", 0.0),
        torch.are_deterministic_algorithms_enabled(),
    )
    sizes = shape(*op.args[1:4])
    return kernels.efficient_backward(sizes, dropout, op.card.chip, deterministic=deterministic)


def _product_for_delta(op: Op) -> Iterable[int]:
    """Return the bytes of dO * O, whose sum float32 kernels do not compute themselves."""
    grad = op.arg(0)
    return [] if grad.dtype in HALF else [size(grad)]


def _cudnn_backward(op: Op) -> list[int]:
    return kernels.cudnn_backward(shape(*op.args[1:4]))


FLASH = "aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp"
EFFICIENT = "aten/src/ATen/native/transformers/cuda/attention_backward.cu, kernel_backward.h"

RULES = (
    HiddenRule(
        ops="_scaled_dot_product_flash_attention_backward",
        nbytes=_copies(0, 4),
        source=EFFICIENT,
        when="before",
    ),
    HiddenRule(
        ops="_scaled_dot_product_efficient_attention_backward",
        nbytes=_copies(0),
        source=EFFICIENT,
        when="before",
    ),
    HiddenRule(
        ops="_scaled_dot_product_flash_attention_backward",
        nbytes=_flash_backward,
        source=f"{FLASH}, mha_bwd",
    ),
    HiddenRule(
        ops="_scaled_dot_product_flash_attention",
        nbytes=_flash_forward,
        source=f"{FLASH}, set_params_splitkv",
    ),
    HiddenRule(
        ops="_scaled_dot_product_efficient_attention",
        nbytes=_efficient_forward,
        source="mem_eff_attention/kernel_forward.h, kNeedsOutputAccumulatorBuffer",
    ),
    HiddenRule(
        ops="_scaled_dot_product_efficient_attention_backward",
        nbytes=_product_for_delta,
        source=f"{EFFICIENT}, kKernelComputesDelta",
    ),
    HiddenRule(
        ops="_scaled_dot_product_efficient_attention_backward",
        nbytes=_efficient_backward,
        source=f"{EFFICIENT}, workspace_size",
    ),
    HiddenRule(
        ops="_scaled_dot_product_cudnn_attention_backward",
        nbytes=_cudnn_backward,
        source="cudnn SDPA backward accumulates dQ in float32; not measured here",
    ),
)

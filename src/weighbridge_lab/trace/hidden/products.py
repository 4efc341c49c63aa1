"""Kernels that multiply: what they hold besides their outputs, and copies of what they cannot read.

cuBLAS       a workspace of each thread. Sizes and versions are in kernels/workspaces.py;
             CUBLAS_WORKSPACE_CONFIG=:KiB:count:... replaces them. Backward runs in a thread of
             its own, so training has two
attention    what accumulates outside registers (kernels/attention.py)
cuDNN        convolutions, which rearrange what they read (kernels/workspaces.py)
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator

import torch

from weighbridge.base.units import KIB
from weighbridge.machines.kernels import attention
from weighbridge.machines.kernels import workspaces as kernels
from weighbridge_lab.trace.card import Card
from weighbridge_lab.trace.hidden.rule import HALF, HiddenRule, Op, Version, size

SOURCE = "aten/src/ATen/cuda/CublasHandlePool.cpp"
BLAS, LT = "cuBLAS workspace", "cuBLASLt workspace"
PRODUCTS = "mm addmm bmm baddbmm addbmm mv addmv dot vdot _addmm_activation _scaled_mm _int_mm"


def workspace(card: Card, version: Version) -> int:
    """Return the bytes of one cuBLAS workspace."""
    sizes = re.findall(r":(\d+):(\d+)", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    if sizes:
        return sum(int(kib) * KIB * int(count) for kib, count in sizes)
    return kernels.product(card.capability[0], version)


def workspaces(name: str, op: Op) -> Iterator[tuple[str, int]]:
    """Yield (name, bytes) of the workspaces that a product needs in its thread, where they stay."""
    if op.version < kernels.TRANSIENT_SINCE:
        yield BLAS, workspace(op.card, op.version)
    if kernels.LIGHT_KEPT_SINCE <= op.version < kernels.UNIFIED_SINCE and _light(name, op):
        yield LT, kernels.LIGHT


def _light(name: str, op: Op) -> bool:
    """Return whether the bias is part of the product's epilogue (Blas.cpp:
    isInputCompliesAddmmCudaLt)."""
    if name in ("_scaled_mm", "_addmm_activation"):
        return True
    bias = op.arg(0)
    plain = bias.dim() == 1 and bias.is_contiguous()
    return name == "addmm" and bool(plain) and min(op.args[2].shape) > 1


def _transient(op: Op) -> list[int]:
    return [workspace(op.card, op.version)]


def _transient_light(op: Op) -> list[int]:
    return [kernels.LIGHT] if _light("addmm", op) else []


def _matrices(first: int) -> HiddenRule:
    """Return a rule for the two matrices from argument `first` on, which are copied if neither rows
    nor columns are dense."""

    def nbytes(op: Op) -> list[int]:
        pair = (op.arg(first), op.arg(first + 1))
        return [size(m) for m in pair if m.dim() > 1 and not _readable(m)]

    return HiddenRule(
        ops="mm bmm" if first == 0 else "addmm baddbmm",
        nbytes=nbytes,
        source="aten/src/ATen/native/cuda/Blas.cpp, prepare_matrix_for_cublas",
    )


def _readable(matrix: torch.Tensor) -> bool:
    rows, columns = matrix.shape[-2:]
    s0, s1 = matrix.stride()[-2:]
    return bool((s0 == 1 and s1 >= max(1, rows)) or (s1 == 1 and s0 >= max(1, columns)))


CUBLAS = (
    _matrices(0),
    _matrices(1),
    HiddenRule(
        ops=PRODUCTS, nbytes=_transient, source=SOURCE, what=BLAS, since=kernels.TRANSIENT_SINCE
    ),
    HiddenRule(
        ops="addmm", nbytes=_transient_light, source=SOURCE, what=LT, until=kernels.LIGHT_KEPT_SINCE
    ),
)


# Attention


def shape(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> attention.KernelShape:
    """Return the sizes of q, k and v, [batch, heads, tokens, dim] each, in the kernels' terms."""
    batch, heads, queries, dim = q.shape
    return attention.KernelShape(
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


def _unread(*positions: int) -> Callable[[Op], list[int]]:
    """Return a rule for the copied bytes of the arguments at `positions` (gradient, output), which
    the kernels read as (B, M, H, D) without gaps."""

    def nbytes(op: Op) -> list[int]:
        tensors = (op.arg(i) for i in positions)
        return [size(tensor) for tensor in tensors if not tensor.transpose(1, 2).is_contiguous()]

    return nbytes


def _flash_forward(op: Op) -> list[int]:
    sizes = shape(*op.args[:3])
    return attention.flash_forward(sizes, op.arg(3, "dropout_p", 0.0), op.card.chip)


def _flash_backward(op: Op) -> list[int]:
    sizes = shape(*op.args[1:4])
    deterministic = torch.are_deterministic_algorithms_enabled()
    return attention.flash_backward(sizes, op.card.chip, deterministic=deterministic)


def _efficient_forward(op: Op) -> list[int]:
    return attention.efficient_forward(shape(*op.args[:3]))


def _efficient_backward(op: Op) -> list[int]:
    dropout, deterministic = (
        op.arg(9, "dropout_p", 0.0),
        torch.are_deterministic_algorithms_enabled(),
    )
    sizes = shape(*op.args[1:4])
    return attention.efficient_backward(sizes, dropout, op.card.chip, deterministic=deterministic)


def _product_for_delta(op: Op) -> Iterable[int]:
    """Return the bytes of dO * O, where float32 kernels do not compute its sum themselves."""
    grad = op.arg(0)
    return [] if grad.dtype in HALF else [size(grad)]


def _cudnn_backward(op: Op) -> list[int]:
    return attention.cudnn_backward(shape(*op.args[1:4]))


FLASH = "aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp"
EFFICIENT = "aten/src/ATen/native/transformers/cuda/attention_backward.cu, kernel_backward.h"

ATTENTION = (
    HiddenRule(
        ops="_scaled_dot_product_flash_attention_backward",
        nbytes=_unread(0, 4),
        source=EFFICIENT,
        when="before",
    ),
    HiddenRule(
        ops="_scaled_dot_product_efficient_attention_backward",
        nbytes=_unread(0),
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


# cuDNN convolutions, which rearrange what they read (kernels/workspaces.py).

CUDNN = "published workspaces of cuDNN 9.10 to 9.20 engines; algorithm choice is cuDNN's"


LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _last(x: torch.Tensor) -> bool:
    """Return whether torch treats channels as last; a single picture with a smaller stride of its
    own does not count (c10/core/MemoryFormat.h, is_channels_last_strides_2d)."""
    form = LAST.get(x.dim())
    return (
        form is not None
        and x.is_contiguous(memory_format=form)
        and x.stride(0) * x.shape[0] >= x.numel()
    )


def _rearranged(inputs: torch.Tensor, weight: torch.Tensor, groups: int, op: Op) -> bool:
    if not torch.backends.cudnn.enabled or _own_depthwise(inputs, weight, groups):
        return False
    if _last(inputs) or _last(weight):
        return bool(inputs.shape[1] == 1)  # contiguous in both layouts: nothing is known
    half = inputs.dtype in HALF
    if not half and not (inputs.dtype == torch.float32 and torch.backends.cudnn.allow_tf32):
        return False
    return kernels.tensor_cores(op.card.chip, half=half, float16=inputs.dtype == torch.float16)


def _own_depthwise(inputs: torch.Tensor, weight: torch.Tensor, groups: int) -> bool:
    return groups > 1 and groups == inputs.shape[1] and weight.shape[0] % groups == 0


def _workspace(op: Op, x: torch.Tensor, inputs: int, output: int) -> list[int]:
    return kernels.convolution(inputs, output, half=x.dtype in HALF, chip=op.card.chip)


def _forward(op: Op) -> list[int]:
    x, weight = op.args[:2]
    if not _rearranged(x, weight, op.args[8], op):
        return []
    return _workspace(op, x, size(x) + size(weight), size(op.out))


def _input_workspace(op: Op) -> list[int]:
    grad, x, weight = op.args[:3]
    if not op.args[10][0] or not _rearranged(x, weight, op.args[9], op):
        return []
    return _workspace(op, x, size(grad) + size(weight), size(x))


def _weight_workspace(op: Op) -> list[int]:
    grad, x, weight = op.args[:3]
    if not op.args[10][1] or not _rearranged(x, weight, op.args[9], op):
        return []
    return _workspace(op, x, size(grad) + size(x), size(weight))


CONVOLUTIONS = (
    HiddenRule(ops="convolution", nbytes=_forward, source=CUDNN),
    HiddenRule(ops="convolution_backward", nbytes=_input_workspace, source=CUDNN),
    HiddenRule(ops="convolution_backward", nbytes=_weight_workspace, source=CUDNN),
)

RULES = (*CUBLAS, *ATTENTION, *CONVOLUTIONS)

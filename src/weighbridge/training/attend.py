"""Which kernel of attention runs, and what it is given.

    sdpa    the first that can: cuDNN where torch has it first, flash, efficient, math
    eager   scores written out

flash       half types, compute capability 8 and newer, equal heads up to 256, no mask
efficient   no groups; bfloat16 from compute capability 8; heads in steps of 16 bytes
cudnn       half types, capability 8 and newer, heads up to 128 (256 on 9.0) in steps of 8

transformers passes groups to sdpa where no mask is given (integrations/sdpa_attention.py,
use_gqa_in_sdpa) and copies keys and values for all heads elsewhere. torch's order is in
aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (priority_order, can_use_*).
"""

from dataclasses import replace
from typing import Any

from weighbridge.autograd.machine import Machine, lower
from weighbridge.autograd.ops.attention import Heads, How, cudnn, eager, efficient, flash, math
from weighbridge.autograd.ops.shaping import expand, repeat, turned
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import BFLOAT16
from weighbridge.training.step import Step

FLASH_MOST = 256  # the widest head of the flash kernel
CUDNN_FIRST = ((9, 0), (10, 0), (10, 3))  # since torch 2.10
CUDNN_FIRST_SINCE = (2, 10)
# of an H100, B200, RTX 4090, RTX 3090, RTX 5090 and T4
PROCESSORS = {(9, 0): 132, (10, 0): 148, (8, 9): 128, (8, 6): 82, (12, 0): 170, (7, 5): 40}
THREADS = {(8, 9): 1536, (8, 6): 1536, (12, 0): 1536, (7, 5): 1024}  # of a multiprocessor
SMALL_MEMORY = ((8, 6), (8, 7), (8, 9))  # shared memory of at most 100 KiB a block


def attend(s: Step, q: Tensor, k: Tensor, v: Tensor, h: Heads, **more: Any) -> Tensor:
    """[batch, length, heads, value_dim]; arguments as below."""
    return attended(s, q, k, v, h, **more)[0]


def attended(
    s: Step, q: Tensor, k: Tensor, v: Tensor, h: Heads, kernel: str | None = None, **more: Any
) -> tuple[Tensor, Tensor | None]:
    """[batch, length, heads, value_dim], and the weights where eager attention hands them to its
    layer. Arguments are those of `How`."""
    m, kernel = s.m, kernel or s.kernel or "sdpa"
    how = How(**more, large=_large(s), processors=PROCESSORS.get(s.capability, 108))
    if how.p and not m.training:
        how = replace(how, p=0.0)
    if kernel == "eager":
        q, k, v = _views(m, q, k, v, views=how.views)
        return eager(m, q, k, v, h, how)
    whole = how.mask is None and h.key_dim == h.value_dim <= FLASH_MOST and kernel != "efficient"
    if h.groups > 1 and not whole and not how.shared:
        k = _for_all(m, k, h, h.key_dim)
        v = _for_all(m, v if h.kv_heads == 1 else turned(m, v), h, h.value_dim)
        h = h.repeated
    if kernel == "sdpa":
        kernel = chosen(s, lower(m, q), h, how)
    if kernel == "math":
        q, k, v = _views(m, q, k, v, views=how.views)
    return KERNELS[kernel](m, q, k, v, h, how), None


def _for_all(m: Machine, x: Tensor, h: Heads, width: int) -> Tensor:
    """repeat_kv: of one head a view."""
    shape = h.batch, h.seen, h.heads, width
    return expand(m, x, *shape) if h.kv_heads == 1 else repeat(m, x, h.groups, shape)


KERNELS = {"flash": flash, "efficient": efficient, "cudnn": cudnn, "math": math}


def _views(
    m: Machine, q: Tensor, k: Tensor, v: Tensor, *, views: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Products give gradients with heads before tokens; linears take them as they are."""
    if views:
        q, k = turned(m, q), turned(m, k)
    return q, k, turned(m, v)


def chosen(s: Step, q: Tensor, h: Heads, how: How) -> str:
    """The first kernel of torch's order that can."""
    cudnn_first = s.torch >= CUDNN_FIRST_SINCE and s.capability in CUDNN_FIRST
    if cudnn_first and _cudnn(s, q, h):
        return "cudnn"
    if _flash(s, q, h, how):
        return "flash"
    return "efficient" if _efficient(s, q, h) else "math"


def _flash(s: Step, q: Tensor, h: Heads, how: How) -> bool:
    if q.dtype.nbytes != 2 or how.mask is not None or s.capability < (8, 0):
        return False
    small = s.capability in SMALL_MEMORY or s.capability[0] == 12
    if small and (192 < h.key_dim <= 224 or (h.key_dim > 224 and how.p > 0)):
        return False
    return h.key_dim == h.value_dim and h.key_dim <= FLASH_MOST


def _efficient(s: Step, q: Tensor, h: Heads) -> bool:
    """Heads in what a matrix unit loads at once, where there is one for the type."""
    if h.groups > 1 or (q.dtype == BFLOAT16 and s.capability < (8, 0)):
        return False
    half = q.dtype.nbytes == 2
    units = s.capability >= (8, 0) or (s.capability >= (7, 0) and half)
    multiple = (8 if half else 4) if units else 1
    return h.key_dim % multiple == 0 and h.value_dim % multiple == 0


def _cudnn(s: Step, q: Tensor, h: Heads) -> bool:
    limit = 256 if s.capability == (9, 0) else 128
    widest = max(h.key_dim, h.value_dim)
    whole = h.key_dim % 8 == 0 and h.value_dim % 8 == 0
    return q.dtype.nbytes == 2 and widest <= limit and whole and min(h.length, h.seen) > 1


def _large(s: Step) -> bool:
    return s.capability >= (8, 0) and s.capability not in SMALL_MEMORY and s.capability[0] != 12

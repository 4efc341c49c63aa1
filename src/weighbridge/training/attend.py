"""Which kernel of attention runs, and what it is given.

    sdpa    flash where heads are alike, in 16 bits, on compute capability 8 and newer, without a
            mask; else efficient, where keys and values need no groups; else math
    eager   scores written out

transformers passes groups to sdpa where no mask is given (integrations/sdpa_attention.py,
use_gqa_in_sdpa) and copies keys and values for all heads elsewhere. torch's order is in
aten/src/ATen/native/transformers/cuda/sdp_utils.cpp.
"""

from weighbridge.autograd.machine import lower
from weighbridge.autograd.ops.attention import Heads, eager, efficient, flash, math
from weighbridge.autograd.ops.shaping import repeat
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import BFLOAT16
from weighbridge.training.step import Step

FLASH_MOST = 256  # the widest head of the flash kernel


def attend(
    s: Step,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    h: Heads,
    *,
    mask: Tensor | None = None,
    p: float = 0.0,
    kernel: str | None = None,
) -> Tensor:
    """[batch, length, heads, value_dim]. `mask` [batch or 1, 1, length, seen], bool for sdpa."""
    m, kernel = s.m, kernel or s.kernel or "sdpa"
    p = p if m.training else 0.0
    if kernel == "eager":
        return eager(m, q, k, v, h, p=p, mask=mask is not None)
    groups = mask is None and h.key_dim == h.value_dim <= FLASH_MOST
    if h.groups > 1 and not groups:
        k = repeat(m, k, h.groups, (h.batch, h.seen, h.heads, h.key_dim))
        v = repeat(m, v, h.groups, (h.batch, h.seen, h.heads, h.value_dim))
        h = h.repeated
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    if kernel == "flash" or (kernel == "sdpa" and _flash(s, q, h, mask)):
        return flash(m, q, k, v, h, p=p)
    if kernel == "efficient" or (kernel == "sdpa" and _efficient(s, q, h)):
        return efficient(m, q, k, v, h, mask=mask, p=p)
    return math(m, q, k, v, h, mask=mask, p=p)


def _flash(s: Step, q: Tensor, h: Heads, mask: Tensor | None) -> bool:
    """check_runtime_disabled_flash and those after it, for a step of training."""
    if q.dtype.nbytes != 2 or mask is not None or s.capability < (8, 0):
        return False
    return h.key_dim == h.value_dim and h.key_dim <= FLASH_MOST


def _efficient(s: Step, q: Tensor, h: Heads) -> bool:
    """It knows no groups; bfloat16 needs compute capability 8; head sizes in steps."""
    if h.groups > 1 or (q.dtype == BFLOAT16 and s.capability < (8, 0)):
        return False
    multiple = 8 if q.dtype.nbytes == 2 else 4
    return h.key_dim % multiple == 0 and h.value_dim % multiple == 0

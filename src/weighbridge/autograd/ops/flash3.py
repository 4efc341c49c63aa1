"""flash-attention 3, which takes sinks: it neither saves them nor gives them a gradient.

    saved    queries, keys, values, the output, a float32 a row

Source: flash-attention hopper/flash_attn_interface.py (FlashAttnFunc), as
kernels-community/vllm-flash-attn3 has it; transformers 5.23 models/gpt_oss/modeling_gpt_oss.py
(_compatible_flash_implementations).
"""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, lower, record
from weighbridge.autograd.ops.attention import Heads
from weighbridge.autograd.tensors import Computed, Tensor
from weighbridge.dtypes import FLOAT32
from weighbridge.kernels import attention as kernels


def flash3(m: Machine, q: Tensor, k: Tensor, v: Tensor, h: Heads) -> Tensor:
    """flash-attention 3: the output lies tokens before heads, whatever the queries do."""
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    out = m.result("attention", (h.batch, h.length, h.heads, h.value_dim), q.dtype)
    sums = m.result("attention", (h.batch, h.heads, h.length), FLOAT32)
    shapes = q.shape, k.shape, v.shape
    asked = h.shape(q.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        made = [m.new(shape, saved[0].dtype) for shape in shapes]
        m.hidden(*kernels.flash3_backward(asked))
        return made

    record(m, back, [q, k, v], [q, k, v, Computed(out.shape, out.dtype, out.storage), sums], out)
    return out

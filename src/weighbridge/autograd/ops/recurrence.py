"""A recurrence over tokens that is written as a loop: a state, and what is read from it.

    state = a[:, :, i] * state + b[:, :, i]         out[i] = state.to(dtype) @ c[:, i]

Each token saves its state, in both dtypes. In backward each slice of a, b and c has zeros of the
whole for its gradient, which is added to those of the tokens behind it: most is alive at the last
token but one, and less at each before it. So the first token and the last ones are run as they are,
and all between as one node, whose tensors lie together.

Source: transformers 5.23 models/mamba/modeling_mamba.py (mamba_selective_scan).
"""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.ops.matrix import matmul
from weighbridge.autograd.ops.pointwise import add, cast, mul
from weighbridge.autograd.ops.shaping import part
from weighbridge.autograd.tensors import Computed, Tensor
from weighbridge.dtypes import DType

FIRST, LAST = 1, 3  # tokens that are run alone


def scanned(
    m: Machine, a: Tensor, b: Tensor, c: Tensor, dtype: DType
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """a, b [batch, inner, tokens, states] in float32, c [batch, tokens, states] in `dtype`; gives
    [batch, inner, tokens], and the loop's variables."""
    batch, inner, tokens, states = a.shape
    state = m.new((batch, inner, states), dtype)
    outs: list[Tensor] = []
    between = max(0, tokens - FIRST - LAST)
    for i in range(tokens - between):
        if i == FIRST and between:
            state, out = _many(m, state, between, dtype)
            outs.append(out)
        state, out = _one(m, a, b, c, state, dtype)
        outs.append(out)
    return _stacked(m, outs, (batch, inner, tokens)), (state, *outs)


def _one(
    m: Machine, a: Tensor, b: Tensor, c: Tensor, state: Tensor, dtype: DType
) -> tuple[Tensor, Tensor]:
    batch, inner, states = state.shape
    state = add(m, mul(m, part(m, a, *state.shape), state), part(m, b, *state.shape))
    read = part(m, c, batch, states, 1)
    out = matmul(m, cast(m, state, dtype), read, 1)
    return state, part(m, out, batch, inner)


def _many(m: Machine, state: Tensor, count: int, dtype: DType) -> tuple[Tensor, Tensor]:
    """The last of `count` states, and what is read from all. Where nothing is saved there is one
    state at a time."""
    before, kept = state, count if m.saves else 1
    states = m.many(kept, state.shape, state.dtype)
    lowered = m.many(kept, state.shape, dtype) if dtype != state.dtype else None
    outs = m.many(count, (*state.shape[:2], 1), dtype)
    state = Computed(state.shape, state.dtype, states.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [grads[0]]

    record(m, back, [before], [before, states, lowered], state, outs)
    return state, outs


def _stacked(m: Machine, outs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """torch.stack; its gradient is cut into views."""
    out = m.new(shape, outs[0].dtype)
    shapes = [t.shape for t in outs]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        return [Computed(each, g.dtype, g.storage) for each in shapes]

    record(m, back, outs, [], out)
    return out

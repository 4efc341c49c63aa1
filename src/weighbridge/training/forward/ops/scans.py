"""State spaces, written out: sums along a dimension, masks, contractions, and a recurrence over
tokens.

    cumulated   cumsum; in backward flipped, summed and flipped back
    masked      masked_fill with a constant: saves the mask
    clamped     saves the input; in backward two masks
    filled      constant_pad_nd, a copy even without padding
    solved      solve_triangular of a system: saves it and the solution
    substituted inverse of a triangle row by row: saves every row and the block before it
    contracted  einsum of two: operands in another order are copied, and bmm saves them

The recurrence is a loop over a state and its readout:

    state = a[:, :, i] * state + b[:, :, i]         out[i] = state.to(dtype) @ c[:, i]

Each token saves its state, in both dtypes. In backward each slice of a, b and c has zeros of the
whole for its gradient, which is added to those of later tokens: the peak is at the last token but
one, with less at each before it. So the first token and the last ones run one by one, and all
between as one node, whose tensors are one allocation.

Source: transformers 5.23 models/mamba2/modeling_mamba2.py, models/mamba/modeling_mamba.py
(mamba_selective_scan); torch aten/src/ATen/native/Linear.cpp (einsum, sumproduct_pair),
torch/csrc/autograd/FunctionsManual.cpp.
"""

from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, DType
from weighbridge.training.forward.loops import Pile
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, record, remade
from weighbridge.training.forward.ops.matrix import matmul
from weighbridge.training.forward.ops.pointwise import add, cast, mul, of_input
from weighbridge.training.forward.ops.shaping import copied, part, stacked, turned
from weighbridge.training.forward.tensors import Computed, Shape, Tensor


def cumulated(m: Machine, x: Tensor) -> Tensor:
    """Return the cumulative sums of `x` along a dimension (cumsum), in float32 under autocast."""
    if m.autocast is not None:
        x = cast(m, x, FLOAT32)
    out = m.new(x.shape, x.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        flipped = m.new(grads[0].shape, grads[0].dtype)
        total = m.new(flipped.shape, flipped.dtype)
        gradient = m.new(flipped.shape, flipped.dtype)
        del flipped, total
        return [gradient]

    record(m, back, [x], [], out)
    return out


def softplus(m: Machine, x: Tensor) -> Tensor:
    """Return softplus of each element, under autocast in float32."""
    return of_input(m, x if m.autocast is None else cast(m, x, FLOAT32))


def masked(m: Machine, x: Tensor, mask: Tensor) -> Tensor:
    return remade(m, x, m.new(x.shape, x.dtype), mask)


def clamped(m: Machine, x: Tensor) -> Tensor:
    out = m.new(x.shape, x.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        low, high = m.new(grads[0].shape, BOOL), m.new(grads[0].shape, BOOL)
        gradient = m.new(grads[0].shape, grads[0].dtype)
        del low, high
        return [gradient]

    record(m, back, [x], [x], out)
    return out


def filled(m: Machine, x: Tensor, shape: Shape) -> Tensor:
    return remade(m, x, m.new(shape, x.dtype))


def interleaved(m: Machine, x: Tensor, shape: Shape) -> Tensor:
    """Return repeat_interleave of `x` as `shape`: a copy, even if repeated once; backward sums over
    the copies."""
    out = m.new(shape, x.dtype)
    before, same = x.shape, x.numel == out.numel

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [grads[0] if same else m.new(before, grads[0].dtype)]

    record(m, back, [x], [], out)
    return out


def solved(m: Machine, a: Tensor, b: Tensor) -> Tensor:
    """Return X with a X = b, a triangular. Backward allocates another solution, and for `a` a
    product, its negative and the triangle of that (linalg_solve_triangular_backward). Autocast
    ignores it."""
    out = m.new(b.shape, b.dtype)
    system, right = a.shape, b.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        of_right = m.new(right, dtype)
        m.product()
        product = m.new(system, dtype)
        negative = m.new(system, dtype)
        del product
        of_system = m.new(system, dtype)
        del negative
        return [of_system, of_right]

    record(m, back, [a, b], [a, Computed(out.shape, out.dtype, out.storage)], out)
    return out


def contracted(
    m: Machine, a: Tensor, b: Tensor, shape: Shape, *, copies: str = "ab", dense: bool = False
) -> Tensor:
    """Return the einsum of `a` and `b` as `shape`. `copies`: operands that are copied into the
    product's layout. `dense`: the gradient has this layout, too, else it is copied. Autocast lowers
    both before."""
    a, b = lower(m, a), lower(m, b)
    if "a" in copies:
        a = copied(m, a)
    if "b" in copies:
        b = copied(m, b)
    out = _product(m, a, b, shape)
    return out if dense else turned(m, out)


def _product(m: Machine, a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    out = m.new(shape, a.dtype)
    m.product()
    left, right = a.shape, b.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        m.product()
        of_right = m.new(right, dtype) if needs[1] else None
        return [m.new(left, dtype) if needs[0] else None, of_right]

    to_save = [a if b.requires_grad else None, b if a.requires_grad else None]
    record(m, back, [a, b], to_save, out)
    return out


def triangle(m: Machine, x: Tensor) -> Tensor:
    """Return the lower triangle (tril) of `x`, a copy; backward copies, too."""
    return remade(m, x, m.new(x.shape, x.dtype))


def substituted(m: Machine, a: Tensor) -> Tensor:
    """Return the inverse of a triangle [..., L, L] by forward substitution, in place, row by row:

        row, sub = a[..., i, :i].clone(), a[..., :i, :i].clone()
        a[..., i, :i] = row + (row.unsqueeze(-1) * sub).sum(-2)

    The product saves both clones: i and i * i elements, for i from 1 to L - 1. Backward copies the
    gradient for the written row, pads those of both clones to the whole and adds them.
    """
    lead, side = a.shape[:-2], a.shape[-1]
    to_save = []
    for i in range(1, side):
        row, square = m.new((*lead, i), a.dtype), m.new((*lead, i, i), a.dtype)
        m.hidden(square.nbytes, row.nbytes, name=m.name)
        if m.saves and a.requires_grad:
            to_save += [row, square]
    out = Computed(a.shape, a.dtype, a.storage)
    whole, last = a.nbytes, square.nbytes
    pile = Pile(to_save)
    del to_save, row, square

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        m.hidden(whole, whole, last, last, name=m.name)
        return [m.new(grads[0].shape, grads[0].dtype)]

    record(m, back, [a], [pile], out)
    return out


# ---- a recurrence as a loop


FIRST, LAST = 1, 3  # tokens traced one by one, before and after the rest


def scanned(
    m: Machine, decay: Tensor, inputs: Tensor, readout: Tensor, dtype: DType
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return (outputs of a scan [batch, inner, tokens], the loop's variables). `decay` and `inputs`
    are a and b, [batch, inner, tokens, states] in float32; `readout` is c, [batch, tokens, states]
    in `dtype`."""
    batch, inner, tokens, states = decay.shape
    state = m.new((batch, inner, states), dtype)
    outs: list[Tensor] = []
    between = max(0, tokens - FIRST - LAST)
    for i in range(tokens - between):
        if i == FIRST and between:
            state, out = _many(m, state, between, dtype)
            outs.append(out)
        state, out = _one(m, decay, inputs, readout, state, dtype)
        outs.append(out)
    return stacked(m, outs, (batch, inner, tokens)), (state, *outs)


def _one(
    m: Machine, decay: Tensor, inputs: Tensor, readout: Tensor, state: Tensor, dtype: DType
) -> tuple[Tensor, Tensor]:
    batch, inner, states = state.shape
    state = add(m, mul(m, part(m, decay, *state.shape), state), part(m, inputs, *state.shape))
    read = part(m, readout, batch, states, 1)
    out = matmul(m, cast(m, state, dtype), read, 1)
    return state, part(m, out, batch, inner)


def _many(m: Machine, state: Tensor, count: int, dtype: DType) -> tuple[Tensor, Tensor]:
    """Return (last of `count` states, all readouts) of tokens that run as one node. If nothing is
    saved, one state lives at a time."""
    before, to_save = state, count if m.saves else 1
    states = m.many(to_save, state.shape, state.dtype)
    lowered = m.many(to_save, state.shape, dtype) if dtype != state.dtype else None
    outs = m.many(count, (*state.shape[:2], 1), dtype)
    state = Computed(state.shape, state.dtype, states.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [grads[0]]

    record(m, back, [before], [before, states, lowered], state, outs)
    return state, outs

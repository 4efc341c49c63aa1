"""Operators that make probabilities of logits [..., outputs], row by row or whole.

logsumexp    a temporary difference as large as the input; saves input and result
unbound      rows of the first dimension as views; their gradients are stacked
selective    gather less logsumexp of each row in float32, else log_softmax of each row, gathered
entropies    chunks of tokens, without gradients
scaled_view  a division in place through a view (CopySlices)
kernel       cross entropy in one kernel: saves the logits; their gradient may overwrite them

Source: torch 2.13 aten/src/ATen/native/ReduceOps.cpp (logsumexp_out_impl),
torch/csrc/autograd/FunctionsManual.cpp (logsumexp_backward, unbind_backward),
torch/csrc/autograd/functions/tensor.cpp (CopySlices::apply); trl 0.15 to 1.13 trainer/utils.py
(selective_log_softmax, entropy_from_logits); flash-attn 2.8 flash_attn/ops/triton/cross_entropy.py
(CrossEntropyLoss).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.units import ceil_div
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.ops.pointwise import mul, of_result, softmax, sub, total
from weighbridge.training.forward.ops.shaping import gathered
from weighbridge.training.forward.tensors import Computed, Shape, Tensor

ENTROPY_TOKENS = 128  # trl trainer/utils.py, entropy_from_logits: chunk_size


def logsumexp(m: Machine, x: Tensor) -> Tensor:
    """Return log(sum(exp(x))) over the last dimension, which is dropped."""
    out = m.new(x.shape[:-1], x.dtype)
    m.hidden(out.nbytes, x.nbytes, name=m.name)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        shape, dtype = saved[0].shape, saved[0].dtype
        difference = m.new(shape, dtype)
        power = m.new(shape, dtype)
        gradient = m.new(shape, dtype)
        del difference, power
        return [gradient]

    record(m, back, [x], [x, out.detach()], out)
    return out


def log_of_sum(m: Machine, pair: Tensor, shape: Shape) -> Tensor:
    """Return logsumexp over the first dimension of `pair`, as `shape`."""
    out = logsumexp(m, pair.view(*shape, pair.shape[0]))
    return out.view(*shape)


def unbound(m: Machine, x: Tensor) -> list[Tensor]:
    """Return the rows of the first dimension, as views."""
    outs: list[Tensor] = [Computed(x.shape[1:], x.dtype, x.storage) for _ in range(x.shape[0])]
    whole = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(whole, grads[0].dtype)]

    record(m, back, [x], [], *outs)
    return outs


def stacked(m: Machine, parts: list[Tensor]) -> Tensor:
    """Return `parts` of one shape, stacked in a new first dimension; gradients are views."""
    shape = parts[0].shape
    out = m.new((len(parts), *shape), parts[0].dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        return [Computed(shape, g.dtype, g.storage) for _ in needs]

    record(m, back, list(parts), [], out)
    return out


def by_rows(m: Machine, x: Tensor, index: Tensor) -> Tensor:
    """Return log-probabilities at `index`, [rows, tokens], from each row's log_softmax, which is
    saved."""
    parts = []
    for row in unbound(m, x):
        soft = softmax(m, row)
        parts.append(gathered(m, soft, index, row.shape[:-1]))
    return stacked(m, parts)


def selective(m: Machine, x: Tensor, index: Tensor) -> Tensor:
    """Return log-probabilities at `index`, [rows, tokens], from logits [rows, tokens, outputs]
    (selective_log_softmax)."""
    if x.dtype != FLOAT32:
        return by_rows(m, x, index)
    picked = gathered(m, x, index, x.shape[:-1])
    sums = stacked(m, [logsumexp(m, row) for row in unbound(m, x)])
    return sub(m, picked, sums)


def whole(m: Machine, x: Tensor, index: Tensor) -> Tensor:
    """Return log-probabilities at `index`, [rows, tokens], from the log_softmax of all rows at
    once."""
    return gathered(m, softmax(m, x), index, x.shape[:-1])


def entropies(m: Machine, x: Tensor, *, dense: bool) -> Tensor:
    """Return the entropy of each token, without gradients, in chunks: a log_softmax, which lives
    until the next is made, its exponential and their product. If not `dense`, `x` is copied
    first."""
    with m.no_grad():
        copy = None if dense else m.new(x.shape, x.dtype)
        out = m.new((x.rows,), x.dtype)
        chunk = (min(ENTROPY_TOKENS, x.rows), x.shape[-1])
        soft = None
        for _ in range(min(2, ceil_div(x.rows, ENTROPY_TOKENS))):
            soft = m.new(chunk, x.dtype)
            power = m.new(chunk, x.dtype)
            product = m.new(chunk, x.dtype)
            del power, product
        del copy, soft
    return out


def scaled_view(m: Machine, base: Tensor, shape: Shape) -> Tensor:
    """Return `base`, divided in place through a view of `shape`. Backward copies the gradient of
    `base`, copies the view's out of that, and divides it."""
    out = Computed(base.shape, base.dtype, base.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        gradient = m.new(g.shape, g.dtype)
        copy = m.new(shape, g.dtype)
        m.hidden(copy.nbytes, name=m.name)
        del copy
        return [gradient]

    record(m, back, [base], [], out)
    return out


def kernel(m: Machine, x: Tensor, index: Tensor, *, over: bool) -> Tensor:
    """Return the negated cross entropy of [..., outputs], in float32, by one kernel. `over`: the
    gradient overwrites the logits."""
    terms, sums = m.new(x.shape[:-1], FLOAT32), m.new(x.shape[:-1], FLOAT32)
    out = m.new(x.shape[:-1], FLOAT32)
    del terms

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        (logits, *_) = saved
        return [logits if over else m.new(logits.shape, logits.dtype)]

    record(m, back, [x], [x.detach() if over else x, sums, index], out)
    return out


def entropy_of_all(m: Machine, x: Tensor) -> Tensor:
    """Return the entropy of each token with gradients, from exp(log_softmax(x)) * log_softmax(x);
    both are saved."""
    soft = softmax(m, x)
    return total(m, mul(m, of_result(m, soft), soft)).view(*x.shape[:-1])

"""Sequence parallelism: tensor ranks share the tokens wherever no matrix is shared out.

    own      what norms, sums of residuals and checkpoints see: tokens / ranks
    whole    what attention and feed-forward are given: gathered from all ranks, and put in the
             order of tokens by a copy; in backward their gradient is reduced and cut
    cut      what they give: sums of all ranks, reduced and cut; in backward gathered

A step whose `token_ranks` are 1 passes through. Source: torchtitan 9dec370 and later
models/llama/parallelize_llama.py (apply_tp: SequenceParallel, PrepareModuleInput, RowwiseParallel
with Shard(1)); torch 2.5 distributed/_functional_collectives.py (all_gather_tensor,
reduce_scatter_tensor), whose results along tokens are copied for they come one rank after another.
"""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.tensors import Shape, Tensor, absent
from weighbridge.training.step import TrainingStep
from weighbridge.units import ceil_div


def own(s: TrainingStep, tokens: Tensor, words: Tensor) -> Tensor:
    """Return the tokens that a stage looks up, all of them; else those whose states it is sent."""
    if s.token_ranks == 1 or not absent(words):
        return tokens
    return tokens.view(s.batch, ceil_div(s.length, s.token_ranks))


def whole(s: TrainingStep, x: Tensor) -> Tensor:
    """The states of all tokens."""
    if s.token_ranks == 1:
        return x
    return _exchanged(s.m, x, (x.shape[0], s.length, *x.shape[2:]))


def cut(s: TrainingStep, x: Tensor) -> Tensor:
    """The rank's own tokens of a sum; nothing to do where there are no others."""
    own_length = ceil_div(s.length, s.token_ranks)
    if s.token_ranks == 1 or x.shape[1] == own_length:
        return x
    return _exchanged(s.m, x, (x.shape[0], own_length, *x.shape[2:]))


def _exchanged(m: Machine, x: Tensor, shape: Shape) -> Tensor:
    """A collective and the copy of whichever is longer, what goes in or what comes out."""
    before = x.shape
    out = _one(m, x, shape)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [_one(m, grads[0], before)]

    record(m, back, [x], [], out)
    return out


def _one(m: Machine, x: Tensor, shape: Shape) -> Tensor:
    """A reduced sum is among what selective checkpoints keep."""
    reduces = shape[1] < x.shape[1]
    joined = m.new(x.shape if reduces else shape, x.dtype)
    out = (
        m.result("sum", shape, x.dtype) if reduces and not m.in_backward else m.new(shape, x.dtype)
    )
    del joined
    return out

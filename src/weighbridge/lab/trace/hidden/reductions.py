"""Sums that go through memory (kernels/reductions.py): how a tensor's dimensions are read."""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch

from weighbridge.kernels import reductions as kernels
from weighbridge.lab.trace.card import Card
from weighbridge.lab.trace.hidden.rule import FLOAT, HiddenRule, Op, size

SOURCE = "aten/src/ATen/native/cuda/Reduce.cuh"


class Axes(NamedTuple):
    """(size, stride) of dimensions, the densest first; neighbours that are one are joined."""

    reduced: list[tuple[int, int]]
    kept: list[tuple[int, int]]


def axes(t: torch.Tensor, dims: Sequence[int]) -> Axes:
    chosen = {d % t.dim() for d in dims} if dims else set(range(t.dim()))
    sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for d in sorted(range(t.dim()), key=lambda d: (t.stride(d), -d)):
        side = sides[d not in chosen]
        if t.shape[d] == 1:
            continue
        if side and side[-1][0] * side[-1][1] == t.stride(d):
            side[-1] = (side[-1][0] * t.shape[d], side[-1][1])
        else:
            side.append((t.shape[d], t.stride(d)))
    return Axes(*sides)


def buffers(found: Axes, element: int, card: Card) -> list[int]:
    """Bytes of the buffer and of its flags."""
    return kernels.buffers(_reduction(found), element, card.chip)


def _reduction(found: Axes) -> kernels.Reduction:
    inputs, outputs = (prod(n for n, _ in side) for side in found)
    dense = not found.kept or bool(found.reduced and found.reduced[0][1] < found.kept[0][1])
    return kernels.Reduction(
        inputs,
        outputs,
        dense=dense,
        folded=len(found.reduced) == 1 and found.reduced[0][1] == 1,
        vector=1 if dense else _outputs_together(found),
    )


def _outputs_together(found: Axes) -> int:
    if found.kept[0][1] != 1:
        return 1
    others = (stride for _, stride in (*found.reduced, *found.kept[1:]))
    return kernels.together(found.kept[0][0], *others)


def _reduced(position: int) -> Callable[[Op], list[int]]:
    """Return a rule for a reduction over the dimensions that argument `position` names."""

    def nbytes(op: Op) -> list[int]:
        t, dims = op.args[0], op.arg(position, "dim")
        if not t.numel() or not t.dim():
            return []
        names = [dims] if isinstance(dims, int) else dims if isinstance(dims, list | tuple) else []
        return buffers(axes(t, names), _accumulator(t.dtype), op.card)

    return nbytes


def _accumulator(dtype: torch.dtype) -> int:
    return FLOAT if dtype.is_floating_point and dtype.itemsize <= FLOAT else max(8, dtype.itemsize)


def _paths(op: Op) -> list[int]:
    """log_beta of CTC's backward: as large as log_alpha."""
    return [size(op.args[6])]


RULES = (
    HiddenRule(ops="sum mean", nbytes=_reduced(1), source=SOURCE),
    HiddenRule(ops="linalg_vector_norm", nbytes=_reduced(2), source=SOURCE),
    HiddenRule(
        ops="_ctc_loss_backward", nbytes=_paths, source="aten/src/ATen/native/cuda/LossCTC.cu"
    ),
)

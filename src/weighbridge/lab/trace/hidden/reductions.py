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


def axes(tensor: torch.Tensor, dims: Sequence[int]) -> Axes:
    chosen = {d % tensor.dim() for d in dims} if dims else set(range(tensor.dim()))
    sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for d in sorted(range(tensor.dim()), key=lambda d: (tensor.stride(d), -d)):
        side = sides[d not in chosen]
        if tensor.shape[d] == 1:
            continue
        if side and side[-1][0] * side[-1][1] == tensor.stride(d):
            side[-1] = (side[-1][0] * tensor.shape[d], side[-1][1])
        else:
            side.append((tensor.shape[d], tensor.stride(d)))
    return Axes(*sides)


def buffers(dimensions: Axes, element: int, card: Card) -> list[int]:
    """Return the bytes of the buffer and of its flags."""
    return kernels.buffers(_reduction(dimensions), element, card.chip)


def _reduction(dimensions: Axes) -> kernels.Reduction:
    inputs, outputs = (prod(n for n, _ in side) for side in dimensions)
    dense = not dimensions.kept or bool(
        dimensions.reduced and dimensions.reduced[0][1] < dimensions.kept[0][1]
    )
    return kernels.Reduction(
        inputs,
        outputs,
        dense=dense,
        folded=len(dimensions.reduced) == 1 and dimensions.reduced[0][1] == 1,
        vector=1 if dense else _outputs_together(dimensions),
    )


def _outputs_together(dimensions: Axes) -> int:
    if dimensions.kept[0][1] != 1:
        return 1
    others = (stride for _, stride in (*dimensions.reduced, *dimensions.kept[1:]))
    return kernels.together(dimensions.kept[0][0], *others)


def _reduced(position: int) -> Callable[[Op], list[int]]:
    """Return a rule for a reduction over the dimensions that argument `position` names."""

    def nbytes(op: Op) -> list[int]:
        tensor, dims = op.args[0], op.arg(position, "dim")
        if not tensor.numel() or not tensor.dim():
            return []
        names = [dims] if isinstance(dims, int) else dims if isinstance(dims, list | tuple) else []
        return buffers(axes(tensor, names), _accumulator(tensor.dtype), op.card)

    return nbytes


def _accumulator(dtype: torch.dtype) -> int:
    return FLOAT if dtype.is_floating_point and dtype.itemsize <= FLOAT else max(8, dtype.itemsize)


def _paths(op: Op) -> list[int]:
    """Return the bytes of log_beta in CTC's backward: as large as log_alpha."""
    return [size(op.args[6])]


RULES = (
    HiddenRule(ops="sum mean", nbytes=_reduced(1), source=SOURCE),
    HiddenRule(ops="linalg_vector_norm", nbytes=_reduced(2), source=SOURCE),
    HiddenRule(
        ops="_ctc_loss_backward", nbytes=_paths, source="aten/src/ATen/native/cuda/LossCTC.cu"
    ),
)

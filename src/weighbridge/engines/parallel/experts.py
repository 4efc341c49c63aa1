"""The experts of a layer on one rank: a slice of each expert, or some of the experts whole.

    by width     F / ranks of every expert: its outputs (gate, up) or its inputs (down)
    by number    E // ranks experts; the first E mod ranks have one more

`WeightKernel` gives the sizes if a kernel repacks MXFP4.

Source: vllm 0.33 model_executor/layers/fused_moe/{config,expert_map_manager}.py and oracle/mxfp4.py
(mxfp4_round_up_hidden_size_and_intermediate_size).
"""

from fractions import Fraction
from functools import cache
from typing import Literal

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import align_up, ceil_div
from weighbridge.engines.parallel.cuts import way
from weighbridge.engines.parallel.rules import ExpertGroup
from weighbridge.models.arch.blueprint import Param

MX = 32  # elements per scale
What = Literal["", "values", "scales", "bias"]  # of MXFP4


class ExpertWeight(NamedTuple):
    """A weight of one of `number` experts of width F, or of all of them in one tensor. `width` is 0
    if the tensor has no F: the bias of the down projection."""

    width: int
    down: bool
    number: int
    hidden: int  # D


def routed(param: Param, hidden: int) -> ExpertWeight | None:
    """Return the expert weight that a parameter is, None if it belongs to no expert. `hidden` gives
    F in a parameter that stacks experts."""
    if param.routed[1] == 1 or param.kind in ("router", "norm"):
        return None
    down = way(param) == "row"
    return ExpertWeight(_width(param, hidden, down=down), down, param.routed[1], hidden)


@cache
def part(
    expert: ExpertWeight,
    sides: tuple[bool, bool],
    group: ExpertGroup,
    *,
    what: What = "",
    more: bool = False,
) -> Fraction:
    """Return the share of an expert tensor that one rank holds. `sides`: whether the tensor spans
    its parameter's outputs, its inputs. `more`: this rank has one expert more than others."""
    outputs, inputs = sides
    result = Fraction(1)
    if what:
        result = _in_kernel(expert, group, what)
    elif expert.width and (inputs if expert.down else outputs):
        result = Fraction(ceil_div(expert.width, group.width), expert.width)
    return result * Fraction(expert.number // group.number + more, expert.number)


def _in_kernel(expert: ExpertWeight, group: ExpertGroup, what: What) -> Fraction:
    """Return the bytes of MXFP4 in the kernel's layout, per byte that the file stores."""
    k = group.kernel
    hidden = align_up(expert.hidden, k.hidden)
    width = align_up(ceil_div(expert.width, group.width), k.columns)
    rows, columns = (hidden, width) if expert.down else (2 * width, hidden)
    stored = expert.hidden if expert.down else 2 * expert.width
    if what == "bias":
        return Fraction(rows * k.bias_bytes, stored * 2)
    stored *= expert.width if expert.down else expert.hidden
    if what == "values":
        scales = align_up(rows, k.value_rows) * align_up(columns // 2, k.value_bytes)
        return Fraction(2 * scales, stored)
    scales = align_up(rows, k.scale_rows) * align_up(columns // MX, k.scale_columns)
    scales += k.file_scales * rows * columns // MX
    return Fraction(MX * scales, stored)


def _width(param: Param, hidden: int, *, down: bool) -> int:
    """Return F, from any weight of an expert; 0 for the bias of the down projection."""
    if param.kind == "expert":
        return param.shape[-1] if down else param.shape[0]
    biased = param.kind == "bias" or param.name.endswith("bias")
    if biased and down:
        return 0
    count = 1 if param.kind == "bias" else param.routed[1]
    halves = 2 if any(word in param.name for word in ("gate_up", "input_linear")) else 1
    return param.numel // count // halves // (1 if biased else max(1, hidden))

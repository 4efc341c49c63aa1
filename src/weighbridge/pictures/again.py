"""Blocks of a denoiser that forget what they saved, and are computed again in backward.

    full      every block
    pairs     two blocks after each other as one
    half      the first two of each four
    offload   every block, whose input waits in host memory

Source: diffusers 0.42 models/modeling_utils.py (gradient_checkpointing_func, use_reentrant=False);
SimpleTuner helpers/training/ (gradient checkpointing intervals, segments and strides).
"""

from collections.abc import Callable
from typing import Any

from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Block, ProgramRun, RunBlock, Value
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.tensors import Tensor

STRIDE, OF_STRIDE = 4, 2


def computed_again(run: ProgramRun, how: str) -> RunBlock | None:
    """Return a function that runs a program's blocks with checkpointing `how`; None without
    checkpointing."""
    if how == "none":
        return None
    if how == "half":
        return _some(run)
    if how == "pairs":
        return _pairs(run)
    return lambda call, place, values: _again(run, call, place, values, away=how == "offload")


def _again(
    run: ProgramRun, call: Block, place: NetPlace, values: tuple[Value, ...], *, away: bool = False
) -> Any:
    """Return a block's output, and drop its saved tensors to recompute them in backward."""

    def layer(*tensors: Tensor) -> Any:
        return _each(call(place, *(Value(run, one) for one in tensors)), lambda v: v.tensor)

    tensors = [value.tensor for value in values]
    out = checkpoint(run.m, layer, *tensors, away=away)
    del tensors
    return _each(out, lambda tensor: Value(run, tensor))


def _each(out: Any, change: Callable[[Any], Any]) -> Any:
    """Return a block's result with `change` applied to each value; a result is one value, or
    several, some of them None."""
    if isinstance(out, list | tuple):
        return tuple(None if one is None else change(one) for one in out)
    return change(out)


def _some(run: ProgramRun) -> RunBlock:
    """Return a function that checkpoints the first two of each four blocks (SimpleTuner's
    seg2-stride4)."""
    count = 0

    def block(call: Block, place: NetPlace, values: tuple[Value, ...]) -> Any:
        nonlocal count
        count += 1
        if (count - 1) % STRIDE < OF_STRIDE:
            return _again(run, call, place, values)
        return call(place, *values)

    return block


def _pairs(run: ProgramRun) -> RunBlock:
    """Recompute two successive blocks as one (SimpleTuner's interval of two)."""
    last: list[tuple[Block, NetPlace, tuple[Value, ...], list[Tensor]]] = []

    def block(call: Block, place: NetPlace, values: tuple[Value, ...]) -> Any:
        before = last.pop() if last else None
        if before is not None and [*map(id, before[3])] == [id(one.tensor) for one in values]:
            first, first_place, inputs, _ = before

            def both(_: NetPlace, *entering: Value) -> Any:
                between = first(first_place, *entering)
                return call(place, *(between if isinstance(between, tuple) else (between,)))

            return _again(run, both, place, inputs)
        out = _again(run, call, place, values)
        results = out if isinstance(out, tuple) else (out,)
        last.append((call, place, values, [one.tensor for one in results if one is not None]))
        return out

    return block

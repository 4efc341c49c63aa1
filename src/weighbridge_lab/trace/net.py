"""A net without a script: a class, or a function that returns a module, run on inputs of a shape.

Trained: forward, a loss that people train with (losses.py), backward and the optimizer, thrice,
since states come with the first step. As in a script, what the net returned lives until the next
step's takes its name. Else inference without gradients.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from weighbridge.base.errors import UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge_lab.trace.inputs import Input
from weighbridge_lab.trace.losses import Loss

STEPS = 3
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name.lower(): value
    for name, value in vars(torch.optim).items()
    if isinstance(value, type)
    and issubclass(value, torch.optim.Optimizer)
    and name not in ("LBFGS", "Optimizer")
}
BLOCKS = nn.Sequential | nn.ModuleList


@frozen_record
class NetRun:
    """A net's run: its inputs, the optimizer that trains it (None: inference), the loss (None: by
    its output), whether products are in bfloat16, and whether its blocks are recomputed."""

    inputs: tuple[Input, ...]
    optimizer: str | None = None
    loss: str | None = None
    bf16: bool = False
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.optimizer is not None and self.optimizer not in OPTIMIZERS:
            known = ", ".join(sorted(OPTIMIZERS))
            raise UsageError(sentence("trace.optimizer", name=self.optimizer, known=known))


class NetDriver:
    """Runs a net that a file defines under a name. `loss`: which one was used."""

    def __init__(self, run: NetRun, name: str) -> None:
        self.run, self.name, self.loss = run, name, ""

    def __call__(self, maker: Any) -> None:
        self.loss = drive(maker, self.run, self.name)


def drive(maker: Any, run: NetRun, name: str = "the net") -> str:
    """Make a module and run it on the card. Return the loss that was used, "" for inference. Raises
    UsageError if the module cannot be made."""
    module = maker if isinstance(maker, nn.Module) else _made(maker, name)
    module.cuda()
    if run.checkpoint:
        _checkpointed(module, name)
    if run.optimizer is None:
        _infers(module, run)
        return ""
    return _trains(module, run, OPTIMIZERS[run.optimizer])


def _made(maker: Any, name: str) -> nn.Module:
    if not callable(maker):
        raise UsageError(sentence("trace.no_net", name=name, kind=type(maker).__name__))
    needed = [
        parameter.name
        for parameter in inspect.signature(maker).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise UsageError(sentence("trace.net_takes", name=name, needed=", ".join(needed)))
    module = maker()
    if not isinstance(module, nn.Module):
        raise UsageError(sentence("trace.no_net", name=name, kind=type(module).__name__))
    return module


def _infers(module: nn.Module, run: NetRun) -> None:
    dtype = torch.bfloat16 if run.bf16 else None
    module.eval().to(dtype)
    with torch.no_grad():
        for _ in range(2):
            module(*(one.tensor("cuda", dtype) for one in run.inputs))


def _trains(module: nn.Module, run: NetRun, rule: type[torch.optim.Optimizer]) -> str:
    module.train()
    maker: Callable[..., torch.optim.Optimizer] = rule
    optimizer, criterion = maker(module.parameters(), lr=1e-3), Loss(run.loss)
    for _ in range(STEPS):
        values = [one.tensor("cuda") for one in run.inputs]
        criterion.labels()
        lower = torch.autocast("cuda", torch.bfloat16) if run.bf16 else contextlib.nullcontext()
        with lower:
            out = module(*values)
            loss = criterion.of(out, values)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return criterion.told


def _checkpointed(module: nn.Module, name: str) -> None:
    """Make backward recompute the blocks in a module's outermost lists."""
    blocks = list(_blocks(module))
    if not blocks:
        raise UsageError(sentence("trace.no_blocks", name=name))
    for block in blocks:
        forward = block.forward
        setattr(block, "forward", _again(forward))  # noqa: B010  a method of one object


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def again(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return again


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, BLOCKS):
            yield from (one for one in child if next(one.parameters(), None) is not None)
        else:
            yield from _blocks(child)

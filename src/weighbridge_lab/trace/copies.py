"""Copies without values of what a notebook holds: modules, optimizers, averages, schedulers, and
whatever keeps them, by one memo. So a copy of an optimizer steps the copies of the parameters, and
tied weights stay one.

Parameters, buffers and an optimizer's states are made anew on the fake card's machine, so that they
may be written to; other tensors, such as data, are the notebook's own, which nothing on a fake card
changes.
"""

import copy
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

MOST = 1 << 17  # objects below one name that are looked at
KEPT = "{name} cannot be copied ({error}): the cell has the notebook's own, whose parameters stay"
PLAIN = (str, bytes, int, float, type, ModuleType, FunctionType, BuiltinFunctionType, type(None))
Trained = (nn.Module, torch.optim.Optimizer)


def copies(names: Mapping[str, Any], device: str = "cpu") -> dict[str, Any]:
    """Return copies of the values that hold parameters, by name, for a fake card that has been
    entered. `device` is for parameters on no card. Lists and dictionaries next to them are copied
    one level deep."""
    below = {name: list(_below(value)) for name, value in names.items()}
    memo: dict[int, Any] = {}
    for one in chain(*below.values()):
        if isinstance(one, Trained):
            memo |= {id(tensor): _empty(tensor, device) for tensor in _written_to(one, memo)}
    copied = {}
    for name, objects in below.items():
        if any(isinstance(one, Trained) or id(one) in memo for one in objects):
            copied[name] = _copied(name, names[name], memo, objects)
        elif isinstance(names[name], list | dict | set):
            copied[name] = memo.setdefault(id(names[name]), copy.copy(names[name]))
    return copied


def _copied(name: str, value: Any, memo: dict[int, Any], objects: Sequence[Any]) -> Any:
    """Return a deep copy of a value; other tensors among its `objects` are not copied."""
    for one in objects:
        if isinstance(one, torch.Tensor):
            memo.setdefault(id(one), one)
    try:
        return copy.deepcopy(value, memo)
    except Exception as error:  # a lock, a file, a handle of a library
        warnings.warn(KEPT.format(name=name, error=type(error).__name__), stacklevel=2)
        return value


def _below(value: Any) -> Iterator[Any]:
    """Yield an object and everything that it refers to, each once."""
    waiting, seen = deque([value]), set[int]()
    while waiting and len(seen) < MOST:
        one = waiting.popleft()
        if isinstance(one, PLAIN) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset | deque):
            waiting += one
        elif not isinstance(one, torch.Tensor):
            waiting += getattr(one, "__dict__", {}).values()


def _written_to(
    one: nn.Module | torch.optim.Optimizer, memo: Mapping[int, Any]
) -> Iterator[torch.Tensor]:
    """Yield the tensors that a module or an optimizer writes to, except those in `memo`."""
    if isinstance(one, nn.Module):
        tensors = [*one.parameters(), *one.buffers()]
    else:
        tensors = [parameter for group in one.param_groups for parameter in group["params"]]
        states = (state for state in one.state.values() if isinstance(state, Mapping))
        tensors += [v for state in states for v in state.values() if isinstance(v, torch.Tensor)]
    yield from (tensor for tensor in tensors if id(tensor) not in memo)


def _empty(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """Return a tensor of the same shape without values, with a gradient if it has one. A counter on
    the host keeps its value, as optimizers divide by what follows from it."""
    there = "cuda" if tensor.device.type == "cuda" else device
    if tensor.numel() == 1 and tensor.device.type == "cpu" and not isinstance(tensor, nn.Parameter):
        with unset_fake_temporarily():
            value = tensor.tolist()
        twin = torch.tensor(value, dtype=tensor.dtype, device=there)
    else:
        twin = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=there)
    kind = nn.Parameter if isinstance(tensor, nn.Parameter) else torch.Tensor.requires_grad_
    return _with_gradient(kind(twin, tensor.requires_grad), tensor, device)


def _with_gradient(twin: torch.Tensor, tensor: torch.Tensor, device: str) -> torch.Tensor:
    if tensor.is_leaf and tensor.grad is not None:
        twin.grad = _empty(tensor.grad, device)
    return twin

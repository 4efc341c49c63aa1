"""Records of allocations that dispatch cannot see: one per mechanism.

first   taken before the outputs, released before them
before  taken before the outputs, held until the operation ends
after   taken after the outputs, until it ends
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge_lab.trace.card import Card

HALF = (torch.float16, torch.bfloat16)
FLOAT = 4  # bytes
When = Literal["first", "before", "after"]
Version = tuple[int, int]  # of torch


class Op(NamedTuple):
    """A call of an operation: its arguments, and the card and torch version."""

    args: Sequence[Any]
    kwargs: dict[str, Any]
    card: Card
    version: Version
    out: Any = None  # once it is known

    def arg(self, position: int, name: str = "", default: Any = None) -> Any:
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)


@frozen_record
class HiddenRule:
    """The bytes that some operations allocate besides their outputs."""

    ops: str  # names without overload, in aten, separated by spaces
    nbytes: Callable[[Op], Iterable[int]]
    source: str
    what: str = ""  # its name on the tape; else "within" its operation
    when: When = "after"
    since: Version = (0, 0)
    until: Version = (99, 0)  # first version without it


def size(tensor: torch.Tensor) -> int:
    nbytes: int = tensor.numel() * tensor.element_size()
    return nbytes


def copied(tensor: Any, memory_format: torch.memory_format = torch.contiguous_format) -> int:
    """Return the bytes that `tensor.contiguous()` allocates: 0 if it is contiguous."""
    if tensor is None or tensor.is_contiguous(memory_format=memory_format):
        return 0
    return size(tensor)


def accumulated(tensor: torch.Tensor) -> int:
    """Return the bytes per element of a sum: acc_type of half types is float."""
    return FLOAT if tensor.dtype in HALF else int(tensor.element_size())

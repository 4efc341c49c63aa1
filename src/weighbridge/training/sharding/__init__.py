"""How ranks share a run, and what one of them holds.

Sharding    the numbers of ranks, and what is shared out over the data-parallel ones
Around      what happens around the parameters, layers and gradients of one rank
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weighbridge.autograd.tensors import Tensor
from weighbridge.training.modules import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    kind: str = "none"  # none, ddp, zero1, zero2, zero3, fsdp1, fsdp2, hsdp
    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    offload: str = "none"

    @property
    def ranks(self) -> int:
        return self.data * self.tensor * self.pipeline * self.context


class Around:
    """One process alone: nothing is gathered and nothing reduced."""

    def layer(self, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Around the forward of one layer, and through the graph around its backward."""
        return run(x)

    def placed(self, built: Any) -> None:
        """The model is in memory."""

    def after_backward(self, built: Any) -> None:
        """All gradients of a micro-batch are there."""

    def before_step(self, built: Any) -> None:
        """The optimizer is about to step."""

"""Hooks around the parameters, layers and gradients of one rank."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from weighbridge.dtypes import DType
from weighbridge.forward.machine import Grads, Machine, Needs, record
from weighbridge.forward.modules import Module, ParameterSpec
from weighbridge.forward.tensors import Computed, LeafTensor, Tensor, TensorStorage

if TYPE_CHECKING:
    from weighbridge.forward.step import BuiltModel


class Around:
    """The hooks of a run, which do nothing here: abstract, never made. `early`: the states of the
    optimizer are made with it; `apart`: it steps one parameter at a time; `host` bytes are kept in
    host memory, `pinned` bytes where each tensor is in a pinned block of its own."""

    early = apart = False
    saves = False  # whether saving takes anything
    host = pinned = 0

    def place(self, m: Machine, spec: ParameterSpec, dtype: DType) -> LeafTensor:
        """One parameter in memory."""
        return m.param(spec.name, spec.shape, dtype, kind=spec.kind)

    def adapter(self, m: Machine, spec: ParameterSpec, dtype: DType) -> LeafTensor:
        """One parameter that is trained beside a frozen base."""
        return m.param(spec.name, spec.shape, dtype, component="adapters", kind=spec.kind)

    def placed(self, m: Machine, built: "BuiltModel") -> None:
        """All of the model is in memory, and what is trained is known."""

    def stepped(self, built: "BuiltModel") -> list[LeafTensor]:
        """List the parameters that the optimizer of this rank steps on."""
        return [p for p in built.own if p.trainable]

    def starting(self, m: Machine) -> TensorStorage | None:
        """Return what is there while states are made with the optimizer."""
        return None

    def begins(self, m: Machine, built: "BuiltModel") -> None:
        """A forward begins."""

    def layer(self, m: Machine, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Around the forward of one layer, and through the graph around its backward."""
        return run(x)

    def logits(self, m: Machine, logits: Tensor) -> Tensor:
        """Return the logits unchanged; a strategy may change them behind the head."""
        return logits

    def turns(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        """The forward of a micro-batch is over, and its backward begins; `last` of the step."""

    def after_backward(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        """The gradients of a micro-batch are there; `last` of the step."""

    def before_step(self, m: Machine, built: "BuiltModel") -> None:
        """The optimizer is about to step."""

    def after_step(self, m: Machine, built: "BuiltModel") -> None:
        """React to a step of the optimizer; a process alone does nothing."""

    def saving(self, m: Machine, built: "BuiltModel") -> None:
        """A checkpoint of the whole model is written: one parameter at a time is gathered, and goes
        to the host. Only where `saves` says that anything is."""
        largest = max(built.own, key=lambda p: p.numel)
        m.hidden(largest.nbytes, largest.nbytes)


@final
class Unshared(Around):
    """A process that shares nothing: no hook does anything."""


def keeping(m: Machine, x: Tensor, kept: list[Tensor]) -> Tensor:
    """Return `x` itself; it is in `kept` with its gradient when that is there."""
    out = Computed(x.shape, x.dtype, x.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        kept.extend((saved[0], grads[0]))
        return [grads[0]]

    record(m, back, [x], [x.detach()], out)
    return out


def passing(m: Machine, x: Tensor, call: Callable[[], None]) -> Tensor:
    """`x` itself; `call` when its gradient is there."""
    out = Computed(x.shape, x.dtype, x.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        call()
        return [grads[0]]

    record(m, back, [x], [], out)
    return out

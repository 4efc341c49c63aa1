"""The loss that a net without a script is trained with: by what it returns, or as somebody says.

    its own `loss`, or numbers alone    those, summed
    the shape of an input               mean square: a denoiser, an autoencoder
    one number a sample or a place      mean square
    else                                cross-entropy over its classes: behind the samples of
                                        pictures and of what keeps the places of its input, else
                                        the last axis

Of several outputs each that has as many classes as the first has a loss of its own (auxiliary
heads); of the others the sum is taken. The sum of everything takes least, since its gradient is
one number: it is taken where somebody asks for it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import Sentence, sentence

KINDS = ("ce", "mse", "sum")
PICTURE = 4  # dimensions of an output that has its classes after the samples


class Labels(NamedTuple):
    """Targets of an output: classes along an axis, or (axis 0) floats of its shape."""

    shape: tuple[int, ...]
    axis: int = 0
    classes: int = 0

    def make(self) -> torch.Tensor:
        if not self.axis:
            return torch.randn(self.shape, device="cuda")
        return torch.randint(0, self.classes, self.shape, device="cuda")


class Loss:
    """The loss over the steps of a training. Labels are made for the first output, and come with
    the inputs from the second step on. `told`: which loss is used."""

    def __init__(self, kind: str | None) -> None:
        self.kind = kind
        self.told: Sentence | str = ""
        self._wanted: list[Labels] = []
        self._made: list[torch.Tensor] = []

    def labels(self) -> None:
        """Make the labels of a step."""
        self._made = [one.make() for one in self._wanted]

    def of(self, out: Any, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the loss of an output. Raises UsageError if there is nothing to train."""
        theirs = out.get("loss") if isinstance(out, dict) else getattr(out, "loss", None)
        if isinstance(theirs, torch.Tensor):
            self.told = sentence("trace.loss.own")
            return theirs
        parts = list(_numbers(out))
        if not parts:
            raise UsageError(sentence("trace.no_loss", kind=type(out).__name__))
        compared = [] if self.kind == "sum" else self._compared(out, parts, inputs)
        if not compared:
            alone = all(part.dim() == 0 for part in parts)
            self.told = sentence("trace.loss.own" if alone else "trace.loss.sum")
        return self._summed(parts, compared)

    def _compared(
        self, out: Any, parts: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Return the outputs that are compared with labels, as chosen at the first step."""
        logits = out.get("logits") if isinstance(out, dict) else getattr(out, "logits", None)
        first = logits if isinstance(logits, torch.Tensor) else None
        first = next((part for part in parts if part.dim()), None) if first is None else first
        if first is None:
            return []
        wanted = wants(first, inputs, self.kind)
        alike = [part for part in parts if part is not first and _alike(part, first, wanted)]
        compared = [first, *alike]
        if not self._wanted:
            key = "trace.loss.ce" if wanted.axis else "trace.loss.mse"
            self.told = sentence(key, classes=f"{wanted.classes:,}")
            self._wanted = [wants(part, inputs, self.kind) for part in compared]
            self.labels()
        return compared

    def _summed(
        self, parts: Sequence[torch.Tensor], compared: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        with_labels = zip(compared, self._made, self._wanted, strict=True) if compared else ()
        losses = [_between(*one) for one in with_labels]
        known = {id(part) for part in compared}
        losses += [part.sum() for part in parts if id(part) not in known]
        return losses[0] if len(losses) == 1 else torch.stack([one.float() for one in losses]).sum()


def wants(out: torch.Tensor, inputs: Sequence[torch.Tensor], kind: str | None = None) -> Labels:
    """Return the labels that an output is compared with. Raises UsageError if classes were
    requested, and it has no axis of them."""
    shape = tuple(out.shape)
    axis = _axis(shape, inputs)
    alike = any(part.is_floating_point() and tuple(part.shape) == shape for part in inputs)
    plain = axis == 0 or shape[axis] == 1 or out.is_complex()
    if kind == "ce" and (axis == 0 or out.is_complex()):
        raise UsageError(sentence("trace.no_classes", shape="x".join(map(str, shape))))
    if kind == "mse" or (kind is None and (plain or alike)):
        return Labels((*shape, 2) if out.is_complex() else shape)
    return Labels(shape[:axis] + shape[axis + 1 :], axis, shape[axis])


def _axis(shape: Sequence[int], inputs: Sequence[torch.Tensor]) -> int:
    """Return the axis of classes; 0 for one number per sample."""
    if len(shape) < 2:  # samples alone
        return 0
    places = tuple(shape[2:])
    same = bool(places) and any(
        part.is_floating_point() and tuple(part.shape[2:]) == places for part in inputs
    )
    return 1 if same or len(shape) >= PICTURE else len(shape) - 1


def _alike(part: torch.Tensor, first: torch.Tensor, wanted: Labels) -> bool:
    """Return whether another output has the first one's kind."""
    if part.dim() != first.dim():
        return False
    return part.shape[wanted.axis] == first.shape[wanted.axis] if wanted.axis else True


def _between(out: torch.Tensor, labels: torch.Tensor, wanted: Labels) -> torch.Tensor:
    if not wanted.axis:
        return functional.mse_loss(torch.view_as_real(out) if out.is_complex() else out, labels)
    if wanted.axis == out.dim() - 1:
        out, labels = out.flatten(0, -2), labels.flatten()
    return functional.cross_entropy(out, labels)


def _numbers(out: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of a module's output that a loss is computed from."""
    if isinstance(out, torch.Tensor):
        if out.requires_grad:
            yield out
    elif isinstance(out, dict):
        for value in out.values():
            yield from _numbers(value)
    elif isinstance(out, Sequence) and not isinstance(out, str):
        for value in out:
            yield from _numbers(value)

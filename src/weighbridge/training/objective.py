"""Objectives other than the next token: rows, passes without gradients, and the frozen model
besides the trained one.

    log-probs    the policy, over generated answers (rewards); no gradients
    reference    a frozen copy, or the same base with its adapters off; while the policy's graph is
                 alive if the framework runs it there

A step of rewards: log-probs, reference, then forward, loss, backward and the optimizer. Of
preferences the reference runs before the policy, or between its loss and its backward, by the
framework, or once before all steps.
"""

from typing import TYPE_CHECKING, Literal

from weighbridge.base.records import frozen_record

if TYPE_CHECKING:
    from weighbridge.training.forward.heads import Head

Reference = Literal["none", "adapter", "copy", "host", "precomputed"]
LOG_PROBS, REFERENCE = "log-probs", "reference"  # phases, and REFERENCE the name of a copy's bytes
ON_CARD = ("copy",)  # references whose weights stay on the GPU


@frozen_record
class Objective:
    """The objective of one method in one framework. `quiet`: rows per forward without gradients (0:
    none), each of `length` tokens (0: as in the step); `answer`: scored tokens per row, 0 for all;
    `adapters`: copies of the adapter besides the trained one; `halved`: a copy has half of the
    policy's bytes, in 16 bits; `empties`: the allocator's cache is emptied between passes."""

    method: str
    head: "Head"
    reference: Reference = "none"
    quiet: int = 0
    length: int = 0
    answer: int = 0
    adapters: int = 0
    halved: bool = False
    empties: bool = False

    @property
    def marks(self) -> bool:
        """Return whether the model has one output instead of a vocabulary: a reward model or a
        critic."""
        return self.method in ("reward", "critic")

    @property
    def compares(self) -> bool:
        """Return whether a frozen reference model runs in each step."""
        return self.reference in ("adapter", "copy", "host")

    @property
    def before(self) -> tuple[str, ...]:
        """Return the names of the passes that a step runs before its forward with gradients."""
        apart = self.compares and not self.within
        return (*((LOG_PROBS,) if self.quiet else ()), *((REFERENCE,) if apart else ()))

    @property
    def within(self) -> bool:
        """Return whether the reference runs while the policy's graph is alive."""
        return self.compares and not self.quiet and self.head.under_graph

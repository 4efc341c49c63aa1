"""What a step learns from, where that is not the next token: rows, passes without gradients, and
the frozen model beside the one that is trained.

    log-probs    the policy, of answers that were written (rewards); no gradients
    reference    a frozen copy, or the same base with its adapters off; under the policy's graph
                 where the framework runs it there

A step of rewards: log-probs, reference, then forward, loss, backward and the optimizer. Of
preferences the reference runs before the policy, or between its loss and its backward, as the
framework has it, or once before all steps.
"""

from typing import TYPE_CHECKING, Literal

from weighbridge.base.records import frozen_record

if TYPE_CHECKING:
    from weighbridge.training.forward.heads import Head

Reference = Literal["none", "adapter", "copy", "host", "precomputed"]
LOG_PROBS, REFERENCE = "log-probs", "reference"  # phases, and REFERENCE the name of a copy's bytes
ON_CARD = ("copy",)  # references whose weights are there all the time


@frozen_record
class Objective:
    """One method as a framework has it. `quiet`: rows of a pass without gradients, 0 where there is
    none, of `length` tokens, 0 for those of the step; `answer`: tokens of a row that are scored, 0
    for all of them; `adapters`: copies of the adapter beside the one that is trained; `halved`: a
    copy has half of the policy's bytes, in 16 bits; `empties`: the allocator's cache goes between
    passes."""

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
        """Tell whether the model has one output, and no vocabulary."""
        return self.method in ("reward", "critic")

    @property
    def compares(self) -> bool:
        """Tell whether a frozen model runs in each step."""
        return self.reference in ("adapter", "copy", "host")

    @property
    def before(self) -> tuple[str, ...]:
        """List the passes of a step that come before its forward."""
        apart = self.compares and not self.within
        return (*((LOG_PROBS,) if self.quiet else ()), *((REFERENCE,) if apart else ()))

    @property
    def within(self) -> bool:
        """Tell whether the reference runs while the policy's graph is there."""
        return self.compares and not self.quiet and self.head.under_graph

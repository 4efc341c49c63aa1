"""Buffers of torch's pipelines per stage, besides the micro-batches in flight.

    arrivals    a buffer for what the stage before sends, and one for the next one's gradient, for
                each micro-batch of a step: made with the first, and kept
    outputs     of the last stage those of all micro-batches, to the beginning of the next step; at
                the end of a step they are joined. Up to torch 2.7 the others keep theirs as well.
                torchtitan requests none since 2025-10-22 (e5ef99aa)

Source: torch 2.6 and 2.13 distributed/pipelining/stage.py (_make_tensor_from_meta,
forward_one_chunk), schedules.py (_merge_outputs); pytorch/pytorch#153383.
"""

from weighbridge.base.units import ceil_div
from weighbridge.base.versions import since
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, Tensor
from weighbridge.training.plan import TrainingPlan

OF_LAST_ALONE = (2, 8)  # torch
NO_OUTPUTS = (2025, 10, 22)  # torchtitan


class StageBuffers:
    """The communication buffers of one rank of a pipeline stage; empty if a framework has its own
    pipelines. `runs` micro-batches are run: what earlier ones left exists from the first on."""

    def __init__(self, s: TrainingStep, plan: TrainingPlan, stage: int, runs: int) -> None:
        there = plan.framework.name == "torchtitan" and plan.sharding.pipeline > 1
        last = stage == plan.sharding.pipeline - 1
        self._s = s
        self._keeps = there and (
            not since(plan.release, NO_OUTPUTS) if last else plan.torch < OF_LAST_ALONE
        )
        self._last, self._kept = last, list[Tensor]()
        self._passed = max(0, plan.accumulation - runs)  # micro-batches that are alike, and not run
        self._gradients: Tensor | None = None
        if not there:
            return
        own = s.batch * ceil_div(s.length, s.token_ranks) * plan.subject.body.hidden
        nbytes = s.dtype.size(own)
        with s.m.making("buffers"):
            if stage:
                s.arrivals = s.m.pile(plan.accumulation, nbytes)
            if not last:
                self._gradients = s.m.pile(plan.accumulation, nbytes)

    def gradient(self, end: Tensor) -> Tensor | None:
        """Return the gradient of what was sent to the next stage, in its receive buffer; None
        without a separate buffer."""
        if self._gradients is None:
            return None
        return Computed(end.shape, end.dtype, self._gradients.storage)

    def begins(self) -> None:
        """Drop the outputs of the step before."""
        self._kept.clear()

    def keep(self, sent: Tensor) -> None:
        """Hold a stage's output to the end of the step: hidden states, or the logits of the last
        stage."""
        if not self._keeps:
            return
        if self._passed and not self._kept:
            with self._s.m.making("logits" if self._last else "activations"):
                self._kept.append(self._s.m.pile(self._passed, sent.nbytes))
        self._kept.append(sent.detach())

    def ends(self) -> None:
        """Allocate the joined outputs of the last stage, as torch does at the end of a step."""
        if self._last and self._kept:
            self._s.m.hidden(sum(t.nbytes for t in self._kept), name="logits")

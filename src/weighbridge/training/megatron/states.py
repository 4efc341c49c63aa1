"""Numbers that one rank has of a stage: dense ones, which tensor ranks share out, and those of
experts, which expert ranks do; and which layers a stage has.

    parameters     2 bytes each, in one buffer where the optimizer is distributed; those that
                   multiply in 8 bits are told in float8.py
    gradients      4 bytes each (2 where they are reduced in bfloat16)
    states         12 bytes each: master weights and two averages. A distributed optimizer has them
                   among data and context ranks, those of experts among ranks with the same experts

A tied embedding is held again by the last stage, for the head; so is one that is not tied, where
further tokens are predicted.
Source: Megatron-LM d98e8a6 core/distributed/param_and_grad_buffer.py,
core/optimizer/distrib_optimizer.py, core/parallel_state.py; its own formula is
training/theoretical_memory_usage.py.
"""

from itertools import accumulate

from weighbridge.training.megatron.float8 import in_float8
from weighbridge.training.megatron.model import MegatronModel, matrices, replicated
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.units import ceil_div


def layers_of(model: MegatronModel, run: MegatronRun, stage: int) -> list[list[int]]:
    """List the layers of each chunk of a stage: chunks go round the stages in turn."""
    count = run.pipeline * run.chunks
    layers = run.layout or (model.layers // count,) * count
    starts = [0, *accumulate(layers)]
    mine = (chunk * run.pipeline + stage for chunk in range(run.chunks))
    return [list(range(starts[i], starts[i + 1])) for i in mine]


class StageNumbers:
    """Count the numbers of one rank of a stage."""

    def __init__(self, model: MegatronModel, run: MegatronRun, stage: int) -> None:
        self.dense = self.experts = 0
        self.float8 = 0  # those of both that multiply in 8 bits
        for chunk in layers_of(model, run, stage):
            for i in chunk:
                self._add(model, run, i)
        rows = model.rows(run.tensor, run.multiple) // run.tensor
        first, last = stage == 0, stage == run.pipeline - 1
        if first:
            self.dense += (rows + model.positions) * model.hidden
        each = (2 if model.centered else 1) * model.hidden  # of a norm
        if last:
            self.dense += each
        if last and run.predicts:
            self._predict(model, run, each)
            if not (first or model.tied):  # words are looked up again
                self.dense += rows * model.hidden
        if last and not (model.tied and first):
            self.dense += rows * model.hidden

    def _predict(self, model: MegatronModel, run: MegatronRun, norm: int) -> None:
        """Add the layers that predict further tokens (MultiTokenPredictionLayer): three norms, a
        linear of two hidden states, and a layer as the last."""
        linear = 2 * model.hidden * model.hidden // run.tensor
        for i in range(run.predicts):
            self._add(model, run, model.layers + i)
            self.dense += 3 * norm + linear
            self.float8 += linear if run.float8 else 0

    def _add(self, model: MegatronModel, run: MegatronRun, layer: int) -> None:
        routed = model.routed(layer)
        self.dense += replicated(model, routed=routed)
        for x in matrices(model, run.tensor, run.expert_tensor, routed=routed):
            numbers = x.numbers
            if x.share == "expert" and model.experts is not None:
                numbers *= model.experts.count // run.expert
                self.experts += numbers
            else:
                self.dense += numbers + (x.rows if x.biased else 0)
            if in_float8(model, run, layer):
                self.float8 += numbers

    @property
    def all(self) -> int:
        return self.dense + self.experts

    def on_host(self, run: MegatronRun) -> int:
        """Count those of them whose states are on the host."""
        return round(run.offloaded * self.stepped(run))

    def stepped(self, run: MegatronRun) -> int:
        """Count those whose states the rank has."""
        if not run.distributed_optimizer:
            return self.all
        dense = max(1, run.data * run.context // run.instances)
        experts = max(1, run.expert_data // run.instances)
        return ceil_div(self.dense, dense) + ceil_div(self.experts, experts)

"""Parameters of one rank of a stage: dense ones, sharded over tensor ranks, and those of experts,
over expert ranks; and the layers of a stage.

    parameters     2 bytes each, in one buffer if the optimizer is distributed; for those that
                   multiply in 8 bits see float8.py
    gradients      4 bytes each (2 if they are reduced in bfloat16, and in runs in fp16)
    states         12 bytes each: master weights and two averages. A distributed optimizer has them
                   among data and context ranks, those of experts among ranks with the same experts
    a step         copies gradients of 16 bits to float32, all at once, unless the optimizer is
                   precision-aware, and has them until the next step zeroes gradients; that one
                   copies states of fewer bytes to float32, of experts or of all others at once, but
                   averages that are both in bfloat16; these, too, by a Transformer Engine before
                   FUSED, which the high bound has if no release is named

Of master weights in float32 a precision-aware optimizer can keep only the lower halves, besides
weights in bfloat16 (store_param_remainders, its default). Published runs had all four bytes, or
something else as large: only the low bound is without the upper halves.

A tied embedding is held again by the last stage, for the head; so is one that is not tied, if
further tokens are predicted. Source: Megatron-LM d98e8a6 core/distributed/param_and_grad_buffer.py,
core/optimizer/{distrib_optimizer,optimizer}.py (_copy_model_grads_to_main_grads, zero_grad),
core/parallel_state.py; its own formula is training/theoretical_memory_usage.py. Transformer Engine
d0067d0 pytorch/optimizers/fused_adam.py (get_unscaled_state, fuse_unscale).
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.training.megatron.adapters import adapted
from weighbridge.training.megatron.arguments import SIZES, recipe
from weighbridge.training.megatron.float8 import in_float8
from weighbridge.training.megatron.model import MegatronModel, linears, small
from weighbridge.training.megatron.run import WEIGHT, MegatronRun
from weighbridge.training.megatron.sharded import GATHERS, REDUCES

FUSED = (2026, 2, 25)  # Transformer Engine 459e7cf, which reads bfloat16 averages without a copy
OF_STATES = {"main_parameter": "main_params", "average": "exp_avg", "square": "exp_avg_sq"}


def states(asked: Mapping[str, Any], release: tuple[int, ...] | None) -> dict[str, Any]:
    """Return the settings of bytes per element of optimizer states, by field of MegatronRun. Raises
    UsageError for dtypes that the usual optimizer does not have."""
    dtypes = [asked.get(name, "fp32") for name in OF_STATES]
    sizes = [SIZES[dtype] for dtype in dtypes]
    precise = bool(asked.get("precise") or asked.get("offloads"))
    for name, argument in OF_STATES.items():
        if not precise and SIZES[asked.get(name, "fp32")] < SIZES["fp32"]:
            raise UsageError(sentence("megatron.precision_aware", name=argument, asked=asked[name]))
    fused = all(dtype.startswith("bf") for dtype in dtypes[1:]) and (
        release is None or release >= FUSED
    )
    read = sizes[:1] if fused else sizes
    return {
        "states": sum(sizes),
        "remainders": bool(asked.get("precise"))
        and sizes[0] == 4
        and recipe(asked) in (None, "delayed"),
        "precise": precise,
        "widened": sum(size < SIZES["fp32"] for size in read),
        "widened_before": sum(size < SIZES["fp32"] for size in sizes) if release is None else 0,
    }


def layers_of(model: MegatronModel, run: MegatronRun, stage: int) -> list[list[int]]:
    """Return the layer numbers of each chunk of a stage; chunks are dealt to stages in turn."""
    count = run.pipeline * run.chunks
    layers = run.layout or (model.layers // count,) * count
    starts = [0, *accumulate(layers)]
    mine = (chunk * run.pipeline + stage for chunk in range(run.chunks))
    return [list(range(starts[i], starts[i + 1])) for i in mine]


class StageNumbers:
    """Numbers of parameters on one rank of a stage."""

    def __init__(self, model: MegatronModel, run: MegatronRun, stage: int) -> None:
        self.dense = self.experts = 0
        self.float8 = 0  # parameters that multiply in 8 bits, dense or experts'
        self.adapters, self.expert_adapters = 0, 0  # adapters' parameters, dense and of experts
        self.layers: list[int] = []  # parameters per layer
        self._counted: dict[tuple[str, bool], LayerNumbers] = {}
        for chunk in layers_of(model, run, stage):
            for i in chunk:
                self._add(model, run, i)
        rows = model.rows(run.tensor, run.multiple) // run.tensor
        first, last = stage == 0, stage == run.pipeline - 1
        if first:
            self.dense += (rows + model.positions) * model.hidden
        if last:
            self._end(model, run, rows * model.hidden, first=first)

    def _end(self, model: MegatronModel, run: MegatronRun, words: int, *, first: bool) -> None:
        """Add the parameters of the last stage: a norm, the layers that predict further tokens, and
        the head."""
        each = (2 if model.centered else 1) * model.hidden  # elements of a norm
        self.dense += each
        if run.predicts:
            self._predict(model, run, each)
            if not (first or model.tied):  # a copy of the embedding, to look up further tokens
                self.dense += words
        if model.values:
            self.dense += model.hidden + 1
        elif not (model.tied and first):
            self.dense += words

    def _predict(self, model: MegatronModel, run: MegatronRun, norm: int) -> None:
        """Add the layers that predict further tokens (MultiTokenPredictionLayer): three norms, a
        linear of two hidden states, and a layer like the last."""
        linear = 2 * model.hidden * model.hidden // run.tensor
        for i in range(run.predicts):
            self._add(model, run, model.layers + i)
            self.dense += 3 * norm + linear
            self.float8 += linear if run.float8 else 0

    def _add(self, model: MegatronModel, run: MegatronRun, layer: int) -> None:
        """Add the parameters of a layer; layers alike are counted once."""
        kind = model.kind(layer), in_float8(model, run, layer)
        if kind not in self._counted:
            self._counted[kind] = _numbers(model, run, layer)
        one = self._counted[kind]
        self.dense += one.dense + one.adapters
        self.experts += one.experts + one.expert_adapters
        self.adapters += one.adapters
        self.expert_adapters += one.expert_adapters
        self.float8 += one.float8
        self.layers.append(one.dense + one.experts)

    @property
    def all(self) -> int:
        return self.dense + self.experts

    def saved(self, run: MegatronRun, states: int) -> int:
        """Return the bytes of a checkpoint that the rank writes, with `states` bytes per parameter.
        Ranks with the same parameters share the writing; for experts these are fewer."""
        sharing = max(1, run.data * run.context), max(1, run.expert_data)
        trained = zip(self.trained(run), sharing, strict=True)
        return (WEIGHT + states) * sum(ceil_div(numbers, ranks) for numbers, ranks in trained)

    def on_host(self, run: MegatronRun) -> int:
        """Return the number of parameters whose states are on the host."""
        return round(run.offloaded * self.stepped(run))

    def stepped(self, run: MegatronRun) -> int:
        """Return the number of parameters whose states the rank has, which it updates."""
        return sum(self._shares(run))

    def weighed(self, run: MegatronRun) -> int:
        """Return the number of parameters whose weights the rank holds between steps."""
        return self.stepped(run) if run.sharded in GATHERS else self.all

    def reduced(self, run: MegatronRun) -> int:
        """Return the number of parameters whose main gradients the rank holds."""
        return self.stepped(run) if run.sharded in REDUCES else sum(self.trained(run))

    def trained(self, run: MegatronRun) -> tuple[int, int]:
        """Return (trained dense parameters, trained parameters of experts)."""
        return (self.adapters, self.expert_adapters) if run.lora else (self.dense, self.experts)

    def copied(self, run: MegatronRun) -> int:
        """Return the bytes of float32 gradients that a step copies from 16-bit ones; they live
        until the next step begins."""
        if run.main_gradient >= 4 or run.precise:
            return 0
        return round((1 - run.offloaded) * 4 * self.stepped(run))

    def widened(self, run: MegatronRun) -> int:
        """Return the bytes of states that a step temporarily copies to float32."""
        return round((1 - run.offloaded) * 4 * run.widened * max(self._shares(run)))

    def _shares(self, run: MegatronRun) -> tuple[int, int]:
        """Return (dense parameters, parameters of experts) whose states the rank has."""
        dense, experts = self.trained(run)
        if not run.distributed_optimizer:
            return dense, experts
        return (
            ceil_div(dense, max(1, run.data * run.context // run.instances)),
            ceil_div(experts, max(1, run.expert_data // run.instances)),
        )


class LayerNumbers(NamedTuple):
    """Numbers of parameters of a layer on one rank, with experts and adapters separate; `float8`
    counts those that multiply in 8 bits."""

    dense: int
    experts: int
    float8: int
    adapters: int
    expert_adapters: int


def _numbers(model: MegatronModel, run: MegatronRun, layer: int) -> LayerNumbers:
    dense, experts, multiplied = sum(small(model, run.tensor, layer)), 0, 0
    adapters = {True: 0, False: 0}
    for x in linears(model, run.tensor, run.expert_tensor, layer):
        feed = model.experts if x.share == "expert" else None
        several = 1 if feed is None else feed.count // run.expert
        numbers = several * x.numbers
        adapters[feed is not None] += several * adapted(run, x)
        if feed is not None:
            experts += numbers
        else:
            dense += numbers + (x.rows if x.biased else 0)
        multiplied += numbers
    low = multiplied if in_float8(model, run, layer) else 0
    return LayerNumbers(dense, experts, low, adapters[False], adapters[True])

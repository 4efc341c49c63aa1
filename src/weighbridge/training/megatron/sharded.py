"""Weights that data ranks shard: Megatron-FSDP, and torch's FSDP2 under Megatron.

    optim                weights and gradients are whole, and states sharded, as by the
                         distributed optimizer
    optim_grads          gradients sharded; each layer's are whole until they are reduced
    optim_grads_params   weights, too: a layer's are gathered for its forward and its backward
    fsdp2                torch's fully_shard of each layer, the embedding and the head

    not of a layer       embedding, last norm and head stay gathered from their first use on; with
                         FSDP2 each is gathered separately
    ahead                Megatron-FSDP gathers the next layers too, until those have half as many
                         elements as two layers have, and no fewer than 500 million: all of a small
                         model. FSDP2 gathers one
    double buffers       fsdp_double_buffer, which use_nccl_ub requires, has room for the weights
                         and the gradients of two layers, the largest, which is kept to the end
    reduced              whole gradients wait until more than two layers' elements, and no fewer
                         than 1,000 million, wait; FSDP2 has those of one layer

Dense weights are sharded over data and context ranks, those of experts over ranks with the same
experts. Megatron-FSDP's main gradients are in float32: by megatron_fsdp_main_grads_dtype the newest
release has those of bfloat16 in bfloat16 by default, and its own tests had 4 bytes per element with
it and without. Source: Megatron-LM d98e8a6 core/distributed/fsdp/src/megatron_fsdp/{megatron_fsdp,
param_and_grad_buffer}.py, core/distributed/torch_fully_sharded_data_parallel.py.
"""

from collections.abc import Callable, Sequence
from typing import Any

from weighbridge.base.dtypes import INT8
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.tensors import Computed, Tensor
from weighbridge.training.megatron import float8
from weighbridge.training.megatron.run import WEIGHT, MegatronRun

UNIT = 1_000_000_000  # elements that wait to be reduced; half as many are gathered ahead
GATHERS = ("optim_grads_params", "fsdp2")
REDUCES = ("optim_grads", *GATHERS)


class ShardedLayers:
    """The gathered weights and whole gradients of a rank's layers. `sizes`: elements of each layer,
    in running order; `others`: elements outside layers."""

    def __init__(self, m: Machine, run: MegatronRun, sizes: Sequence[int], others: int) -> None:
        self.m = m
        self.run = run
        self.sizes = sizes
        self.others = others
        self.gathers = run.sharded in GATHERS
        self.reduces = run.sharded in REDUCES
        self.own = run.sharded != "fsdp2"  # Megatron-FSDP, not torch's FSDP2
        self.each = run.main_gradient
        mean = sum(sizes) // max(1, len(sizes))
        self.most = max(UNIT, 2 * mean) if self.own else 0
        self._weights: dict[int, Tensor] = {}
        self._gradients: list[tuple[int, Tensor]] = []
        self._others: list[Tensor] = []
        self._pools: list[Tensor] = []
        self.pooled = run.double_buffers and self.own

    def begin(self) -> None:
        """Begin a step: gather what belongs to no layer, and allocate double buffers."""
        if self.pooled and self.reduces and not self._pools:
            two = 2 * max(self.sizes, default=0)
            if self.gathers:
                self._pools.append(self.m.new((self._gathered(two),), INT8, "buffers"))
            self._pools.append(self.m.new((self.each * two,), INT8, "buffers"))
        if self.gathers and not self._others:
            self._others.append(self.m.new((WEIGHT * self.others,), INT8, "weights"))

    def end(self) -> None:
        """End a step: free all that was gathered."""
        self._others.clear()
        self._weights.clear()
        self._gradients.clear()

    def around(self, i: int, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return `run(x)` of layer `i`, with its weights gathered for forward and for backward."""
        if not self.reduces or self.pooled:
            return run(x)
        recomputed = self.m.in_backward
        self._gather(i, 0 if recomputed else 1)
        out = self._marked(run(self._marked(x, lambda: self._ended(i))), lambda: self._begun(i))
        if not recomputed:
            self._weights.pop(i, None)
        return out

    def whole(self) -> None:
        """Allocate the whole gradients of what belongs to no layer, when a backward ends."""
        if self.reduces:
            self.m.hidden(self.each * self.others)
        self._gradients.clear()
        self._weights.clear()

    def _marked(self, x: Tensor, told: Callable[[], None]) -> Tensor:
        """Return the tensor `x`; `told` is called when its gradient passes."""
        out = Computed(x.shape, x.dtype, x.storage)

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            told()
            return [grads[0]]

        record(self.m, back, [x], [], out)
        return out

    def _gather(self, i: int, step: int) -> None:
        """Gather the weights of layer `i`, and of layers after it in the direction `step` (0:
        none)."""
        if not self.gathers:
            return
        self._take(i)
        ahead, more = i + step, 0
        while step and 0 <= ahead < len(self.sizes):
            self._take(ahead)
            more += self.sizes[ahead]
            ahead += step
            if 2 * more >= self.most:
                break

    def _take(self, i: int) -> None:
        if i not in self._weights:
            self._weights[i] = self.m.new((self._gathered(self.sizes[i]),), INT8, "weights")

    def _gathered(self, numbers: int) -> int:
        """Return the bytes of gathered weights of `numbers` elements: in 8 bits, in both layouts,
        if they exist only so."""
        if not self.run.float8_parameters:
            return WEIGHT * numbers
        return sum(float8.weights(self.run, numbers))

    def _begun(self, i: int) -> None:
        """Begin the backward of layer `i`: gather its weights, and allocate its whole gradients."""
        self._gather(i, -1)
        self._reduce(self.most if self.own else 0)
        gradients = self.m.new((self.each * self.sizes[i],), INT8, "gradients")
        self._gradients.append((self.sizes[i], gradients))

    def _reduce(self, most: int) -> None:
        """Free the oldest gradients, as reduced, until at most `most` elements wait."""
        while self._gradients and sum(n for n, _ in self._gradients) > most:
            self._gradients.pop(0)

    def _ended(self, i: int) -> None:
        self._weights.pop(i, None)

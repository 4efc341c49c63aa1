"""DeepSpeed's ZeRO: states, then gradients, then parameters in N parts; the master copy in float32.

    stage 1    2 P + 2 P + 12 P / N    16-bit weights and gradients whole, the rest in parts
    stage 2    2 P + 2 P / N + 12 P / N
    stage 3    (2 + 2 + 12) P / N, and what is gathered for the module that runs
    buckets    reduce_bucket_size numbers of gradients (two with overlap_comm); prefetched
               parameters; parameters below the persistence threshold stay whole
    step       gradients of the part in float32

States are made when the engine is. With the Trainer sizes are its "auto": hidden^2, 0.9 hidden^2
and 10 hidden (transformers integrations/deepspeed.py). Source: DeepSpeed runtime/zero/config.py,
stage_1_and_2.py (setup_buckets, initialize_optimizer_states), stage3.py; the paper's section 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.tensors import Param, Storage, Tensor
from weighbridge.dtypes import FLOAT32, DType
from weighbridge.training.modules import Module
from weighbridge.training.sharding.around import Around
from weighbridge.units import ceil_div

if TYPE_CHECKING:
    from weighbridge.training.step import Built
    from weighbridge.training.tensors import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers, not bytes: DeepSpeed's own defaults, or the Trainer's."""

    reduce: int = 500_000_000
    prefetch: int = 50_000_000
    persistent: int = 100_000
    buckets: int = 1

    @classmethod
    def auto(cls, hidden: int) -> "Sizes":
        square = hidden * hidden
        return cls(reduce=square, prefetch=square * 9 // 10, persistent=10 * hidden)


class Zero(Around):
    """One rank of `ranks`. `offload`: none, optimizer, params or nvme."""

    early = True

    def __init__(self, stage: int, ranks: int, sizes: Sizes, offload: str) -> None:
        self.stage = stage
        self.saves = stage == 3
        self.ranks = ranks
        self.sizes = sizes
        self.offload = offload
        self.host = 0
        self._part: Param | None = None
        self._kept: list[Storage] = []
        self._averaged: Storage | None = None

    def place(self, m: Machine, h: "Held", dtype: DType) -> Param:
        if self.stage < 3:
            return m.param(h.name, h.shape, dtype, kind=h.kind)
        whole = Param(h.name, h.shape, dtype, None, kind=h.kind)
        own = whole.numel
        if own > self.sizes.persistent:
            own = ceil_div(own, self.ranks)
            if self.offload in ("params", "nvme"):
                self.host += dtype.size(own) if self.offload == "params" else 0
                return whole
        self._kept.append(Storage(m.heap, dtype.size(own), "weights"))
        return whole

    def placed(self, m: Machine, built: "Built") -> None:
        mine = [p for p in built.params.values() if p.trainable]
        if not mine:
            return
        own = ceil_div(sum(p.numel for p in mine), self.ranks)
        dtype = mine[0].dtype
        self._part = Param("partition", (own,), FLOAT32, None)
        if self.offload == "none":
            self._part.storage = Storage(m.heap, FLOAT32.size(own), "master_weights")
        elif self.offload != "nvme":
            self.host += FLOAT32.size(own)
        if self.stage == 3:
            self._kept.append(Storage(m.heap, dtype.size(own), "gradients"))
        bucket = min(self.sizes.reduce, sum(p.numel for p in mine))
        for _ in range(self.sizes.buckets):
            self._kept.append(Storage(m.heap, dtype.size(bucket), "temporaries"))
        if self.stage > 1:
            for p in mine:
                p.hooks.append(self._reduced)

    def stepped(self, built: "Built") -> list[Param]:
        return [self._part] if self._part is not None else []

    def layer(self, m: Machine, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.stage < 3:
            return run(x)
        params = [q for q in p.params.values() if q.name.startswith(p.path)]
        large = [q.numel for q in params if q.numel > self.sizes.persistent]
        live = min(sum(large), max(large, default=0) + self.sizes.prefetch)
        gathered = Storage(m.heap, params[0].dtype.size(live), "temporaries") if live else None
        out = run(x)
        del gathered
        return out

    def before_step(self, m: Machine, built: "Built") -> None:
        """The part's gradients in float32; on the host where states are."""
        if self._part is None or self.offload != "none":
            return
        self._part.grad = m.new(self._part.shape, FLOAT32, "gradients")

    def after_step(self, m: Machine, built: "Built") -> None:
        self._averaged = None
        for p in built.params.values():
            p.grad = None

    def _reduced(self, m: Machine, p: Param) -> None:
        """A gradient goes into the bucket, and the part's own into what is averaged."""
        assert self._part is not None
        if self.stage == 2 and self._averaged is None and self.offload == "none":
            self._averaged = Storage(m.heap, p.dtype.size(self._part.numel), "gradients")
        p.grad = None

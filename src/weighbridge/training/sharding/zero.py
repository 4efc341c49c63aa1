"""DeepSpeed's ZeRO: states, then gradients, then parameters in N parts; the master copy in float32.

    stage 1    2 P + 2 P + 12 P / N    16-bit weights and gradients whole, the rest in parts
    stage 2    2 P + 2 P / N + 12 P / N
    stage 3    (2 + 2 + 12) P / N, and what is gathered for the module that runs
    buckets    reduce_bucket_size numbers of gradients (two with overlap_comm)
    gathered   the largest parameter of a layer and what is prefetched, again in backward; the
               embedding and the head while they run; layers that are used again soon stay.
               Parameters below the persistence threshold are whole
    step       gradients of the part in one, and in float32

States are made when the engine is. With the Trainer sizes are its "auto": hidden^2, 0.9 hidden^2
and 10 hidden (transformers integrations/deepspeed.py). Source: DeepSpeed runtime/zero/config.py,
stage_1_and_2.py (setup_buckets, initialize_optimizer_states), stage3.py; the paper's section 5.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.tensors import ELSEWHERE, Param, Storage, Tensor
from weighbridge.dtypes import FLOAT32, DType
from weighbridge.training.modules import Module
from weighbridge.training.sharding.around import Around, passing
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
    reuse: int = 1_000_000_000

    @classmethod
    def auto(cls, hidden: int) -> "Sizes":
        square = hidden * hidden
        return cls(reduce=square, prefetch=square * 9 // 10, persistent=10 * hidden)


HEAD = "head"


def _staying(sizes: Sequence[int], head: int, reuse: int, paths: Sequence[str]) -> set[str]:
    """Layers that are used again, in backward, before so many other numbers are: they are not
    given back (partitioned_param_coordinator.py, __params_to_release)."""
    found, between = set(), 2 * head
    for path, size in zip(reversed(paths), reversed(sizes), strict=True):
        if between >= reuse:
            break
        found.add(path)
        between += 2 * size
    return found


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
        self._gathered: dict[str, Storage] = {}  # by path of a layer
        self._stay: set[str] = set()
        self._head = 0  # bytes
        self._last = ""

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

    def begins(self, m: Machine, built: "Built") -> None:
        if self.stage < 3 or not built.layers:
            return
        layers = tuple(built.stacks)
        rest = [p for p in built.params.values() if not p.name.startswith(layers)]
        embedding = sum(self._large(p for p in rest if p.kind == "embedding"))
        head = sum(self._large(p for p in rest if p.kind != "embedding")) or embedding
        m.hidden(rest[0].dtype.size(embedding))
        self._head = rest[0].dtype.size(head)
        self._last = layers[-1]
        self._stay = _staying(
            [sum(self._large(built.params.values(), path)) for path in layers],
            head,
            self.sizes.reuse,
            layers,
        )

    def layer(self, m: Machine, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.stage < 3:
            return run(x)
        path = p.path
        params = [q for q in p.params.values() if q.name.startswith(path)]
        large = list(self._large(params))
        dtype = params[0].dtype
        live = dtype.size(min(sum(large), max(large, default=0) + self.sizes.prefetch))
        whole = dtype.size(sum(large))
        stays = path in self._stay
        self._gather(m, path, whole if stays else live)
        out = run(passing(m, x, lambda: self._release(path)))
        if not stays:
            self._release(path)
        out = passing(m, out, lambda: self._gather(m, path, live))
        if path == self._last:
            self._gather(m, HEAD, self._head)
            out = passing(m, out, lambda: self._release(HEAD))
        return out

    def logits(self, m: Machine, logits: Tensor) -> Tensor:
        if self.stage < 3:
            return logits
        self._release(HEAD)
        return passing(m, logits, lambda: self._gather(m, HEAD, self._head))

    def after_backward(self, m: Machine, built: "Built", *, last: bool) -> None:
        self._gathered.clear()

    def _large(self, params: Iterable[Param], path: str = "") -> Iterator[int]:
        """Numbers of those that are not there all the time."""
        sizes = (p.numel for p in params if p.name.startswith(path) and p.kind != ELSEWHERE)
        return (n for n in sizes if n > self.sizes.persistent)

    def _gather(self, m: Machine, path: str, nbytes: int) -> None:
        if path not in self._gathered and nbytes:
            self._gathered[path] = Storage(m.heap, nbytes, "temporaries")

    def _release(self, path: str) -> None:
        self._gathered.pop(path, None)

    def before_step(self, m: Machine, built: "Built") -> None:
        """The part's gradients in float32; on the host where states are."""
        if self._part is None or self.offload != "none":
            return
        lower = next(p.dtype for p in built.params.values() if p.trainable)
        joined = None if self.stage == 3 else m.new(self._part.shape, lower, "gradients")
        self._part.grad = m.new(self._part.shape, FLOAT32, "gradients")
        del joined

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

"""FSDP2 (fully_shard): each rank keeps a part of every parameter; a unit is gathered when it runs.

    gather      the rank's parts, cast to the compute dtype, and all parts in one buffer, on a
                stream of its own; from there into the parameters. In forward the buffer lives until
                the next unit's copy, in backward the next unit is gathered ahead
    scatter     gradients into one buffer of the reduce dtype, which lives until the next unit's;
                what is left is the rank's part, cast to the parameters' dtype
    units       each layer; embedding, last norm and head are the root's, which stays gathered from
                its forward to the end of backward

Source: torch 2.13 distributed/fsdp/_fully_shard/{_fsdp_collectives,_fsdp_param_group,_fsdp_state,
_fsdp_param}.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from weighbridge.autograd.engine import TEMPORARIES
from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.tensors import Param, Storage, Tensor
from weighbridge.dtypes import DType
from weighbridge.training.modules import Module
from weighbridge.training.sharding.around import Around
from weighbridge.training.sharding.numbers import share

if TYPE_CHECKING:
    from weighbridge.training.step import Built
    from weighbridge.training.tensors import Held

GATHER, SCATTER = 1, 2  # streams


@dataclass(slots=True, eq=False)
class Unit:
    """Parameters that are gathered together, with the rank's own parts."""

    params: list[Param] = field(default_factory=list)
    parts: list[Param] = field(default_factory=list)
    gathered: Storage | None = None  # all parts in one buffer
    whole: list[Storage] = field(default_factory=list)  # the parameters, while they are there

    @property
    def padded(self) -> int:
        """Numbers of all ranks' parts are so many times the rank's own."""
        return sum(p.numel for p in self.parts)


class FullyShard(Around):
    """`compute` and `reduce` are the dtypes of MixedPrecisionPolicy; parts stay in their own."""

    def __init__(self, ranks: int, compute: DType, reduce: DType, *, reshard: bool = True) -> None:
        self.ranks = ranks
        self.compute = compute
        self.reduce = reduce
        self.reshard_after_forward = reshard
        self.root = Unit()
        self.units: dict[str, Unit] = {}
        self._part_of: dict[str, Param] = {}
        self._copied: Storage | None = None  # the buffer of the unit before, in forward
        self._scattered: list[Storage] = []
        self._order: list[Unit] = []  # as forward ran
        self._done: set[int] = set()

    def place(self, m: Machine, h: "Held", dtype: DType) -> Param:
        """The rank's part takes memory; the parameter itself none, until it is gathered."""
        rows, rest = (h.shape[0], h.shape[1:]) if h.shape else (1, ())
        part = m.param(h.name, (share(rows, self.ranks), *rest), dtype, kind=h.kind)
        self._part_of[h.name] = part
        return Param(h.name, h.shape, self.compute, None, kind=h.kind)

    def placed(self, m: Machine, built: "Built") -> None:
        paths = {layer.path: Unit() for layer in built.layers}
        self.units = paths
        for p in built.params.values():
            part = self._part_of.get(p.name)
            if part is None:
                continue
            part.trainable = p.trainable
            prefix = next((path for path in paths if p.name.startswith(path)), None)
            unit = paths[prefix] if prefix is not None else self.root
            unit.params.append(p)
            unit.parts.append(part)

    def stepped(self, built: "Built") -> list[Param]:
        mine = [p for unit in (self.root, *self.units.values()) for p in unit.parts]
        whole = [p for p in built.params.values() if p.name not in self._part_of]
        return [p for p in (*mine, *whole) if p.trainable]

    def begins(self, m: Machine, built: "Built") -> None:
        self._order.clear()
        self._done.clear()
        self._gather(m, self.root)
        self._copy_out(m, self.root, forward=True)

    def layer(self, m: Machine, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        unit = self.units[p.path]
        self._gather(m, unit)
        self._copy_out(m, unit, forward=True)
        self._order.append(unit)
        out = run(_passing(m, x, lambda: self._post_backward(m, unit)))
        if self.reshard_after_forward:
            unit.whole.clear()
        return _passing(m, out, lambda: self._pre_backward(m, unit))

    def after_backward(self, m: Machine, built: "Built", *, last: bool) -> None:
        for unit in (*self._order, self.root):
            self._post_backward(m, unit)
        self._scattered.clear()
        self._copied = None

    def _gather(self, m: Machine, unit: Unit) -> None:
        if unit.whole or unit.gathered is not None or not unit.parts:
            return
        cast = unit.parts[0].dtype != self.compute
        own = self.compute.size(unit.padded)
        flat = Storage(m.heap, own, TEMPORARIES, GATHER) if cast else None
        unit.gathered = Storage(m.heap, own * self.ranks, TEMPORARIES, GATHER)
        del flat

    def _copy_out(self, m: Machine, unit: Unit, *, forward: bool) -> None:
        if unit.gathered is None:
            return
        self._copied = None
        for part in unit.parts:
            nbytes = self.compute.size(part.numel * self.ranks)
            unit.whole.append(Storage(m.heap, nbytes, TEMPORARIES))
        if forward:
            self._copied = unit.gathered
        unit.gathered = None

    def _pre_backward(self, m: Machine, unit: Unit) -> None:
        self._gather(m, unit)
        self._copy_out(m, unit, forward=False)
        at = next(i for i, u in enumerate(self._order) if u is unit)
        if at:
            self._gather(m, self._order[at - 1])

    def _post_backward(self, m: Machine, unit: Unit) -> None:
        if id(unit) in self._done:
            return
        self._done.add(id(unit))
        unit.whole.clear()
        pairs = [
            (p, part) for p, part in zip(unit.params, unit.parts, strict=True) if p.grad is not None
        ]
        self._scattered.clear()
        if not pairs:
            return
        count = sum(part.numel for _, part in pairs)
        sent = Storage(m.heap, self.reduce.size(count * self.ranks), TEMPORARIES)
        for p, _ in pairs:
            p.grad = None
        held = Storage(m.heap, self.reduce.size(count), "gradients", SCATTER)
        dtype = pairs[0][1].dtype
        if dtype != self.reduce:
            held = Storage(m.heap, dtype.size(count), "gradients", SCATTER)
        for _, part in pairs:
            if part.grad is None:
                part.grad = Tensor(part.shape, dtype, held)
        self._scattered.append(sent)


def _passing(m: Machine, x: Tensor, call: Callable[[], None]) -> Tensor:
    """`x` itself; `call` when its gradient is there."""
    out = Tensor(x.shape, x.dtype, x.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        call()
        return [grads[0]]

    record(m, back, [x], [], out)
    return out

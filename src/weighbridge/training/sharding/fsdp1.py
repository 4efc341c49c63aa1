"""FSDP1 (FullyShardedDataParallel): a unit's parameters are joined to a flat one, sharded over
ranks.

    gather      the rank's part, cast to the compute dtype, and the flat parameter, which the
                parameters are views of. In backward the next unit is gathered before the current
                one runs, or after it, or when it runs itself
    whole       units may stay gathered from forward to backward (SHARD_GRAD_OP), and then to the
                next micro-batch that reduces
    gradients   of the parameters, together as long as the unit's backward lasts; then joined, cast
                to the reduce dtype; then the rank's part, cast to the flat parameter's dtype
    units       each layer; everything else is the root's, which stays gathered. Factors of
                adapters are separate units (peft: fsdp_auto_wrap_policy), here one of a layer
    widened     under mixed precision accelerate casts the parts that are trained to float32
    one flat    with use_orig_params adapters are in the flat parameter of a layer: gradients are
                of all of it, frozen or not, and the optimizer steps on views of what is trained
    waiting     micro-batches that do not reduce (no_sync) keep whole flat gradients
    offloaded   gradients go to the host as they come, and stay on the device to the end of backward
    held        a frozen unit waits for the gradients of its inputs, by hooks that are freed at the
                end of backward. If a reentrant checkpoint runs the unit again, an input is a leaf
                of the checkpoint's: the layer's saved input, and its gradient, live as long

Source: torch 2.13 distributed/fsdp/{_flat_param,_runtime_utils}.py (for `held`
_register_post_backward_reshard_only_hook, since 2.1), torch/autograd/graph.py
(register_multi_grad_hook); accelerate 1.15 accelerator.py (prepare_model).
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, final

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.base.units import MIB, power_of_two
from weighbridge.training.forward.backward import TEMPORARIES
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module, below
from weighbridge.training.forward.step import Around, keeping, passing
from weighbridge.training.forward.tensors import (
    ELSEWHERE,
    Computed,
    LeafTensor,
    Tensor,
    TensorStorage,
)
from weighbridge.training.sharding.numbers import share

if TYPE_CHECKING:
    from weighbridge.training.forward.modules import ParameterSpec
    from weighbridge.training.forward.step import BuiltModel

BEFORE, GATHER, SCATTER = 1, 2, 3  # CUDA streams


@frozen_record
class Fsdp1Options:
    """Options of FSDP1; `compute` and `reduce` are the dtypes of its MixedPrecision."""

    ranks: int
    compute: DType
    reduce: DType
    reshard: bool = True  # FULL_SHARD; else SHARD_GRAD_OP
    prefetch: str = "pre"  # BACKWARD_PRE; post, none
    waits: bool = False
    widens: bool = False
    one_flat: bool = False  # adapters are in their layer's flat parameter
    holds: bool = False  # frozen units hold their inputs, and the inputs' gradients
    offload: bool = False
    spreads: bool = False  # sync_module_states


BUCKET = 250 * MIB  # of sync_module_states: PARAM_BROADCAST_BUCKET_SIZE
IN_FLIGHT = 2  # buckets in flight (csrc/distributed/c10d/comm.cpp, broadcast_coalesced)


@dataclass(slots=True, eq=False)
class Fsdp1Unit:
    """One FSDP unit, whose parameters are joined into a flat one. `part` is this rank's shard, None
    without parameters. `leaf`: adapters that are gathered and freed with it."""

    leaf: "Fsdp1Unit | None" = None
    params: list[LeafTensor] = field(default_factory=list)
    part: LeafTensor | None = None
    trained: LeafTensor | None = None  # the trained piece of the shard, which the optimizer updates
    whole: TensorStorage | None = None
    grad: TensorStorage | None = None  # gradient of the whole unit, while no_sync keeps it
    done: bool = False
    order: int = 0  # position in which forward last ran it

    @property
    def numel(self) -> int:
        return sum(p.numel for p in self.params)

    @property
    def frozen(self) -> bool:
        return self.part is not None and not self.part.trainable


@final
class FlatShard(Around):
    """One rank under FSDP1, which holds a shard of each unit's flat parameter."""

    def __init__(self, options: Fsdp1Options) -> None:
        self.how = options
        self.early, self.waits = options.offload, options.waits
        self.host = self.pinned = 0
        self.root = Fsdp1Unit()
        self.layers: dict[str, Fsdp1Unit] = {}
        self._dtypes: dict[str, DType] = {}
        self._adapters: set[str] = set()
        self._headless = self._tied = False
        self._order: list[Fsdp1Unit] = []
        self._held: list[Tensor] = []
        self._sent: list[TensorStorage] = []  # gradients already copied to the host
        self._reduces = True

    @property
    def units(self) -> Iterator[Fsdp1Unit]:
        for unit in (self.root, *self.layers.values()):
            yield from (u for u in (unit, unit.leaf) if u is not None and u.params)

    def place(self, m: Machine, spec: "ParameterSpec", dtype: DType) -> LeafTensor:
        self._dtypes[spec.name] = dtype
        return LeafTensor(spec.name, spec.shape, self.how.compute, None, kind=spec.kind)

    def adapter(self, m: Machine, spec: "ParameterSpec", dtype: DType) -> LeafTensor:
        self._adapters.add(spec.name)
        return self.place(m, spec, dtype)

    def placed(self, m: Machine, built: "BuiltModel") -> None:
        self.layers = {path: Fsdp1Unit(leaf=Fsdp1Unit()) for path in built.stacks}
        self.root.leaf = Fsdp1Unit()
        self._headless = built.headless
        for p in built.own:
            if p.name in self._dtypes and p.kind != ELSEWHERE:
                path = below(p.name, self.layers)
                unit = self.layers[path] if path else self.root
                leaf = p.name in self._adapters and not self.how.one_flat
                into = unit.leaf if leaf else unit
                assert into is not None
                into.params.append(p)
        root = self.root, self.root.leaf
        for unit in sorted(self.units, key=lambda unit: unit in root):  # inner units first
            self._flatten(m, unit, built.buffers if unit is self.root else [])

    def _flatten(self, m: Machine, unit: Fsdp1Unit, buffers: list[Tensor]) -> None:
        """Bring a whole unit to the device, broadcast it if `how.spreads`, copy it into a flat
        parameter, and keep a copy of this rank's shard."""
        first = unit.params[0].name
        dtype = self._dtypes[first]
        elements = share(unit.numel, self.how.ranks)
        trained = any(p.trainable for p in unit.params)
        stored = FLOAT32 if trained and self.how.widens else dtype
        part = unit.part = LeafTensor(f"flat {first}", (elements,), stored, None)
        part.trainable = trained
        unit.trained = part
        if self.how.one_flat:
            few = share(sum(p.numel for p in unit.params if p.trainable), self.how.ranks)
            unit.trained = LeafTensor(f"of {part.name}", (few,), stored, None, trainable=trained)
        came = [TensorStorage(m.heap, dtype.size(p.numel), "weights") for p in unit.params]
        if self.how.spreads:
            alike = [b.nbytes for b in buffers if b.dtype == dtype]
            self._spread(m, [*alike, *(storage.nbytes for storage in came)])
        whole = TensorStorage(m.heap, dtype.size(unit.numel), "weights")
        name = "adapters" if first in self._adapters else "weights"
        copied = TensorStorage(m.heap, part.nbytes, name)
        del came, whole
        if self.how.offload:
            # With its gradient, which is made for frozen parameters, too: torch 2.14
            # distributed/fsdp/_flat_param.py (init_flat_param_attributes)
            self.host += 2 * part.nbytes
            self.pinned += 2 * power_of_two(part.nbytes)
            return
        part.storage = copied

    def _spread(self, m: Machine, sizes: list[int]) -> None:
        """Broadcast parameters from rank 0 in buckets; a bucket with several tensors is copied into
        one buffer first (_sync_params_and_buffers)."""
        sent: deque[TensorStorage] = deque()
        bucket: list[int] = []
        for i, size in enumerate(sizes, 1):
            bucket.append(size)
            if sum(bucket) >= BUCKET or i == len(sizes):
                if len(sent) == IN_FLIGHT:
                    sent.popleft()
                if len(bucket) > 1:
                    sent.append(TensorStorage(m.heap, sum(bucket), "weights"))
                bucket = []
        sent.clear()

    def stepped(self, built: "BuiltModel") -> list[LeafTensor]:
        whole = [p for p in built.own if p.name not in self._dtypes]
        parts = [unit.trained for unit in self.units if unit.trained is not None]
        return [p for p in (*parts, *whole) if p.trainable]

    def begins(self, m: Machine, built: "BuiltModel") -> None:
        self._order.clear()
        for unit in self.units:
            unit.done = False
            if unit.part is not None and unit.trained is not None and unit.trained.grad is None:
                unit.part.grad = None  # the optimizer has forgotten its views
        self._gather(m, self.root)

    def layer(self, m: Machine, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        unit = self.layers.get(p.path)
        if unit is None:  # an encoder's layer, part of the root unit
            return run(x)
        self._gather(m, unit)
        unit.order = len(self._order)
        self._order.append(unit)
        if self.how.holds and unit.frozen:
            x = keeping(m, x, self._held)
        out = run(passing(m, x, lambda: self._post_backward(m, unit)))
        if self.how.reshard:
            self._let_go(unit)
        return passing(m, out, lambda: self._pre_backward(m, unit))

    def logits(self, m: Machine, logits: Tensor) -> Tensor:
        self._tied = self._headless
        return logits

    def turns(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        self._reduces = last or not self.how.waits
        if self.root.params and self._order and self.how.prefetch == "pre":
            self._gather(m, self._order[-1])

    def after_backward(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        for unit in self.units:
            self._post_backward(m, unit)
        self._held.clear()
        self._sent.clear()

    def _pre_backward(self, m: Machine, unit: Fsdp1Unit) -> None:
        self._gather(m, unit)
        if self.how.prefetch == "pre":
            self._gather_next(m, unit)

    def _gather_next(self, m: Machine, unit: Fsdp1Unit) -> None:
        """Gather the unit whose backward comes after that of `unit`."""
        if unit.order:
            self._gather(m, self._order[unit.order - 1])

    def _let_go(self, unit: Fsdp1Unit) -> None:
        unit.whole = None
        if unit.leaf is not None:
            unit.leaf.whole = None

    def _gather(self, m: Machine, unit: Fsdp1Unit) -> None:
        if unit.leaf is not None:
            self._gather(m, unit.leaf)
        part = unit.part
        if part is None or unit.whole is not None:
            return
        how, came, lower = self.how, None, None
        if how.offload:
            came = TensorStorage(m.heap, part.nbytes, TEMPORARIES, BEFORE)
        if part.dtype != how.compute:
            lower = TensorStorage(m.heap, how.compute.size(part.numel), TEMPORARIES, BEFORE)
            came = None
        unit.whole = TensorStorage(
            m.heap, how.compute.size(part.numel * how.ranks), TEMPORARIES, GATHER
        )
        del came, lower

    def _post_backward(self, m: Machine, unit: Fsdp1Unit) -> None:
        if unit.leaf is not None:
            self._post_backward(m, unit.leaf)
        if unit.done:
            return
        unit.done = True
        if any(p.grad is not None for p in unit.params):
            self._join(m, unit)
        if self._reduces or self.how.reshard:
            unit.whole = None
        if self.how.prefetch == "post":
            self._gather_next(m, unit)
        if self._reduces and unit.grad is not None:
            self._scatter(m, unit)

    def _join(self, m: Machine, unit: Fsdp1Unit) -> None:
        """Make the flat parameter's gradient from those of its views: joined on the stream on which
        the views were made, where autograd also sums the two gradients of tied weights."""
        added = (p for p in unit.params if self._tied and p.kind == "embedding")
        twice = [p for p in added if p.grad is not None]
        sums = [TensorStorage(m.heap, p.nbytes, TEMPORARIES, GATHER) for p in twice]
        joined = TensorStorage(m.heap, self.how.compute.size(unit.numel), TEMPORARIES, GATHER)
        sums.clear()
        for p in unit.params:
            p.grad = None
        if unit.grad is None:
            unit.grad = joined
            joined.rename(TEMPORARIES if self._reduces else "gradients")

    def _scatter(self, m: Machine, unit: Fsdp1Unit) -> None:
        how, part = self.how, unit.part
        assert part is not None
        gradients = [unit.grad]
        if how.reduce != how.compute:
            gradients.append(
                TensorStorage(m.heap, how.reduce.size(unit.numel), TEMPORARIES, SCATTER)
            )
        unit.grad = None
        if unit.numel % how.ranks:
            padded = how.reduce.size(part.numel * how.ranks)
            gradients.append(TensorStorage(m.heap, padded, TEMPORARIES, SCATTER))
        shard = TensorStorage(m.heap, how.reduce.size(part.numel), "gradients", SCATTER)
        if how.reduce != part.dtype:
            shard = TensorStorage(m.heap, part.nbytes, "gradients", SCATTER)
        if how.offload:
            self._sent.append(shard)
        elif part.grad is None:
            part.grad = Computed(part.shape, part.dtype, shard)
            if unit.trained is not None and unit.trained is not part:
                unit.trained.grad = Computed(unit.trained.shape, part.dtype, shard)
        gradients.clear()

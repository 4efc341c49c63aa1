"""FSDP2 (fully_shard): each rank keeps a part of every parameter; a unit is gathered when it runs.

    gather      the rank's parts, cast to the compute dtype, and all parts in one buffer, on a
                separate stream; from there into the parameters. In forward the buffer lives until
                the next unit's copy, in backward the next unit is gathered ahead
    scatter     gradients into one buffer of the reduce dtype, which lives until the next unit's;
                the result is the rank's part, cast to the parameters' dtype. The gradient of a
                unit's last parameter stays to the end of it: a loop's variable has it
    experts     with expert parallelism, ranks that have the same experts shard them, and gather
                and reduce them separately from the rest of their unit
    units       each layer, with its adapters. Everything else is the root's, which stays
                gathered from its forward to the end of backward, or is freed between them; or,
                with accelerate, the embedding is a unit and the last norm and head are
                one that stays gathered (all three, if tied)
    alone       a group of one gathers nothing: each parameter is cast, and copied to its place;
                what would be scattered is divided and copied
    waiting     micro-batches that do not reduce keep whole gradients
    stages      of torch's pipelines gather once per step: gathered units stay, and all is reduced
                after the last backward, one unit after the other
    in 8 bits   torchtitan may gather linears that multiply in float8 in 8 bits: each part is cast
                with the cast's temporaries, a byte per element is sent and stays, and the gradient
                is as ever
    widened     parts that accelerate casts to float32 when they are on the device
    offload     parts, their gradients and states are on the host; parts come one by one
    across      if groups of ranks hold the same (HSDP), what is reduced among them in another
                dtype than the parameters' stays to the end of backward

Source: torch 2.13 distributed/fsdp/_fully_shard/{_fsdp_collectives,_fsdp_param_group,_fsdp_state,
_fsdp_param}.py, distributed/pipelining/stage.py (backward_maybe_with_nosync); accelerate 1.6 to
1.15 utils/fsdp_utils.py (fsdp2_prepare_model); torchao 0.18 float8/fsdp_utils.py
(fsdp_pre_all_gather, fsdp_post_all_gather).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, final

from weighbridge.base.dtypes import FLOAT8, FLOAT32, DType
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.base.units import power_of_two
from weighbridge.memory.components.activations import LiveTensor
from weighbridge.models.arch.roles import role
from weighbridge.training.forward.backward import TEMPORARIES
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module, below
from weighbridge.training.forward.step import Around, passing
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

GATHER, SCATTER, ACROSS = 1, 2, 3  # CUDA streams


@frozen_record
class Fsdp2Options:
    """Options of FSDP2. `compute` and `reduce` are the dtypes of MixedPrecisionPolicy; shards keep
    their own. `carved`: embedding and head are units, `apart`: without the last norm; `waits`: only
    the last micro-batch reduces; `outside`: the loss is outside the model, whose forward ends with
    the head; `widens`: shards cast to float32 (all, trained or none)."""

    ranks: int
    compute: DType
    reduce: DType
    expert_ranks: int = 0  # ranks that shard the same experts; 0: all ranks
    cuts_experts: bool = False  # experts are split by rows if there are fewer than ranks
    reshard: bool = True
    last_stays: bool = False  # the last layer is not resharded after forward
    carved: bool = False
    apart: bool = False
    head_stays: bool = True  # the head's unit is not resharded after forward
    root_stays: bool = True  # the root is not resharded after forward
    widens: str = "none"
    outside: bool = False
    waits: bool = False
    staged: bool = False  # the model is a pipeline stage
    offload: bool = False
    across: bool = False
    small: Callable[["ParameterSpec"], bool] | None = None  # parameters gathered in 8 bits


@dataclass(slots=True, eq=False)
class Fsdp2Unit:
    """One FSDP unit: parameters that are gathered together, and this rank's shards of them."""

    stays: bool = False  # not resharded between forward and backward
    params: list[LeafTensor] = field(default_factory=list)
    parts: list[LeafTensor] = field(default_factory=list)
    gathered: TensorStorage | None = None  # the all-gather buffer of the unit
    whole: list[LiveTensor] = field(default_factory=list)  # the parameters, while gathered
    sizes: tuple[int, ...] = ()  # bytes of each parameter
    # Gradients that wait in the reduce dtype
    waiting: list[TensorStorage] = field(default_factory=list)
    used: bool = False  # in the current forward
    done: bool = False  # its backward is over
    order: int = -1  # position in which forward ran it


@final
class Fsdp2Rank(Around):
    """One rank under FSDP2, which holds a shard of each parameter, by its first dimension."""

    saves = True

    def __init__(self, options: Fsdp2Options) -> None:
        self.how = options
        self.early, self.waits = options.offload, options.waits
        self.host = self.pinned = 0
        self.root = Fsdp2Unit(stays=options.root_stays)
        self.first = Fsdp2Unit(stays=not options.reshard)
        self.last = Fsdp2Unit(stays=options.head_stays or not options.reshard)
        self.layers: dict[str, Fsdp2Unit] = {}
        self._part_of: dict[str, LeafTensor] = {}
        self._adapters: set[str] = set()
        self._copied: TensorStorage | None = None  # the buffer of the unit before, in forward
        self._scattered: TensorStorage | None = None  # that of the unit before, in backward
        self._across: list[TensorStorage] = []
        self._order: list[Fsdp2Unit] = []  # units in the order in which forward ran them
        self._reduces = True

    @property
    def units(self) -> Iterator[Fsdp2Unit]:
        yield from (self.root, *self.layers.values(), self.first, self.last)

    @property
    def _tied(self) -> bool:
        """Return whether the embedding is in the head's unit. Its first module then gets no input
        gradient, so the unit is freed only when backward ends."""
        return any(p.kind == "embedding" for p in self.last.params)

    # Placing

    def place(self, m: Machine, spec: "ParameterSpec", dtype: DType) -> LeafTensor:
        """Return the full parameter, which takes memory while gathered. Its shard is allocated once
        units are known."""
        rows, others = (spec.shape[0], spec.shape[1:]) if spec.shape else (1, ())
        ranks = self._ranks(spec.kind)
        shape = (share(rows, ranks), *others)
        if self.how.cuts_experts and spec.kind == "experts" and rows < ranks:
            shape = (rows, share(others[0], ranks), *others[1:])
        self._part_of[spec.name] = LeafTensor(spec.name, shape, dtype, None, kind=spec.kind)
        small = self.how.small is not None and self.how.small(spec)
        gathered = FLOAT8 if small else self.how.compute
        return LeafTensor(spec.name, spec.shape, gathered, None, kind=spec.kind)

    def _ranks(self, kind: str) -> int:
        """Return how many ranks a parameter of this kind is sharded over."""
        return self.how.expert_ranks or self.how.ranks if kind == "experts" else self.how.ranks

    def _padded(self, parts: Iterable[LeafTensor]) -> int:
        """Return the elements of an all-gather of `parts`: each rank's shard is padded to the size
        of this rank's."""
        return sum(part.numel * self._ranks(part.kind) for part in parts)

    def adapter(self, m: Machine, spec: "ParameterSpec", dtype: DType) -> LeafTensor:
        self._adapters.add(spec.name)
        return self.place(m, spec, dtype)

    def placed(self, m: Machine, built: "BuiltModel") -> None:
        self.layers = {path: Fsdp2Unit(stays=not self.how.reshard) for path in built.stacks}
        if self.how.last_stays and self.layers:
            next(reversed(self.layers.values())).stays = True
        heads = (p for name, p in built.params.items() if role(name) == "head")
        tied = all(p.kind == "embedding" for p in heads)
        for p in built.own:
            part = self._part_of.get(p.name)
            if part is None or p.kind == ELSEWHERE:
                continue
            part.trainable = p.trainable
            unit = self._unit(p, tied=tied)
            unit.params.append(p)
            unit.parts.append(part)
        for unit in (*self.layers.values(), self.first, self.last, self.root):
            self._share(m, unit)

    def _share(self, m: Machine, unit: Fsdp2Unit) -> None:
        """Bring a whole unit to the device, then keep only this rank's shards of it."""
        pairs = list(zip(unit.params, unit.parts, strict=True))
        unit.sizes = tuple(p.dtype.size(self._padded([part])) for p, part in pairs)
        whole = m.heap.row((part.dtype.size(p.numel) for p, part in pairs), "weights")
        for part in unit.parts:
            if self.how.offload:
                m.hidden(part.nbytes, name="weights")
            else:
                part.storage = TensorStorage(m.heap, part.nbytes, self._component(part))
        m.heap.drop(*reversed(whole))
        for part in unit.parts:
            self._widen(m, part)
            if self.how.offload:
                copies = 2 if part.trainable else 1  # with its gradient
                self.host += part.nbytes * copies
                self.pinned += power_of_two(part.nbytes) * copies

    def _component(self, part: LeafTensor) -> str:
        return "adapters" if part.name in self._adapters else "weights"

    def _widen(self, m: Machine, part: LeafTensor) -> None:
        how = self.how
        chosen = how.widens == "all" or (how.widens == "trained" and part.trainable)
        if not chosen or part.dtype == FLOAT32:
            return
        part.dtype = FLOAT32
        if not how.offload:
            part.storage = TensorStorage(m.heap, part.nbytes, self._component(part))

    def _unit(self, param: LeafTensor, *, tied: bool) -> Fsdp2Unit:
        prefix = below(param.name, self.layers)
        if prefix:
            return self.layers[prefix]
        if not self.how.carved or (self.how.apart and not self._outer(param)):
            return self.root
        return self.first if param.kind == "embedding" and not tied else self.last

    @staticmethod
    def _outer(param: LeafTensor) -> bool:
        return param.kind == "embedding" or role(param.name) == "head"

    def stepped(self, built: "BuiltModel") -> list[LeafTensor]:
        mine = (self._part_of.get(p.name, p) for p in built.own)
        return [p for p in mine if p.trainable]

    # Forward

    def begins(self, m: Machine, built: "BuiltModel") -> None:
        self._order.clear()
        for unit in self.units:
            unit.done = unit.used = False
            unit.order = -1
        for unit in (self.root, self.last) if self._tied else (self.root, self.first):
            self._enter(m, unit)

    def layer(self, m: Machine, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not self._order and self.first.params:
            x = self._leave(m, self.first, x)
        unit = self.layers.get(p.path)
        if unit is None:  # an encoder's layer, part of the root unit
            return run(x)
        self._enter(m, unit)
        out = self._leave(m, unit, run(passing(m, x, lambda: self._post_backward(m, unit))))
        if unit is next(reversed(self.layers.values())) and self.last.params:
            self._enter(m, self.last)
            if not self._tied:
                out = passing(m, out, lambda: self._post_backward(m, self.last))
        return out

    def logits(self, m: Machine, logits: Tensor) -> Tensor:
        """Return the logits; if the head runs once per chunk, it stays gathered until the last
        chunk."""
        if self.how.outside:
            self._copied = None
        if not self.last.params:
            return logits
        return self._turned(m, self.last, logits)

    def _enter(self, m: Machine, unit: Fsdp2Unit) -> None:
        unit.used = True
        self._gather(m, unit)
        self._copy_out(m, unit, forward=True)

    def _leave(self, m: Machine, unit: Fsdp2Unit, out: Tensor) -> Tensor:
        if not unit.stays:
            _given_back(m, unit)
        return self._turned(m, unit, out)

    def _turned(self, m: Machine, unit: Fsdp2Unit, out: Tensor) -> Tensor:
        if unit.order < 0:
            unit.order = len(self._order)
            self._order.append(unit)
        return passing(m, out, lambda: self._pre_backward(m, unit))

    # Backward

    def turns(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        self._copied = None
        self._reduces = not self.how.staged and (last or not self.how.waits)
        if not self.last.stays:
            _given_back(m, self.last)
        if not self.root.stays:
            _given_back(m, self.root)
            self._gather(m, self.root)
            self._copy_out(m, self.root, forward=False)
        if self.root.params:
            self._ahead(m, len(self._order))

    def after_backward(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        for unit in self.units:
            if unit.used:
                self._post_backward(m, unit)
            unit.gathered = None  # ahead, for a backward that never came (finalize_backward)
        if self.how.staged and last:
            self._reduces = True
            for unit in self.units:
                unit.done = False
                self._post_backward(m, unit)
        self._copied = self._scattered = None
        self._across.clear()

    def _pre_backward(self, m: Machine, unit: Fsdp2Unit) -> None:
        self._gather(m, unit)
        self._copy_out(m, unit, forward=False)
        self._ahead(m, unit.order)

    def _ahead(self, m: Machine, order: int) -> None:
        if order:
            self._gather(m, self._order[order - 1])

    def _gather(self, m: Machine, unit: Fsdp2Unit) -> None:
        if unit.whole or unit.gathered is not None or not unit.parts or self.how.ranks == 1:
            return
        whole = sum(unit.sizes)
        brought = list(self._gather_inputs(m, unit))
        unit.gathered = TensorStorage(m.heap, whole, TEMPORARIES, GATHER)
        brought.clear()

    def _gather_inputs(self, m: Machine, unit: Fsdp2Unit) -> Iterator[TensorStorage]:
        """Yield the buffers of shards that are cast, or copied to the device, before the
        all-gather."""
        compute = self.how.compute
        if self.how.offload:
            for part in unit.parts:
                came = TensorStorage(m.heap, part.nbytes, TEMPORARIES, GATHER)
                if part.dtype == compute:
                    yield came
                else:
                    yield TensorStorage(m.heap, compute.size(part.numel), TEMPORARIES, GATHER)
            return
        pairs = list(zip(unit.params, unit.parts, strict=True))
        small = [part for p, part in pairs if p.dtype == FLOAT8]
        cast = sum(x.numel for p, x in pairs if p.dtype != FLOAT8 and x.dtype != compute)
        if cast:
            yield TensorStorage(m.heap, compute.size(cast), TEMPORARIES, GATHER)
        for part in small:  # eagerly, one after the other: twice as much in float32 meanwhile
            m.hidden(*[FLOAT32.size(part.numel)] * 2)
            yield TensorStorage(m.heap, FLOAT8.size(part.numel), TEMPORARIES, GATHER)

    def _copy_out(self, m: Machine, unit: Fsdp2Unit, *, forward: bool) -> None:
        if self.how.ranks == 1 and not unit.whole:
            self._copy_alone(m, unit)
        if unit.gathered is None:
            return
        unit.whole += m.heap.row(unit.sizes, TEMPORARIES)
        self._copied = unit.gathered if forward else None
        unit.gathered = None

    def _copy_alone(self, m: Machine, unit: Fsdp2Unit) -> None:
        """Copy and cast the parameters of a one-rank group one after the other; each source lives
        until the next."""
        before: list[TensorStorage] = []
        for nbytes, part in zip(unit.sizes, unit.parts, strict=True):
            made = []
            if self.how.offload:
                made.append(TensorStorage(m.heap, part.nbytes, TEMPORARIES))
            if part.dtype.size(part.numel) != nbytes:
                made.append(TensorStorage(m.heap, nbytes, TEMPORARIES))
            before = made
            unit.whole.append(m.heap.take(nbytes, TEMPORARIES, 0))
        del before

    def _post_backward(self, m: Machine, unit: Fsdp2Unit) -> None:
        if unit.done:
            return
        unit.done = True
        if self._reduces or not self.how.staged:
            _given_back(m, unit)
        if not self._reduces:
            self._wait(m, unit)
            return
        waited = bool(unit.waiting)
        pairs = [
            (p, part)
            for p, part in zip(unit.params, unit.parts, strict=True)
            if p.grad is not None or (waited and p.trainable)
        ]
        self._scattered = None
        if pairs:
            self._scatter(m, unit, pairs)

    def _wait(self, m: Machine, unit: Fsdp2Unit) -> None:
        """Keep whole gradients until the last micro-batch: the first are cast to the reduce dtype,
        later ones are added to them."""
        how = self.how
        if how.reduce == how.compute:
            return
        first = not unit.waiting
        for p in unit.params:
            if p.grad is not None and first:
                unit.waiting.append(TensorStorage(m.heap, how.reduce.size(p.numel), "gradients"))
            p.grad = None

    def _scatter(
        self, m: Machine, unit: Fsdp2Unit, pairs: list[tuple[LeafTensor, LeafTensor]]
    ) -> None:
        how = self.how
        count = sum(part.numel for _, part in pairs)
        whole = self._padded(part for _, part in pairs)
        sent = TensorStorage(m.heap, how.reduce.size(whole), TEMPORARIES)
        held = pairs[-1][0].grad if how.ranks > 1 else None
        for p, _ in pairs:
            p.grad = None
        unit.waiting.clear()
        shard = TensorStorage(m.heap, how.reduce.size(count), "gradients", SCATTER)
        if how.ranks == 1:
            divided = TensorStorage(m.heap, sent.nbytes, TEMPORARIES, SCATTER)
            del divided
        dtype = pairs[0][1].dtype
        if dtype != how.reduce:
            stream = SCATTER
            if how.across:
                self._across.append(shard)
                stream = ACROSS
            shard = TensorStorage(m.heap, dtype.size(count), "gradients", stream)
        for _, part in pairs:
            if part.grad is None and not how.offload:
                part.grad = Computed(part.shape, dtype, shard)
        self._scattered = sent
        del held


def _given_back(m: Machine, unit: Fsdp2Unit) -> None:
    """Free the gathered parameters of a unit, in the order in which they were allocated."""
    m.heap.drop(*unit.whole)
    unit.whole.clear()

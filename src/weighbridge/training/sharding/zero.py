"""DeepSpeed's ZeRO: states, then gradients, then parameters sharded in N parts; a float32 master
copy.

    stage 1    2 P + 2 P + 12 P / N    16-bit weights and gradients whole, the rest in parts
    stage 2    2 P + 2 P / N + 12 P / N
    stage 3    (2 + 2 + 12) P / N, and what is gathered for the module that runs
    averaged   in stages 1 and 2 the gradients of all parameters with elements in the part, whole
               (grads_in_partition); in stage 2 besides them those of the next micro-batch, in
               stage 1 all gradients to the end of backward. Ranks differ: a large embedding is in
               several. The estimate is of the rank that has most
    norm       of each gradient in the part, copied to float64, before a step; with states on the
               host as soon as the gradient exists (in stage 3 on the stream that scatters)
    on the way with states on the host, stages 1 and 2 keep room for the largest parameter in
               16 bits, on both sides (temp_grad_buffer_for_gpu_offload, ..._for_cpu_offload)
    bucket     reduce_bucket_size elements, whole, however few are trained. In stage 3 from the
               start to the end, and its content once more while it is scattered; in stages 1
               and 2 during a backward, two with overlap_comm
    gathered   in the first micro-batch one parameter at a time. From then on the order is known,
               and each module fetches ahead: parameters are whole until they are
               max_live_parameters, and one more, since the last one taken may be any size.
               Parameters below the persistence threshold are whole, besides their parts. All of
               it is made on a separate stream, which reserves more than is alive (gather.py)
    step       gradients of sub_group_size elements of the part joined, and in float32: in stages 1
               and 2 for a moment 22 bytes per element with those in 16 bits, then 18

States are made at the first step; up to 0.13.1 a step of zero gradients made them at once. With the
Trainer sizes are its "auto": hidden^2, 0.9 hidden^2 and 10 hidden (transformers
integrations/deepspeed.py). Source: DeepSpeed 0.9.5 to 0.19.5 runtime/zero/config.py,
stage_1_and_2.py (setup_buckets, _release_ipg_buffers), stage3.py (_setup_for_real_optimizer,
__add_grad_to_ipg_bucket, _prepare_fp32_grad_for_sub_group), partitioned_param_coordinator.py
(fetch_sub_module), partition_parameters.py; the paper's section 5.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, final

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.records import frozen_record
from weighbridge.base.units import ceil_div, power_of_two
from weighbridge.machines.allocator.options import DEFAULT, AllocatorOptions
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
from weighbridge.training.sharding.gather import GatherLimits, follow

if TYPE_CHECKING:
    from weighbridge.training.forward.modules import ParameterSpec
    from weighbridge.training.forward.step import BuiltModel


@frozen_record
class ZeroSizes:
    """DeepSpeed's bucket and limit sizes, in elements: its own defaults, or the Trainer's."""

    reduce: int = 500_000_000
    prefetch: int = 50_000_000
    persistent: int = 100_000
    live: int = 1_000_000_000
    sub_group: int = 1_000_000_000

    @classmethod
    def auto(cls, hidden: int) -> "ZeroSizes":
        square = hidden * hidden
        return cls(reduce=square, prefetch=square * 9 // 10, persistent=10 * hidden)


@frozen_record
class ZeroOptions:
    """Options of ZeRO. `offload`: none, optimizer, params or nvme. `eager`: states are made with
    the engine; `overlaps`: overlap_comm; `whole_first`: the model is on the device before it is
    sharded; `flattens`: trained parameters are joined on the device, not on the host; `recomputes`:
    layers run forward again in backward."""

    stage: int
    ranks: int
    sizes: ZeroSizes
    expert_ranks: int = 0  # ranks that shard the same experts; 0: all ranks
    offload: str = "none"
    eager: bool = False
    overlaps: bool = False
    whole_first: bool = False
    flattens: bool = True
    recomputes: bool = False
    allocator: AllocatorOptions = DEFAULT


EAGER = (0, 13, 2)  # the first that leaves the states to the first step
FLATTENS = (0, 19)  # the first DeepSpeed that makes states in the first step
HEAD = "head"
NORM = 8  # bytes per element: get_norm_dtype is float64
AT_ONCE = 250_000_000  # elements: buffer_size of _constant_buffered_norm2 (stage3.py)
GATHER, SCATTER = 1, 2  # CUDA streams, each with blocks of its own


@final
class Zero(Around):
    """One rank under a stage of DeepSpeed's ZeRO."""

    apart = True

    def __init__(self, options: ZeroOptions) -> None:
        self.how = options
        self.early = options.eager or options.offload != "none"
        self.saves = options.stage == 3
        self.host = self.pinned = 0
        self._cut_up: set[str] = set()  # names of sharded parameters
        self._parts: list[LeafTensor] = []
        self._kept: list[TensorStorage] = []
        self._buckets: list[TensorStorage] = []
        self._filled = 0  # elements in the reduce bucket of stage 3
        self._largest_part = 0  # most elements of one parameter's shard in the bucket
        self._embedded = 0  # bytes of the second copy of an embedding that is the head, too
        self._alone: Tensor | None = None  # a gradient larger than the bucket
        self._whole = self._longest = 0  # elements: all the part touches, most of one parameter
        self._reduces = True  # whether this micro-batch reduces
        self._averaged: TensorStorage | None = None  # and those of this micro-batch
        self._coming: TensorStorage | None = None
        self._gathered: dict[str, TensorStorage] = {}  # gathered parameters, by layer path
        self._ahead: TensorStorage | None = None
        self._pool: tuple[int, int, int] | None = None  # bytes of gathered parameters: see _follow
        self._room = 0  # bytes of `_pool` that are not gathered yet
        self._largest: dict[str, int] = {}  # bytes of the largest parameter, by layer path
        self._knows = False  # the order of modules is known
        self._head = self._words = 0  # bytes of the largest head and embedding parameter
        self._heads = False  # the head has its own parameters
        self._last = ""

    # Placing

    def place(self, m: Machine, spec: "ParameterSpec", dtype: DType) -> LeafTensor:
        return self._placed(m, spec, dtype, "weights")

    def adapter(self, m: Machine, spec: "ParameterSpec", dtype: DType) -> LeafTensor:
        return self._placed(m, spec, dtype, "adapters")

    def _placed(
        self, m: Machine, spec: "ParameterSpec", dtype: DType, component: str
    ) -> LeafTensor:
        how = self.how
        if how.stage < 3:
            return m.param(spec.name, spec.shape, dtype, component=component, kind=spec.kind)
        self._cut_up.add(spec.name)
        whole = LeafTensor(spec.name, spec.shape, dtype, None, kind=spec.kind)
        elements = ceil_div(whole.numel, how.ranks)
        if whole.numel <= how.sizes.persistent:
            self._kept.append(TensorStorage(m.heap, whole.nbytes, component))
        if how.offload not in ("params", "nvme"):
            self._kept.append(TensorStorage(m.heap, dtype.size(elements), component))
        elif how.offload == "params":
            self.host += dtype.size(elements)
            self.pinned += power_of_two(dtype.size(elements))
        return whole

    def placed(self, m: Machine, built: "BuiltModel") -> None:
        mine = [p for p in built.own if p.trainable]
        self._share(m, built, mine)
        if not mine:
            return
        how, sizes = self.how, [self._elements_of_shard(p) for p in mine]
        if how.stage == 3:
            elements = sum(sizes)
            self.groups = in_groups(sizes, how.sizes.sub_group)
        else:
            elements = self._elements(mine)
            self.groups = (elements,)
            self._whole, self._longest = touched([p.numel for p in mine], elements)
        self._parts = [
            LeafTensor(f"part {i}", (n,), FLOAT32, None) for i, n in enumerate(self.groups)
        ]
        if how.offload == "none":
            for part in self._parts:
                part.storage = TensorStorage(m.heap, part.nbytes, "master_weights")
        elif how.offload != "nvme":
            self.host += sum(part.nbytes for part in self._parts)
        for nbytes, component in self._buffers(mine, elements):
            self._kept.append(TensorStorage(m.heap, nbytes, component))
        for p in mine:
            p.hooks.append(self._reduced)

    def _buffers(self, mine: list[LeafTensor], elements: int) -> Iterator[tuple[int, str]]:
        """Yield (bytes, component) of buffers that live as long as the run."""
        how, dtype = self.how, mine[0].dtype
        if how.stage == 3:
            if how.offload == "none":  # else grad_partitions_flat_buffer is on the host (host.py)
                yield dtype.size(elements), "gradients"
            yield dtype.size(how.sizes.reduce), "temporaries"
        elif how.offload == "optimizer":
            yield dtype.size(max(p.numel for p in mine)), "temporaries"

    def _elements_of_shard(self, param: LeafTensor) -> int:
        """Return the elements of a rank's shard of `param`; fewer ranks shard experts."""
        among = self.how.expert_ranks if param.kind == "experts" else 0
        return ceil_div(param.numel, among or self.how.ranks)

    def _elements(self, mine: list[LeafTensor]) -> int:
        """Return the elements of a rank's shard of all trained parameters, `mine`."""
        how, among = self.how, self.how.expert_ranks or self.how.ranks
        experts = sum(p.numel for p in mine if p.kind == "experts")
        rest = sum(p.numel for p in mine) - experts
        return ceil_div(rest, how.ranks) + ceil_div(experts, among)

    def _share(self, m: Machine, built: "BuiltModel", mine: list[LeafTensor]) -> None:
        """Allocate what is alive only while parameters are partitioned."""
        how = self.how
        if built.headless:
            self._embedded = sum(p.nbytes for p in mine if p.kind == "embedding")
        if how.stage < 3:
            self._flatten(m, mine)
            return
        whole = [p.nbytes for p in built.own if p.name in self._cut_up and p.kind != ELSEWHERE]
        if how.whole_first:
            m.hidden(max(0, sum(whole) - sum(s.nbytes for s in self._kept)), name="weights")
        else:
            m.hidden(max(whole, default=0), name="weights")

    def _flatten(self, m: Machine, mine: list[LeafTensor]) -> None:
        """Copy the parameters of stages 1 and 2 into one tensor. The cache is emptied before each
        group of parameters: a trainer has two, so the first group's sources are freed. Offloaded
        states have DeepSpeed's own optimizer with one group: those pieces stay cached, and tensors
        larger than each need new segments."""
        sizes = [p.nbytes for p in mine if self.how.flattens]
        if self.how.offload == "none":
            m.hidden(sum(sizes), name="weights")
            m.heap.emptied()
        else:
            m.heap.emptied()
            m.hidden(*sizes, name="weights")

    def stepped(self, built: "BuiltModel") -> list[LeafTensor]:
        return self._parts

    def starting(self, m: Machine) -> TensorStorage | None:
        if self.how.offload != "none" or not self._parts:
            return None
        return TensorStorage(m.heap, self._parts[0].nbytes, "gradients")

    # Gathering

    def begins(self, m: Machine, built: "BuiltModel") -> None:
        if self.how.stage < 3 or not built.layers:
            return
        self._measure(built)
        self._ahead = None
        ahead, self._room, _ = self._pool = self._pool or self._follow(built)
        m.heap.reserve(self._pool, GATHER)
        if self._knows:
            self._ahead = TensorStorage(m.heap, ahead, "temporaries", GATHER)
        self._gather(m, "embedding", min(self._words, self._room) if self._ahead else self._words)
        self._release("embedding")
        self._knows = True

    def _measure(self, built: "BuiltModel") -> None:
        """Measure the largest gathered parameter of each layer, and of the embedding and head."""
        if self._largest:
            return
        stacks = built.stacks
        self._largest = dict.fromkeys(stacks, 0)
        for p in built.own:
            path, n = below(p.name, stacks), self._large(p)
            if path:
                self._largest[path] = max(self._largest[path], n)
            elif p.kind == "embedding":
                self._words = max(self._words, n)
            else:
                self._head = max(self._head, n)
        self._heads = self._head > 0
        self._head = self._head or self._words
        self._last = next(reversed(stacks))

    def _follow(self, built: "BuiltModel") -> tuple[int, int, int]:
        """Return bytes of gathered parameters: (always alive, most in addition, reserved by their
        stream beyond both)."""
        how, sizes = self.how, self.how.sizes
        gone = [p for p in built.own if self._large(p)]
        numels, nbytes = tuple(p.numel for p in gone), tuple(p.nbytes for p in gone)
        hosted = how.offload == "params"
        limits = GatherLimits(sizes.live, sizes.prefetch, how.ranks, hosted, how.allocator)
        whole, reserved = follow(numels, nbytes, self._calls(built, gone), limits)
        numel = sum(numels)
        ahead = sum(nbytes) * min(numel, sizes.live) // max(numel, 1)
        ahead = ahead if sizes.prefetch else 0
        more = max(0, whole - ahead)
        return ahead, more, max(0, reserved - ahead - more)

    def _calls(self, built: "BuiltModel", gone: list[LeafTensor]) -> tuple[tuple[int, ...], ...]:
        """Return the modules of one forward and backward, each as the indices of its parameters in
        `gone`. All experts of a layer count as one module."""
        layers: dict[str, dict[str, list[int]]] = {}  # modules by layer, others by their names
        words = []  # embeddings that are the head, too
        for i, p in enumerate(gone):
            path, module = below(p.name, built.stacks), p.name.rpartition(".")[0]
            module = path if path and p.kind == "experts" else module
            layers.setdefault(path or module, {}).setdefault(module, []).append(i)
            if p.kind == "embedding" and not self._heads:
                words.append([i])
        forward = [call for layer in layers.values() for call in layer.values()] + words
        backward = words[:]
        for path, layer in reversed(layers.items()):
            recomputed = layer.values() if path in built.stacks and self.how.recomputes else ()
            backward += [*recomputed, *reversed(layer.values())]
        if gone and not gone[0].trainable:  # nothing runs backward through a frozen embedding
            backward.pop()
        return tuple(map(tuple, forward + backward))

    def _large(self, param: LeafTensor) -> int:
        """Return the bytes of a parameter that is gathered on use; 0 if it is always whole or on
        another stage."""
        there = param.kind == ELSEWHERE or param.numel <= self.how.sizes.persistent
        return 0 if there or param.name not in self._cut_up else param.nbytes

    def layer(self, m: Machine, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.how.stage < 3:
            return run(x)
        path, room = p.path, self._room if self._ahead else None

        def sized(nbytes: int) -> int:
            return nbytes if room is None else min(nbytes, room)

        largest = sized(self._largest.get(path, 0))
        self._gather(m, path, largest)
        out = run(passing(m, x, lambda: self._release(path)))
        self._release(path)
        out = passing(m, out, lambda: self._gather(m, path, largest))
        if path == self._last:
            self._gather(m, HEAD, sized(self._head))
            out = passing(m, out, lambda: self._release(HEAD))
        return out

    def logits(self, m: Machine, logits: Tensor) -> Tensor:
        if self.how.stage < 3:
            return logits
        if self._embedded and self.how.offload == "params":
            self.pinned += power_of_two(ceil_div(self._embedded, self.how.ranks))
            self._embedded = 0
        there = self._gathered.get(HEAD)
        nbytes = there.nbytes if there is not None else 0
        del there
        self._release(HEAD)
        return passing(m, logits, lambda: self._gather(m, HEAD, nbytes))

    def turns(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        mine = [p for p in built.own if p.trainable]
        self._reduces = last
        if self.how.stage < 3 and mine:
            nbytes = mine[0].dtype.size(self.how.sizes.reduce)
            count = 2 if self.how.overlaps else 1
            self._buckets = [TensorStorage(m.heap, nbytes, "temporaries") for _ in range(count)]

    def after_backward(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        mine = [p for p in built.own if p.trainable]
        if self.how.stage == 3 and mine:
            self._scatter(m, mine[0].dtype)
        self._averaged, self._coming = self._averaged or self._coming, None
        for p in built.own if last and self.how.stage == 1 else ():
            p.grad = None
        self._gathered.clear()
        self._buckets.clear()
        self._ahead = None

    def _gather(self, m: Machine, path: str, nbytes: int) -> None:
        if path not in self._gathered and nbytes:
            self._gathered[path] = TensorStorage(m.heap, nbytes, "temporaries", GATHER)

    def _release(self, path: str) -> None:
        self._gathered.pop(path, None)

    # Gradients

    def _reduced(self, m: Machine, param: LeafTensor) -> None:
        """Copy a gradient into the bucket, and this rank's part of it into the averaged
        gradients."""
        how = self.how
        if how.stage < 3 and how.offload != "none":
            m.hidden(NORM * min(param.numel, self._longest))
        averages = how.stage == 2 or (how.stage == 1 and self._reduces)
        if averages and self._coming is None and how.offload == "none":
            self._coming = TensorStorage(m.heap, param.dtype.size(self._whole), "gradients")
        if how.stage == 3:
            if self._filled + param.numel > how.sizes.reduce:
                self._scatter(m, param.dtype)
            self._filled += param.numel
            self._largest_part = max(self._largest_part, self._elements_of_shard(param))
            self._alone = param.grad if param.numel > how.sizes.reduce else None
        if how.stage > 1:
            param.grad = None

    def _scatter(self, m: Machine, dtype: DType) -> None:
        """Reduce-scatter the bucket: padded, in the order of ranks, with this rank's part cut off
        (reduce_scatter_coalesced). A gradient larger than the bucket is sent by itself, and lives
        until then."""
        alone, self._alone = self._alone, None
        if self._filled and (alone is None or self._filled % self.how.ranks):
            sent = TensorStorage(m.heap, dtype.size(self._filled), "temporaries", SCATTER)
            mine = TensorStorage(m.heap, -(-sent.nbytes // self.how.ranks), "temporaries", SCATTER)
            del sent, mine
        if self.how.offload != "none":
            sizes = dtype.size(self._largest_part), NORM * min(self._largest_part, AT_ONCE)
            back = [TensorStorage(m.heap, n, "temporaries", SCATTER) for n in sizes]
            del back
        self._filled = self._largest_part = 0

    def before_step(self, m: Machine, built: "BuiltModel") -> None:
        """Allocate the gradients of each group of the shard, first joined, then in float32, unless
        they are on the host. Groups reuse the same memory. Stages 1 and 2 free the sources before
        the optimizer steps."""
        if not self._parts or self.how.offload != "none":
            return
        if self.how.stage < 3:
            m.hidden(NORM * self._longest)
        lower = next(p.dtype for p in built.own if p.trainable)
        first = self._parts[0]
        joined = m.new(first.shape, lower, "gradients")
        first.grad = m.new(first.shape, FLOAT32, "gradients")
        del joined
        self._averaged = None
        for p in built.own if self.how.stage < 3 else ():
            p.grad = None
        for part in self._parts[1:]:
            part.grad = Computed(part.shape, FLOAT32, None)

    def after_step(self, m: Machine, built: "BuiltModel") -> None:
        self._averaged = None
        for p in built.own:
            p.grad = None


def eager(version: tuple[int, ...] | None) -> bool:
    return version is not None and version < EAGER


def flattens(version: tuple[int, ...] | None) -> bool:
    return version is None or version >= FLATTENS


def in_groups(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """Return the elements of each group of parameters that stage 3 updates at once. A group ends
    with the parameter that makes it `most` elements or more; `sizes` are one rank's elements per
    parameter.

    >>> in_groups([3, 4, 2, 2], 5)
    (7, 4)
    """
    groups, filled = [], 0
    for i, size in enumerate(sizes, 1):
        filled += size
        if filled >= most or i == len(sizes):
            groups.append(filled)
            filled = 0
    return tuple(groups)


def touched(sizes: Sequence[int], elements: int) -> tuple[int, int]:
    """Return (elements of all parameters that overlap one rank's shard, longest overlap of one
    parameter), each of the rank with most. Parameters of `sizes` lie end to end; each shard takes
    `elements`.

    >>> touched([10, 2, 4], 8)
    (16, 8)
    """
    whole: dict[int, int] = {}
    longest = start = 0
    for size in sizes:
        end = start + size
        for rank in range(start // elements, ceil_div(end, elements)):
            within = min(end, (rank + 1) * elements) - max(start, rank * elements)
            whole[rank] = whole.get(rank, 0) + size
            longest = max(longest, within)
        start = end
    return max(whole.values(), default=0), longest

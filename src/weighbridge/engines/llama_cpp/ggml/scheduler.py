"""A graph on its devices: where each node runs, what is copied between them, where tensors lie.

The scheduler gives each node a device and cuts the graph where it changes:

    stored or input    where it is; inputs are on the host
    with a weight      where the weight is; on a GPU nevertheless if the weight is in host memory
                       and 32 tokens or more make its copy worth while
    the others         as their neighbours: GPUs spread down, then up, then the rest

A split is a run of nodes on one device; what it needs from another is copied at its start, once per
device. With several GPUs in a pipeline, inputs and copies are kept several times (four by default),
and their memory is never reused. Devices are numbered, the host last.

Source: llama.cpp 0c1e57098 ggml/src/ggml-backend.cpp (ggml_backend_sched_split_graph),
ggml/src/ggml-cuda/ggml-cuda.cu (offload_op, supports_op).
"""

from collections.abc import Callable, Sequence

from weighbridge.base.records import dataclass, field
from weighbridge.base.units import align_up
from weighbridge.engines.llama_cpp.ggml.graph import VIEWS, GgmlTensor, Graph, same_layout

BATCH = 32
Supports = Callable[[GgmlTensor, int], bool]
Step = tuple[GgmlTensor, int]


@dataclass(slots=True)
class GraphSplit:
    backend: int
    start: int
    inputs: list[GgmlTensor] = field(default_factory=list)
    end: int = 0


@dataclass(slots=True)
class Scheduler:
    """ggml's scheduler of one graph. `host` is the device number of the host, after all GPUs."""

    host: int
    supports: Supports
    batch: Callable[[GgmlTensor], int]  # tokens that an operation works on
    copies: int = 1
    offload: bool = True
    all_inputs: bool = True  # a pipeline keeps even inputs that no node reads
    copied: dict[tuple[int, int], list[GgmlTensor]] = field(default_factory=dict)
    splits: list[GraphSplit] = field(default_factory=list)

    def steps(self, g: Graph) -> tuple[list[Step], list[Step]]:
        """Return (nodes, leaves) in the order of allocation, each with its device."""
        self._assign(g)
        self._cut(g)
        return self._order(g), self._leaves(g)

    # Devices

    def _assign(self, g: Graph) -> None:
        for t in (*g.leaves, *g.nodes):
            if t.backend < 0:
                t.backend = self._from_memory(t)
        work = [t for t in g.nodes if t.op not in VIEWS]
        for gpu in (True, False):
            self._spread(work, gpu=gpu)
            self._spread(work[::-1], gpu=gpu)
        for t in work:
            if t.backend < 0:
                t.backend = self._best(t)
        for t in g.nodes:
            self._inherit(t)

    def _from_memory(self, t: GgmlTensor) -> int:
        stored = t.dev if t.base is None else t.base.dev
        if stored is not None:
            return stored if self.supports(t, stored) else -1
        if t.input:
            return self.host
        if t.op in ("rope", "flash_attn"):
            return -1
        return next((self._with_weight(t, s) for s in t.src if s.weight), -1)

    def _with_weight(self, t: GgmlTensor, weight: GgmlTensor) -> int:
        device = weight.dev if weight.dev is not None else self.host
        if device != self.host:
            return device if self.supports(t, device) else -1
        if self.offload and self.batch(t) >= BATCH:
            return next((b for b in range(self.host) if self.supports(t, b)), device)
        return device

    def _spread(self, work: Sequence[GgmlTensor], *, gpu: bool) -> None:
        current = -1
        for t in work:
            if t.backend >= 0:
                current = -1 if gpu and t.backend == self.host else t.backend
            elif current >= 0 and self.supports(t, current):
                t.backend = current

    def _best(self, t: GgmlTensor) -> int:
        """Return the device that has most of the sources of `t`, the first of equals."""
        able = [b for b in range(self.host + 1) if self.supports(t, b)]
        return max(able, key=lambda b: (sum(self._at(s) == b for s in t.src), -b))

    def _at(self, t: GgmlTensor) -> int:
        stored = t.dev if t.base is None else t.base.dev
        if stored is not None:
            return stored
        return t.backend if t.backend >= 0 or t.base is None else t.base.backend

    def _inherit(self, t: GgmlTensor) -> None:
        if t.backend < 0 and t.base is not None:
            t.backend = t.base.backend
        for s in t.src:
            if s.backend < 0:
                s.backend = t.backend if s.base is None else s.base.backend
        if t.backend < 0:
            t.backend = self.host

    # Splits

    def _cut(self, g: Graph) -> None:
        split: GraphSplit | None = None
        for i, t in enumerate(g.nodes):
            if t.op in VIEWS:
                continue
            if split is None or t.backend != split.backend or self._frees(t, split):
                if split is not None:
                    split.end = i
                split = GraphSplit(t.backend, 0 if split is None else i)
                self.splits.append(split)
            for j, s in enumerate(t.src):
                if self._at(s) != t.backend:
                    t.src[j] = self._copy(s, split)
        if split is not None:
            split.end = len(g.nodes)

    def _frees(self, t: GgmlTensor, split: GraphSplit) -> bool:
        """Return whether a weight of another device starts a new split, to free earlier memory."""
        return bool(split.inputs) and any(s.weight and s.dev != t.backend for s in t.src)

    def _copy(self, source: GgmlTensor, split: GraphSplit) -> GgmlTensor:
        key = (id(source), split.backend)
        if key not in self.copied:
            self.copied[key] = [self._duplicate(source) for _ in range(self.copies)]
            split.inputs.append(source)
        return self.copied[key][0]

    def _duplicate(self, source: GgmlTensor) -> GgmlTensor:
        c = GgmlTensor("none", source.dtype, source.ne)
        c.nb = source.nb
        c.input = c.kept = self.copies > 1
        return c

    # What the allocator sees

    def _order(self, g: Graph) -> list[Step]:
        result: list[Step] = []
        for split in self.splits:
            for s in split.inputs:
                result.append((_holding(s), s.backend))  # the source lives until it is copied
                result.append((self.copied[id(s), split.backend][0], split.backend))
            for t in g.nodes[split.start : split.end]:
                result.append((t, t.backend))
                if split.backend != self.host:
                    result += self._kept_until(g, t)
        return result

    def _kept_until(self, g: Graph, t: GgmlTensor) -> list[Step]:
        return [(_holding(s), t.backend) for s in g.kept.get(id(t), ())]

    def _leaves(self, g: Graph) -> list[Step]:
        return [*self._kept(g), *((t, max(t.backend, 0)) for t in g.leaves)]

    def _read(self, g: Graph) -> frozenset[int]:
        """Return the ids of inputs that are copied to a device, or read on the host."""
        used = {id(s) for t in g.nodes for s in t.src if s.input}
        return frozenset(used | {key for key, _ in self.copied})

    def _kept(self, g: Graph) -> list[Step]:
        """Return the inputs and copies of a pipeline, which are allocated first and never freed."""
        if self.copies == 1:
            return []
        result: list[Step] = []
        for t in g.leaves:
            if t.input and (self.all_inputs or id(t) in self._read(g)):
                t.kept = True
                result.append((t, t.backend))
                result += [(self._duplicate(t), t.backend) for _ in range(self.copies - 1)]
        for split in self.splits:
            for s in split.inputs:
                result += [(c, split.backend) for c in self.copied[id(s), split.backend]]
        return result


def _holding(source: GgmlTensor) -> GgmlTensor:
    """Return a node that does nothing but keep `source` allocated."""
    t = GgmlTensor("none", source.dtype, source.ne, (source,))
    t.base = source.base or source
    return t


# The graph allocator, which gives each tensor its memory
#
#     leaves and inputs      first, before any node
#     a node                 in the place of a source that nobody else needs, where its operation
#                            allows and the layouts agree; else the best fitting free block, else
#                            the end of the buffer
#     freed                  when its last user and its last view are done
#
# The size of a device's buffer is the furthest byte that was ever in use. Source: llama.cpp
# 0c1e57098 ggml/src/ggml-alloc.c (ggml_gallocr_alloc_graph_impl, ggml_dyn_tallocr_alloc).

_INPLACE = """
fill scale diag_mask add add_id add1 sub mul div sqr sqrt log unary rope rms_norm clamp soft_max
"""
INPLACE = frozenset(_INPLACE.split())
UNBOUNDED = 1 << 62
Size = Callable[[GgmlTensor], int]  # what a device allocates for a tensor


@dataclass(slots=True)
class BufferPool:
    """One device's compute buffer: free blocks as [offset, size], by address; the last is open."""

    alignment: int
    free: list[list[int]] = field(default_factory=lambda: [[0, UNBOUNDED]])
    high: int = 0

    def take(self, size: int) -> int:
        size = align_up(size, self.alignment)
        best, fit = -1, UNBOUNDED
        for i, (_, room) in enumerate(self.free[:-1]):
            if size <= room <= fit:
                best, fit = i, room
        block = self.free[best]
        offset = block[0]
        block[0] += size
        block[1] -= size
        if block[1] == 0:
            del self.free[best]
        self.high = max(self.high, offset + size)
        return offset

    def give(self, offset: int, size: int) -> None:
        """Free a range of bytes: it joins the first free block it touches, and that its neighbour.
        An empty tensor leaves an empty block, which may keep two others apart."""
        size = align_up(size, self.alignment)
        end = offset + size
        for i, block in enumerate(self.free):
            if block[0] + block[1] == offset:
                block[1] += size
                self._join(i)
                return
            if end == block[0]:
                block[0], block[1] = offset, block[1] + size
                self._join(i - 1)
                return
        index = next((i for i, b in enumerate(self.free) if b[0] >= offset), len(self.free))
        self.free.insert(index, [offset, size])

    def _join(self, i: int) -> None:
        if i < 0 or i + 1 >= len(self.free):
            return
        block, following = self.free[i], self.free[i + 1]
        if block[0] + block[1] == following[0]:
            block[1] += following[1]
            del self.free[i + 1]


@dataclass(slots=True)
class GraphAllocator:
    pools: Sequence[BufferPool]
    sizes: Sequence[Size]  # by device
    inplace: frozenset[str] = INPLACE

    def run(
        self, nodes: Sequence[tuple[GgmlTensor, int]], leaves: Sequence[tuple[GgmlTensor, int]]
    ) -> None:
        for leaf, device in leaves:
            self._place(leaf, device)
        self._count(nodes)
        for node, device in nodes:
            for parent in node.src:
                if not parent.held and parent.base is None and parent.dev is None:
                    self._place(parent, device)
            self._place(node, device)
            for parent in node.src:
                self._done(parent)

    def _count(self, nodes: Sequence[tuple[GgmlTensor, int]]) -> None:
        for node, device in nodes:
            if node.base is not None and node.op != "none":
                node.base.views += 1
            if node.input:
                self._place(node, device)
            for s in node.src:
                s.users += 1
                if s.input:
                    self._place(s, device)

    def _place(self, t: GgmlTensor, device: int) -> None:
        if t.held or t.base is not None or t.dev is not None:
            return
        t.held = True
        if t.op in self.inplace and self._reuse(t):
            return
        t.place = device
        t.offset = self.pools[device].take(self.sizes[device](t))

    def _reuse(self, t: GgmlTensor) -> bool:
        """Return whether `t` takes the memory of a source. A view's is never taken: ggml checks
        whether the parent itself was allocated."""
        for parent in t.src:
            if not parent.held or parent.kept or not same_layout(t, parent):
                continue
            if parent.users == 1 and parent.views == 0:
                t.place, t.offset = parent.place, parent.offset
                parent.held = False
                self._shrink(t, parent)
                return True
        return False

    def _shrink(self, t: GgmlTensor, owner: GgmlTensor) -> None:
        """Free the end of a block whose new owner is smaller than the tensor that had it."""
        pool = self.pools[owner.place]
        size = self.sizes[owner.place]
        whole, now = (align_up(size(x), pool.alignment) for x in (owner, t))
        if whole > now:
            pool.give(owner.offset + now, whole - now)

    def _done(self, parent: GgmlTensor) -> None:
        parent.users -= 1
        if parent.users or parent.views:
            return
        owner = parent.base
        if owner is None:
            if parent.held:
                self._free(parent)
            return
        owner.views -= 1
        if owner.views == 0 and owner.users == 0 and owner.held:
            self._free(owner)

    def _free(self, t: GgmlTensor) -> None:
        if t.kept:
            return
        self.pools[t.place].give(t.offset, self.sizes[t.place](t))
        t.held = False

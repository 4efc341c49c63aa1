"""Which device runs each node, where the graph is cut, and what is copied from device to device.

    stored or input    where it is; inputs are the host's
    with a weight      where the weight is; on a GPU all the same when the weight is in host
                       memory and 32 tokens or more make its copy worth while
    the others         as their neighbours: GPUs spread down, then up, then the rest

A split is a run of nodes on one device; what it needs from another is copied at its start, once a
device. With several GPUs in a pipeline, inputs and copies are kept several times (four as it is
built by default), and none of their memory is used again. Devices are numbered, the host last.

Source: llama.cpp 0c1e57098 ggml/src/ggml-backend.cpp (ggml_backend_sched_split_graph),
ggml/src/ggml-cuda/ggml-cuda.cu (offload_op, supports_op).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from weighbridge.engines.llama_cpp.ggml.graph import VIEWS, GgmlTensor, Graph

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
    """`host` is the number of the host, after all GPUs."""

    host: int
    supports: Supports
    batch: Callable[[GgmlTensor], int]  # tokens that an operation works on
    copies: int = 1
    offload: bool = True
    all_inputs: bool = True  # a pipeline keeps inputs that no node reads as well
    copied: dict[tuple[int, int], list[GgmlTensor]] = field(default_factory=dict)
    splits: list[GraphSplit] = field(default_factory=list)

    def steps(self, g: Graph) -> tuple[list[Step], list[Step]]:
        """(nodes, leaves) in the order of allocation, each with its device."""
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
        """The first device that has most of its sources."""
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
        """A weight from elsewhere starts a split, so that the memory of earlier ones is free."""
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
        """Inputs that are copied to a device, or read on the host."""
        used = {id(s) for t in g.nodes for s in t.src if s.input}
        return frozenset(used | {key for key, _ in self.copied})

    def _kept(self, g: Graph) -> list[Step]:
        """Inputs and copies of a pipeline, which are allocated first and never freed."""
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
    """A node that does nothing but need its source."""
    t = GgmlTensor("none", source.dtype, source.ne, (source,))
    t.base = source.base or source
    return t

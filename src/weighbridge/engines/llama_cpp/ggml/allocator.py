"""Which memory each tensor of a graph gets: ggml's graph allocator, replayed.

    leaves and inputs      first, before any node
    a node                 in the place of a source that nobody else needs, where its operation
                           allows and the layouts agree; else the best fitting free block, else
                           the end of the buffer
    freed                  when its last user and its last view are done

The size of a device's buffer is the furthest byte that was ever in use. Source: llama.cpp
0c1e57098 ggml/src/ggml-alloc.c (ggml_gallocr_alloc_graph_impl, ggml_dyn_tallocr_alloc).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from weighbridge.engines.llama_cpp.ggml.graph import GgmlTensor, same_layout
from weighbridge.units import align_up

INPLACE = frozenset(
    (
        *("fill", "scale", "diag_mask", "add", "add_id", "add1", "sub", "mul", "div", "sqr"),
        *("sqrt", "log", "unary", "rope", "rms_norm", "clamp", "soft_max"),
    )
)
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
        """Joined to the first block that it touches, and that to its neighbour: an empty tensor
        leaves an empty block, which may keep two others apart."""
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
        """A view is never reused: ggml asks whether the parent itself was allocated."""
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

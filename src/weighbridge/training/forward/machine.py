"""The modes that operators run under, and the nodes that they leave for backward.

    record(m, back, inputs, saved, outputs)     one node of the graph, if a gradient is needed

`back(m, grads, saved, needs)` returns the gradients of the inputs; besides its arguments it may
refer only to shapes, since a node holds its saved tensors and nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from weighbridge.base.dtypes import FLOAT32, INT8, DType
from weighbridge.machines.accelerators.chips import ASSUMED, Chip
from weighbridge.memory.components.activations import TensorHeap
from weighbridge.memory.components.card_bytes import CardBytes
from weighbridge.training.forward.tensors import Computed, LeafTensor, Shape, Tensor, TensorStorage

if TYPE_CHECKING:
    from weighbridge.training.forward.checkpoint import Frame

Grads = Sequence[Tensor | None]
Needs = tuple[bool, ...]
Back = Callable[["Machine", list[Any], list[Any], Needs], Grads]
Said = TypeVar("Said")
Sizes = Sequence[int]
# (a rule of kernels, its arguments, its keyword arguments)
Asked = tuple[Callable[..., Any], tuple[Any, ...], tuple[tuple[str, Any], ...]]


class GradNode:
    """A node of the autograd graph. `inputs` are (node or parameter, index of its output).
    `attributes` are what a Python function keeps on its context: no checkpoint sees them, and they
    are freed with the node."""

    __slots__ = ("attributes", "back", "inputs", "needs", "outputs", "saved", "seq")

    def __init__(
        self,
        seq: int,
        back: Back,
        inputs: list[tuple[Any, int]],
        needs: Needs,
        saved: list[Any],
        outputs: int,
    ) -> None:
        self.seq = seq
        self.back = back
        self.inputs = inputs
        self.needs = needs
        self.saved = saved
        self.outputs = outputs
        self.attributes: tuple[Any, ...] = ()


class KernelFacts:
    """Cached results of kernel rules for one chip, by rule and arguments. A run on a chip with
    equal results is the same run. If only sizes differ, the allocations are the same with other
    bytes."""

    __slots__ = ("_said", "_sizes")

    def __init__(self) -> None:
        self._said: dict[Asked, Any] = {}
        self._sizes: dict[Asked, list[CardBytes]] = {}

    def of(self, chip: Chip, rule: Callable[..., Said], facts: Sequence[Any], **more: Any) -> Said:
        key = rule, tuple(facts), tuple(more.items())
        if key not in self._said:
            self._said[key] = rule(*facts, chip=chip, **more)
        return self._said[key]  # type: ignore[no-any-return]

    def sizes(
        self, chip: Chip, rule: Callable[..., Sizes], facts: Sequence[Any], **more: Any
    ) -> list[CardBytes]:
        """Return the bytes that `rule` computes for the chip; the list has the same length for
        every chip."""
        key = rule, tuple(facts), tuple(more.items())
        if key not in self._sizes:
            said = rule(*facts, chip=chip, **more)
            self._sizes[key] = [CardBytes.of(n, (key, place)) for place, n in enumerate(said)]
        return self._sizes[key]

    def hold(self, chip: Chip) -> bool:
        """Return whether all rules give the same results and sizes for `chip`."""
        same = (list(_asked(key, chip)) == sizes for key, sizes in self._sizes.items())
        return self.decide(chip) and all(same)

    def decide(self, chip: Chip) -> bool:
        """Return whether all rules give the same results for `chip`, apart from sizes."""
        return all(_asked(key, chip) == said for key, said in self._said.items())

    def on(self, chip: Chip) -> "KernelFacts":
        """Return the results for `chip`, for which the rules decide the same."""
        other = KernelFacts()
        other._said = self._said
        for rule, facts, more in self._sizes:
            other.sizes(chip, rule, facts, **dict(more))
        return other

    def size(self, nbytes: CardBytes) -> int:
        """Return the bytes on this chip that correspond to `nbytes` of another chip."""
        key, place = nbytes.origin
        return self._sizes[key][place]


def _asked(key: Asked, chip: Chip) -> Any:
    rule, facts, more = key
    return rule(*facts, chip=chip, **dict(more))


class Machine:
    """One process on one device: its heap, its modes, and the autograd graph that it records."""

    def __init__(self, heap: TensorHeap) -> None:
        self.heap = heap
        self.grad = True
        self.training = True
        self.adapted = True  # whether adapters are on; off, the model is its frozen base
        self.autocast: DType | None = None
        self.name = "activations"  # component that new memory counts as
        self.in_backward = False
        self.away = self.most_away = 0  # bytes of activations in host memory: now, at most
        self.sends = ""  # which saved tensors go to the host: "inputs" of nodes, or "all"
        self.softmax_keeps = False  # its input, too: torch 1.10 and older (_softmax_backward_data)
        self.frames: list[Frame] = []
        self.casts: dict[int, tuple[LeafTensor, Tensor]] = {}  # autocast's cache of weights
        self.workspace = 0  # bytes of cuBLAS, for each thread that multiplies
        self.unfolds = False  # a convolution is a product of columns, as in ggml
        self.beyond = False  # a convolution had more elements than 32 bits count
        self.chip = ASSUMED
        self.installed = False  # packages with kernels for recurrent layers are installed
        self.kernels = KernelFacts()
        self.temporary_workspace = 0  # bytes of cuBLAS, freed after each product
        self._watched: list[ref[TensorStorage]] | None = None
        self._threads: dict[bool, TensorStorage] = {}
        self._seq = 0

    def new(self, shape: Shape, dtype: DType, name: str = "") -> Tensor:
        storage = TensorStorage(self.heap, dtype.size(prod(shape)), name or self.name)
        if self._watched is not None:
            self._watched.append(ref(storage))
        return Computed(shape, dtype, storage)

    def many(self, count: int, shape: Shape, dtype: DType) -> Tensor:
        """Allocate `count` tensors of one shape, which are freed together; return them as one
        tensor."""
        tensor = Computed((count, *shape), dtype, None)
        tensor.storage = TensorStorage(self.heap, tensor.nbytes // count, self.name, count=count)
        return tensor

    def pile(self, count: int, nbytes: int) -> Tensor:
        """Allocate `count` tensors of `nbytes` each, which are freed together; return them as one
        tensor."""
        storage = TensorStorage(self.heap, nbytes, self.name, count=count)
        return Computed((count, nbytes), INT8, storage)

    def said(self, shape: Shape, dtype: DType, nbytes: int) -> Tensor:
        """Return a tensor of `shape` that takes `nbytes`, as a kernel rule computed, not the
        shape's own size."""
        storage = TensorStorage.of(self.heap, self.heap.again(nbytes, self.name, 0))
        if self._watched is not None:
            self._watched.append(ref(storage))
        return Computed(shape, dtype, storage)

    @property
    def saves(self) -> bool:
        """Return whether tensors saved for backward are kept: not inside a checkpoint's first
        forward."""
        return self.grad and (not self.frames or self.frames[-1].again)

    @property
    def recalls(self) -> bool:
        """Return whether a selective checkpoint is recomputing a layer."""
        return bool(self.frames) and self.frames[-1].again and self.frames[-1].chooses is not None

    def result(self, kind: str, shape: Shape, dtype: DType) -> Tensor:
        """Return the result tensor of a product or an attention; when a selective checkpoint
        recomputes the layer, the one it kept."""
        if self.frames and self.frames[-1].chooses is not None:
            return self.frames[-1].result(kind, shape, dtype)
        return self.new(shape, dtype)

    def given(self, kind: str, x: Tensor) -> Tensor:
        """Return `x`, the input of a compiled region, which a selective checkpoint keeps with the
        region's output."""
        if self.frames and self.frames[-1].chooses is not None:
            return self.frames[-1].given(kind, x)
        return x

    def param(
        self, name: str, shape: Shape, dtype: DType, *, component: str = "weights", **facts: Any
    ) -> LeafTensor:
        out = LeafTensor(name, shape, dtype, None, **facts)
        out.storage = TensorStorage(self.heap, out.nbytes, component)
        return out

    def hidden(self, *sizes: int, name: str = "temporaries") -> None:
        """Allocate a kernel's temporaries of `sizes` bytes, all alive together, and free them."""
        self.heap.passing(*[n for n in sizes if n or type(n) is CardBytes], name=name)

    def ask(self, rule: Callable[..., Said], *facts: Any, **more: Any) -> Said:
        """Return the result of kernel rule `rule` for the chip; all that a run uses of the chip
        comes from such rules."""
        return self.kernels.of(self.chip, rule, facts, **more)

    def sizes(self, rule: Callable[..., Sizes], *facts: Any, **more: Any) -> list[CardBytes]:
        """Return the bytes that a kernel rule computes for the chip. The list has the same length
        for every chip, 0 if a kernel takes nothing, so the allocations do not depend on the
        chip."""
        return self.kernels.sizes(self.chip, rule, facts, **more)

    def product(self) -> None:
        """Allocate a matrix product's workspace: cuBLAS's in a thread's first product."""
        if self.workspace and self.in_backward not in self._threads:
            with self.heap.watched(None):
                storage = TensorStorage(self.heap, self.workspace, "workspaces")
            self._threads[self.in_backward] = storage
        if self.temporary_workspace:
            self.hidden(self.temporary_workspace, name="workspaces")

    @property
    def lasting(self) -> set[int]:
        """Return the heap places of the workspaces that threads keep from their first product
        on."""
        return {storage.held.place for storage in self._threads.values()}

    def number(self) -> int:
        self._seq += 1
        return self._seq

    @contextmanager
    def no_grad(self) -> Iterator[None]:
        before, self.grad = self.grad, False
        try:
            yield
        finally:
            self.grad = before

    @contextmanager
    def casting(self, dtype: DType | None) -> Iterator[None]:
        """Run the block as under torch.autocast; cached casts of weights are freed when the
        outermost such block ends."""
        before, self.autocast = self.autocast, dtype
        outer, self.casts = self.casts, (self.casts if before is not None else {})
        try:
            yield
        finally:
            self.autocast, self.casts = before, outer

    @contextmanager
    def sending(self, what: str) -> Iterator[None]:
        """Send saved tensors to host memory while the block runs; this takes precedence over a
        checkpoint."""
        before, self.sends = self.sends, what
        try:
            yield
        finally:
            self.sends = before

    @contextmanager
    def watching(self, made: "list[ref[TensorStorage]]") -> Iterator[None]:
        """Append a reference to `made` for each storage that is allocated while the block runs."""
        before, self._watched = self._watched, made
        try:
            yield
        finally:
            self._watched = before

    @contextmanager
    def making(self, name: str) -> Iterator[None]:
        """Count memory allocated while the block runs as component `name`."""
        before, self.name = self.name, name
        try:
            yield
        finally:
            self.name = before


def record(
    m: Machine,
    back: Back,
    inputs: Sequence[Tensor | None],
    saved: Sequence[Tensor | None],
    *outputs: Tensor,
    attributes: tuple[Tensor, ...] = (),
) -> None:
    """Add a node to the graph, unless gradients are off or no input needs one. `back` computes the
    gradients of `inputs`."""
    if not m.grad:
        return
    edges = [NO_EDGE if t is None else _edge(t) for t in inputs]
    needs = tuple([source is not None for source, _ in edges])
    if True not in needs:
        return
    node = GradNode(m.number(), back, edges, needs, _packed(m, [*saved], outputs), len(outputs))
    if attributes:
        node.attributes = attributes
    for slot, out in enumerate(outputs):
        out.node, out.slot = node, slot


class SentTensor:
    """A saved tensor in host memory; calling it returns a new copy on the GPU."""

    __slots__ = ("dtype", "m", "nbytes", "shape")

    def __init__(self, m: Machine, t: Tensor) -> None:
        self.m, self.shape, self.dtype, self.nbytes = m, t.shape, t.dtype, t.nbytes
        m.away += self.nbytes
        m.most_away = max(m.most_away, m.away)

    def __call__(self) -> Tensor:
        return self.m.new(self.shape, self.dtype)

    def __del__(self) -> None:
        self.m.away -= self.nbytes


def _packed(m: Machine, saved: list[Any], outputs: Sequence[Tensor]) -> list[Any]:
    """Return what a node keeps instead of its saved tensors: placeholders of a checkpoint or of an
    offload, or the tensors."""
    if m.sends:
        return [_sent(m, t, outputs) for t in saved]
    return m.frames[-1].pack(saved) if m.frames else saved


def _sent(m: Machine, t: Any, outputs: Sequence[Tensor]) -> Any:
    """Return what a node keeps of `t` when saved tensors go to the host. Leaves stay on the GPU,
    and so do results of kernels if only inputs are sent."""
    if t is None or isinstance(t, LeafTensor):
        return t
    of_result = any(t.storage is out.storage for out in outputs)
    if of_result:
        return SentTensor(m, t) if m.sends == "all" else t.detach()
    return t if t.node is None else SentTensor(m, t)


def remade(m: Machine, x: Tensor, out: Tensor, *saved: Tensor | None) -> Tensor:
    """Return `out` after recording that it was made from `x`; backward allocates a gradient as
    large as `x`, in the dtype of the incoming one."""
    shape = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, grads[0].dtype)]

    record(m, back, [x], saved, out)
    return out


def made_like(m: Machine, x: Tensor, out: Tensor, *saved: Tensor | None) -> Tensor:
    """Return `out` after recording that it was made from `x`; backward allocates a gradient like
    `x`, whatever the incoming dtype."""
    shape, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, dtype)]

    record(m, back, [x], saved, out)
    return out


def another(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
    """Return a new gradient, as large as the incoming one."""
    return [m.new(grads[0].shape, grads[0].dtype)]


def passed(m: Machine, x: Tensor, out: Tensor, *saved: Tensor | None) -> Tensor:
    """Return `out` after recording that it was made from `x`; backward passes the gradient on
    unchanged."""

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [grads[0]]

    record(m, back, [x], saved, out)
    return out


def ahead(m: Machine, inputs: Sequence[Tensor | None], saved: Sequence[Tensor | None]) -> None:
    """Save `inputs` before an operator runs. A recomputation ends here if backward needs nothing
    beyond them."""
    if (
        m.frames
        and m.grad
        and not m.sends
        and any(t is not None and t.requires_grad for t in inputs)
    ):
        m.frames[-1].ahead(saved)


NO_EDGE: tuple[Any, int] = (None, 0)


def _edge(t: Any) -> tuple[Any, int]:
    """Return the (node or leaf, output index) to which a tensor's gradient goes."""
    if t.node is not None:
        return t.node, t.slot
    return (t, 0) if t.requires_grad else NO_EDGE


def lower(m: Machine, t: Tensor) -> Tensor:
    """Return `t` cast as autocast does before a product. A trained float32 weight is cast once; a
    frozen one, or an activation, each time (torch aten/src/ATen/autocast_mode.cpp, cached_cast)."""
    from weighbridge.training.forward.ops.pointwise import cast

    target = m.autocast
    if target is None or t.dtype == target or t.dtype.name not in FLOATS:
        return t
    if isinstance(t, LeafTensor) and t.trainable and t.dtype == FLOAT32:
        entry = m.casts.get(id(t))
        if entry is None:
            entry = m.casts[id(t)] = (t, cast(m, t, target))
        return entry[1]
    return cast(m, t, target)


FLOATS = ("float32", "float16", "bfloat16")

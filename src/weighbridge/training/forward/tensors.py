"""Tensors without values: a shape, a dtype, and a storage that others may share."""

from math import prod
from typing import TYPE_CHECKING, final

from weighbridge.base.dtypes import DType
from weighbridge.memory.components.activations import LiveTensor, TensorHeap

if TYPE_CHECKING:
    from weighbridge.training.forward.machine import GradNode

Shape = tuple[int, ...]
ELSEWHERE = "elsewhere"  # kind of a parameter that another pipeline stage holds


class TensorStorage:
    """Memory that is freed with its last reference."""

    __slots__ = ("__weakref__", "_heap", "_held")

    def __init__(
        self, heap: TensorHeap, nbytes: int, name: str, stream: int = 0, count: int = 1
    ) -> None:
        self._held: LiveTensor = (
            heap.take(nbytes, name, stream) if count == 1 else heap.many(count, nbytes, name)
        )
        self._heap: TensorHeap | None = heap

    @classmethod
    def of(cls, heap: TensorHeap, source: "LiveTensor | TensorStorage") -> "TensorStorage":
        """Return a storage for memory that is already allocated; `source` itself if it is a
        storage."""
        if isinstance(source, TensorStorage):
            return source
        out = cls.__new__(cls)
        out._held, out._heap = source, heap
        return out

    def surrender(self) -> LiveTensor:
        """Return the memory and give up ownership: from here on the caller frees it."""
        self._heap = None
        return self._held

    def __del__(self) -> None:
        heap = getattr(self, "_heap", None)  # None if allocating it failed
        if heap is not None and not heap.closed:
            heap.drop(self._held)

    @property
    def held(self) -> LiveTensor:
        return self._held

    @property
    def name(self) -> str:
        return self._held.name

    @property
    def nbytes(self) -> int:
        return self._held.total

    def rename(self, name: str) -> None:
        """Count the memory as another component from now on."""
        if name != self._held.name and self._heap is not None:
            self._held = self._heap.rename(self._held, name)


class Tensor:
    """The base class of tensors; abstract, never instantiated. Node `node` made it as its output
    `slot`; None if it needs no gradient."""

    __slots__ = ("dtype", "node", "shape", "slot", "storage")

    def __init__(
        self,
        shape: Shape,
        dtype: DType,
        storage: TensorStorage | None,
        node: "GradNode | None" = None,
        slot: int = 0,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.storage = storage
        self.node = node
        self.slot = slot

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.dtype.size(prod(self.shape))

    @property
    def rows(self) -> int:
        """Return the product of all dimensions but the last."""
        return prod(self.shape[:-1])

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    def view(self, *shape: int) -> "Tensor":
        """Return a view of the same memory with the same graph node."""
        return Computed(shape, self.dtype, self.storage, self.node, self.slot)

    def detach(self) -> "Tensor":
        return Computed(self.shape, self.dtype, self.storage)


@final
class Computed(Tensor):
    """A tensor that an operator computed, or another tensor with the same memory."""

    __slots__ = ()


@final
class TensorView(Tensor):
    """A view that holds its base, so no gradient is added to it in place."""

    __slots__ = ("base",)

    def __init__(self, base: Tensor) -> None:
        super().__init__(base.shape, base.dtype, base.storage)
        self.base = base


@final
class TensorSlice(Tensor):
    """A slice of another tensor with gaps between its pieces: kernels that need contiguous input
    copy it. `merges`: all dimensions but the last can still be viewed as one."""

    __slots__ = ("merges",)

    def __init__(
        self, shape: Shape, dtype: DType, storage: TensorStorage | None, *, merges: bool
    ) -> None:
        super().__init__(shape, dtype, storage)
        self.merges = merges


@final
class LeafTensor(Tensor):
    """A parameter or other leaf of the graph. Its `storage` may be None: if it is sharded, the
    gathering code holds the memory."""

    __slots__ = ("grad", "hooks", "kind", "name", "trainable")

    def __init__(
        self,
        name: str,
        shape: Shape,
        dtype: DType,
        storage: TensorStorage | None,
        *,
        trainable: bool = True,
        kind: str = "linear",
    ) -> None:
        super().__init__(shape, dtype, storage)
        self.name = name
        self.kind = kind
        self.trainable = trainable
        self.grad: Tensor | None = None
        self.hooks: list[object] = []

    @property
    def requires_grad(self) -> bool:
        return self.trainable


def absent(t: Tensor | None) -> bool:
    """Return whether `t` is a parameter of another pipeline stage, whose operation does not run
    here."""
    return isinstance(t, LeafTensor) and t.kind == ELSEWHERE

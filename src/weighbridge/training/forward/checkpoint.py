"""Activation checkpoints: layers that drop what they save and are recomputed in backward.

    checkpoint(m, layer, x)                     torch.utils.checkpoint, use_reentrant=False
    checkpoint(m, layer, x, reentrant=True)     the older form

Without reentry only the saved tensors are dropped: when the first is needed, the layer runs again
up to the last one (early stop). With it the layer runs without gradients and, in backward, again in
full, followed at once by its own backward. Source: torch 2.13 torch/utils/checkpoint.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import ref

from weighbridge.base.dtypes import DType
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.tensors import Computed, LeafTensor, Shape, Tensor, TensorStorage

Layer = Callable[..., Any]
Choice = Callable[[str], bool]


def every_second_product() -> Choice:
    """Return torchtitan's selective checkpoint: a test of which results of a layer are kept. They
    are attention, batched products, sums, communication, and every second product from the first
    on; a router's does not count (models/llama3/infra/parallelize.py,
    _apply_ac_to_transformer_block; later distributed/activation_checkpoint.py,
    per_op_sac_force_recompute_mm_shapes_by_fqns)."""
    products = 0

    def keeps(kind: str) -> bool:
        nonlocal products
        products += kind == "product"
        return kind != "router" and (kind != "product" or products % 2 == 1)

    return keeps


class _StopError(Exception):
    """Raised when all saved tensors are recomputed, to stop the layer early."""


class _Holder:
    """Placeholder of a saved tensor; calling it returns the recomputed tensor."""

    __slots__ = ("__weakref__", "frame", "number")

    def __init__(self, frame: "Frame", number: int) -> None:
        self.frame = frame
        self.number = number

    def __call__(self) -> Any:
        return self.frame.unpack(self.number)


class Frame:
    """One checkpointed region: how to run it again, and which of its results are kept."""

    def __init__(self, m: Machine, layer: Layer, args: tuple[Any, ...]) -> None:
        self.m = m
        self.layer = layer
        self.args = args
        self.autocast = m.autocast
        self.count = 0
        self.seen = 0
        self.holders: list[ref[_Holder]] = []
        self.kept: dict[int, Any] = {}
        self.away = False  # the input is in host memory until it is needed
        self.again = False
        self.made = 0  # results so far in this run of the layer
        self.chooses: Choice | None = None  # returns whether a kind of result is kept
        self.results: list[Any] = []

    def result(self, kind: str, shape: Shape, dtype: DType) -> Tensor:
        """Return a new result, kept if `chooses` says so; when recomputing, return the kept one,
        which is then freed."""
        assert self.chooses is not None
        number, self.made = self.made, self.made + 1
        if not self.again:
            out = self.m.new(shape, dtype)
            self.results.append(out.storage if self.chooses(kind) else None)
            return out
        storage, self.results[number] = self.results[number], None
        return self.m.new(shape, dtype) if storage is None else Computed(shape, dtype, storage)

    def given(self, kind: str, x: Tensor) -> Tensor:
        """Return a region's input, which is kept like a result if `chooses` says so; when
        recomputing, return the kept one."""
        assert self.chooses is not None
        number, self.made = self.made, self.made + 1
        if not self.again:
            self.results.append(x.storage if self.chooses(kind) else None)
            return x
        storage, self.results[number] = self.results[number], None
        return x if storage is None else Computed(x.shape, x.dtype, storage, x.node, x.slot)

    def pack(self, saved: list[Any]) -> list[Any]:
        """Return numbered placeholders that a node keeps instead of saved tensors; when
        recomputing, keep the tensors."""
        if self.again:
            return self._keep(saved)
        holders: list[Any] = []
        for t in saved:
            if t is None:
                holders.append(None)
                continue
            holder = _Holder(self, self.count)
            self.holders.append(ref(holder))
            holders.append(holder)
            self.count += 1
        return holders

    def ahead(self, saved: Sequence[Any]) -> None:
        """Keep inputs that an operator is about to save, if they are the last that backward
        needs."""
        coming = sum(t is not None for t in saved)
        if self.again and coming and self.seen + coming == self.count:
            self._keep(list(saved))

    def _keep(self, saved: list[Any]) -> list[Any]:
        """Keep recomputed tensors for their placeholders, unless the node is gone. Raises
        _StopError after the last."""
        for t in saved:
            if t is None:
                continue
            if self.holders[self.seen]() is not None:
                self.kept[self.seen] = t.detach() if t.node is not None else t
            self.seen += 1
            if self.seen == self.count:
                raise _StopError
        return saved

    def unpack(self, number: int) -> Any:
        if not self.again:
            self._run_again()
        tensor = self.kept[number]
        self.kept[number] = None
        return tensor

    def _run_again(self) -> None:
        m, self.again = self.m, True
        self.made = 0
        before = m.grad, m.name, m.in_backward
        m.grad, m.name = True, "activations"
        m.frames.append(self)
        x, *others = self.args
        if self.away:
            m.away -= x.nbytes
            x = _elsewhere(x, m.new(x.shape, x.dtype).storage)
        try:
            with m.casting(self.autocast):
                self.layer(x, *others)
        except _StopError:
            pass
        finally:
            m.frames.pop()
            m.grad, m.name, m.in_backward = before


def checkpoint(
    m: Machine,
    layer: Layer,
    *args: Any,
    reentrant: bool = False,
    away: bool = False,
    chooses: Choice | None = None,
) -> Any:
    """Run `layer(*args)` and drop what it saved, to run it again in backward. The first argument is
    the activation; `away`: it is kept in host memory. `chooses` says of which products and
    attentions the results are kept, not recomputed (create_selective_checkpoint_contexts)."""
    if not m.grad:
        return layer(*args)
    if reentrant and chooses is None:
        return _reentrant(m, layer, args)
    frame = Frame(m, layer, args)
    frame.chooses = chooses
    m.frames.append(frame)
    try:
        return layer(*args)
    finally:
        m.frames.pop()
        if away:
            x, *others = args
            frame.args = (_elsewhere(x, None), *others)
            frame.away = True
            m.away += x.nbytes
            m.most_away = max(m.most_away, m.away)


def _elsewhere(x: Tensor, storage: TensorStorage | None) -> Tensor:
    """Return the input `x` in another storage, None for host memory. A leaf that needs a gradient
    stays one, so that the recomputed layer saves the same; the graph holds the original leaf."""
    if isinstance(x, LeafTensor):
        return LeafTensor(x.name, x.shape, x.dtype, storage, trainable=x.trainable, kind=x.kind)
    return Computed(x.shape, x.dtype, storage, x.node, x.slot)


def _reentrant(m: Machine, layer: Layer, args: tuple[Any, ...]) -> Tensor:
    """Return the layer's output as one node that saves the inputs. Arguments with a node count as
    inputs, too: states that layers attend to get a gradient from each."""
    x, *arguments = args
    if not x.requires_grad:  # enable_input_require_grads: without, nothing would be trained
        x = _leaf(x)
    others = list({id(t): t for t in _of_graph(arguments)}.values())
    autocast = m.autocast
    with m.no_grad():
        out: Tensor = layer(*args)
    del args

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        leaves = [_leaf(t) for t in saved]
        by = {id(t): new for t, new in zip(others, leaves[1:], strict=True)}
        again = list(_replaced(arguments, by))
        # The node's saved tensors are freed when it has run, not with the graph around it
        arguments[:] = [t for t in arguments if not (isinstance(t, Tensor) and t.node is not None)]
        others.clear()
        m.grad, name, m.name = True, m.name, "activations"
        with m.casting(autocast):
            out = layer(leaves[0], *again)
        m.grad, m.name = False, name
        backward(m, out, grads[0])
        return [_taken(m, leaf) for leaf in leaves]

    fresh = Computed(out.shape, out.dtype, out.storage)
    record(m, back, [x, *others], [x, *others], fresh)
    return fresh


def _taken(m: Machine, leaf: LeafTensor) -> Tensor | None:
    """Return the gradient of an input, and take it off the leaf."""
    grad, leaf.grad = leaf.grad, None
    if grad is not None and grad.storage is not None:
        grad.storage.rename(m.name)
    return grad


def _of_graph(value: Any) -> Iterator[Tensor]:
    """Yield the tensors with a graph node among arguments, tuples included."""
    if isinstance(value, Tensor):
        if value.node is not None:
            yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _of_graph(each)


def _replaced(value: Any, by: Mapping[int, Tensor]) -> Any:
    """Return the arguments with tensors replaced by those of `by`, keyed by `id`."""
    if not by:
        return value
    if isinstance(value, Tensor):
        return by.get(id(value), value)
    if isinstance(value, (list, tuple)):
        out = [_replaced(each, by) for each in value]
        plain = type(value) in (list, tuple)
        return type(value)(out) if plain else type(value)(*out)
    return value


def _leaf(t: Tensor) -> Any:
    from weighbridge.training.forward.tensors import LeafTensor

    return LeafTensor("input", t.shape, t.dtype, t.storage)

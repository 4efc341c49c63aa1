"""Records the storages of fake CUDA tensors while torch code runs: who made each, and its end.

A dispatch mode sees every operation after autograd, so a storage is new when an operation returns
it for the first time, and its end is the end of its Python object, which torch keeps alive exactly
as long. What kernels take on the way is in `hidden`; `watch` says where in the program it is.
"""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import BackwardCFunction
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    is_traceable_wrapper_subclass,
    is_traceable_wrapper_subclass_type,
)
from torch.utils._pytree import tree_iter

from weighbridge.machines.allocator import OutOfMemoryError
from weighbridge_lab.trace import sparse
from weighbridge_lab.trace.carriers import Carrier, bare
from weighbridge_lab.trace.fused import CompiledWays
from weighbridge_lab.trace.hidden import Hidden
from weighbridge_lab.trace.looks import EXCEPTIONS, Looks
from weighbridge_lab.trace.places import Assume
from weighbridge_lab.trace.refusals import TOGETHER, is_raw, on_one_device, refused
from weighbridge_lab.trace.tape import OperationUse, Role, StoragePart, Tape

ADVICE = (
    "If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation "
    "for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
)
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
OWN = (torch._C.DispatchKey.CPU, torch._C.DispatchKey.CUDA)
ATEN = torch.ops.aten
LOOKED = object()
COPIES = frozenset((ATEN.clone.default, ATEN._to_copy.default))
SUMS = frozenset(
    (
        ATEN.add.Tensor,
        ATEN.index_put.default,
        ATEN.scatter.src,
        ATEN.scatter_add.default,
        ATEN.index_add.default,
        ATEN.put.default,
    )
)


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """A dispatch mode that writes one tape per device. `replaced` operations run our functions
    instead of torch's."""

    def __init__(self, tapes: Sequence[Tape], hidden: Hidden, assume: Assume | None = None) -> None:
        super().__init__()
        self.tapes = tapes
        self.hidden = hidden
        self.looks = Looks(assume)
        self.worked = 0, 0  # runs of backward, and steps of optimizers
        self.where: Callable[[Any], str] = _nowhere
        self.replaced: dict[Any, Callable[..., Any]] = {}
        self.entering: Callable[[], None] = _nothing  # before each operation
        self.compiled: CompiledWays | None = None  # once set, what operations read is noted
        self.leaves: BaseException | None = (
            None  # raised at the next request for memory (stopping.py)
        )
        self.rang: tuple[BaseException, str] | None = None  # the first pending signal, and its line
        self._kinds: dict[Any, tuple[str, bool, bool]] = {}
        # a storage's address -> its number, and that of the node that made it
        self._numbers: dict[int, tuple[Tape, int, int | None]] = {}
        self._ends: dict[int, Any] = {}
        self._refused: OutOfMemoryError | None = None
        self._one = threading.RLock()  # a program's threads come one by one
        self._plain: set[type] = {torch.Tensor, FakeTensor}  # classes that wrap no other tensors

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return whether dynamo is skipped; without this method, torch imports its compiler to
        decide."""
        return False

    @property
    def phase(self) -> str:
        return self.tapes[0].phase

    @phase.setter
    def phase(self, name: str) -> None:
        for tape in self.tapes:
            tape.phase = name

    def mark(self, tensor: torch.Tensor, role: Role) -> None:
        """Set the role of a tensor's storages: weight, gradient, cache."""
        for part in _parts(tensor):
            known = self._numbers.get(part.untyped_storage()._cdata)
            if known is not None:
                tape, number, _ = known
                tape.storages[number].role = role

    def role(self, tensor: torch.Tensor) -> Role | None:
        """Return the role of a tensor's storage; None if it is on no tape."""
        known = self._numbers.get(tensor.untyped_storage()._cdata)
        return None if known is None else known[0].storages[known[1]].role

    def number(self, tensor: torch.Tensor) -> int | None:
        """Return the number of a tensor's storage on its tape; None if it is on none."""
        known = self._numbers.get(tensor.untyped_storage()._cdata)
        return None if known is None else known[1]

    def used_on(self, tensor: torch.Tensor, stream: int) -> None:
        """Record that a stream uses a tensor, as torch.Tensor.record_stream does."""
        known = self._numbers.get(tensor.untyped_storage()._cdata)
        if known is not None:
            known[0].record_stream(known[1], stream)

    def resized(self, storage: torch.UntypedStorage) -> None:
        """Record a storage that UntypedStorage.resize_ empties or refills, as sharded modules
        do."""
        known = self._numbers.get(storage._cdata)
        if known is None:
            return
        tape, number, node = known
        role = tape.storages[number].role
        tape.free(number)
        if storage.nbytes():
            where = self.where(torch._C._current_autograd_node())
            number = tape.malloc(storage.nbytes(), op="resize_", module=where, role=role)
        self._numbers[storage._cdata] = tape, number, node

    def adopt(self, tensor: torch.Tensor, tape: Tape, number: int) -> None:
        """Record a tensor that no operation made here as storage `number` of the tape."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        self._numbers[address] = tape, number, None
        self._ends[address] = weakref.ref(storage, partial(self._gone, address))

    def forget(self, tensor: torch.Tensor) -> None:
        """Record a tensor's storage as released now, whenever its object ends."""
        address = tensor.untyped_storage()._cdata
        tape, number, _ = self._numbers.pop(address)
        del self._ends[address]
        tape.free(number)

    def refuse(self, error: OutOfMemoryError) -> NoReturn:
        """Raise torch's OutOfMemoryError in its words."""
        raise torch.OutOfMemoryError(f"{error} {ADVICE}") from None

    def stop(self) -> None:
        """Stop tracking storages that are still live: they end after the trace."""
        self._ends.clear()
        self._numbers.clear()
        self.where = _nowhere

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not self._plain.issuperset(types) and self._wrapped(types):
            return NotImplemented  # the subclass does it with the tensors inside, which come here
        if any(issubclass(t, Carrier) for t in types):
            with self._one, bare(args, kwargs):
                return self._done(func, args, kwargs or {})
        with self._one:
            return self._done(func, args, kwargs or {})

    def _done(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = self._kind(func)
        name, known, whole = kind
        if func in TOGETHER:
            on_one_device(args)
        self.entering()
        self._raise()
        replaced = self.replaced.get(func) or sparse.rule(func, args)
        if replaced is not None:
            with self:
                return replaced(*args, **kwargs)
        if whole:
            with self:
                return func.decompose(*args, **kwargs)
        try:
            device = _device(args) if known else None
            if device is not None:
                return self._with_hidden(name, func, args, kwargs, device)
            return self._run(func, args, kwargs)
        except OutOfMemoryError as error:
            self.refuse(error)

    def _wrapped(self, types: Any) -> bool:
        """Return whether one of the types only wraps inner tensors, as DTensor does."""
        if any(map(is_traceable_wrapper_subclass_type, types)):
            return True
        self._plain.update(types)
        return False

    def _kind(self, func: Any) -> tuple[str, bool, bool]:
        """Return (name, known, composite) of an operation: whether a rule for hidden memory covers
        it, and whether it is a composite. A composite one comes here undivided if autograd is off
        for good (inference mode), unless devices have their own kernels for it."""
        name = func.overloadpacket.__name__
        whole = func.namespace == "aten" and _has(func, COMPOSITE)
        whole = whole and not any(_has(func, key) for key in OWN)
        return name, self.hidden.knows(name), whole

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = self._faked(func, args, kwargs)
        if out is LOOKED:  # not within the handling of what torch said
            out = self.looks.answer(func, args, kwargs)
        for t in (out,) if isinstance(out, torch.Tensor) else tree_iter(out):
            if isinstance(t, torch.Tensor) and t.device.type == "cuda":
                for part in _parts(t):
                    self._seen(part, func, args)
        if self.compiled is not None:
            self._use(func, args, out)
        self.looks.follow(func, args, kwargs, out)
        return out

    def _use(self, func: Any, args: tuple[Any, ...], out: Any) -> None:
        """Record which storages an operation read, and which it returned."""
        device = _device(args)
        if device is None:
            return
        tape = self.tapes[device]
        reads, writes = (tuple(self._shown(tree, tape)) for tree in (args, out))
        if reads and writes:
            before = {part.number for part in reads}
            new = (part.number for part in writes if part.number not in before)
            event = min((tape.storages[n].born for n in new), default=len(tape.events))
            name, backward = func.overloadpacket.__name__, self.phase == "backward"
            tape.uses.append(OperationUse(event, name, backward, reads, writes))

    def _shown(self, tree: Any, tape: Tape) -> Iterator[StoragePart]:
        """Yield the parts of storages that the tensors of a nested value cover."""
        for tensor in tree_iter(tree):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda":
                for part in _parts(tensor):
                    known = self._numbers.get(part.untyped_storage()._cdata)
                    if known is not None and known[0] is tape:
                        offset = part.storage_offset() * part.itemsize
                        yield StoragePart(known[1], offset, part.numel() * part.itemsize)

    def _faked(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of torch's fake kernel; LOOKED if that depends on unknown values."""
        try:
            return func(*args, **kwargs)
        except EXCEPTIONS:
            return LOOKED
        except (NotImplementedError, RuntimeError) as error:
            if not is_raw(error):
                raise
            where = self.where(torch._C._current_autograd_node())
            raise refused(func, where) from None

    def _with_hidden(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], device: int
    ) -> Any:
        tape, hidden = self.tapes[device], self.hidden
        where = self.where(torch._C._current_autograd_node())
        op = hidden.op(args, kwargs)

        def take(what: str, sizes: list[int], into: list[int]) -> None:
            into.extend(tape.malloc(n, op=what, module=where, role="workspace") for n in sizes)

        def together(groups: Iterator[tuple[str, list[int]]]) -> None:
            for what, sizes in groups:
                with _released(tape) as numbers:
                    take(what, sizes, numbers)

        together(hidden.allocations(name, op, "first"))
        with _released(tape) as beside:
            for what, sizes in hidden.allocations(name, op, "before"):
                take(what, sizes, beside)
            out = self._run(func, args, kwargs)
            backward = self.phase == "backward"
            for what, nbytes in hidden.workspaces(name, op, device, engine=backward):
                take(what, [nbytes], [])
            together(hidden.allocations(name, op._replace(out=out), "after"))
        return out

    def _seen(self, tensor: torch.Tensor, func: Any, args: tuple[Any, ...]) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._numbers:
            return
        nbytes = storage.nbytes()
        if not nbytes:
            return
        self._leave()
        tape = self._tape(tensor.device.index or 0)
        node = torch._C._current_autograd_node()
        old = self._fan_in(func, args, node)
        name, module = str(func), self.where(node)
        if old is None:
            within = module or node or self.phase == "backward" or _device(args) is not None
            role: Role = "temporary" if within else "input"
            if func in COPIES and not module and node is None and self.role(args[0]) == "weight":
                role = "weight"  # an average, or the best so far
            number = tape.malloc(nbytes, op=name, module=module, role=role)
        else:
            number = tape.grow(old, nbytes, op=name, module=module)
        made_by = None if node is None else node._sequence_nr()
        self._numbers[address] = tape, number, made_by
        self._ends[address] = weakref.ref(storage, partial(self._gone, address))

    def _tape(self, index: int) -> Tape:
        if index >= len(self.tapes):
            raise RuntimeError(f"CUDA error: invalid device ordinal (cuda:{index})")
        return self.tapes[index]

    def _fan_in(self, func: Any, args: tuple[Any, ...], node: Any) -> int | None:
        """Return the storage that a sum of gradients would be added into; None if it is no such
        sum. After a node, the engine adds what it returned to what others did, if that is dense
        (input_buffer.cpp: accumulate, can_accumulate_inplace). Whether it is held elsewhere, the
        tape will see. A layer that is recomputed there has sums of its own, with gradients on.

        A function written in Python adds by itself, to what is its own. A view holds its base.
        Gradients that go into zeros by index are written in place, too, except that torch makes a
        copy if a subclass of tensors is involved (FunctionsManual.cpp: areAnyTensorSubclassLike),
        as fake tensors are.
        """
        if node is None or func not in SUMS or torch.is_grad_enabled():
            return None
        old = args[0]
        known = self._numbers.get(old.untyped_storage()._cdata)
        if known is None or old._is_view():
            return None
        if not torch.ops.aten.is_non_overlapping_and_dense.default(old):
            return None
        function = known[2] == node._sequence_nr() and isinstance(node, BackwardCFunction)
        return None if function else known[1]

    def _gone(self, address: int, _: Any) -> None:
        with self._one:
            del self._ends[address]
            tape, number, _ = self._numbers.pop(address)
            try:
                tape.free(number)
            except OutOfMemoryError as error:  # the end of an object may not raise
                self._refused = error

    def _raise(self) -> None:
        """Raise the out-of-memory error that a finalizer could not raise."""
        if self._refused is not None:
            error, self._refused = self._refused, None
            raise torch.OutOfMemoryError(f"{error} {ADVICE}")

    def _leave(self) -> None:
        """Raise a pending signal when memory is requested, where torch may raise. From a view it
        would come out of C++ that may not throw."""
        if self.leaves is not None:
            signal, self.leaves = self.leaves, None
            raise signal


@contextmanager
def _released(tape: Tape) -> Iterator[list[int]]:
    """Yield a list; storages whose numbers are added to it are freed on exit, the last first, even
    if a request is refused."""
    numbers: list[int] = []
    try:
        yield numbers
    finally:
        for number in reversed(numbers):
            tape.free(number)


def _parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the plain tensors, inside wrappers, that hold a tensor's storages."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # within vmap and grad
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if is_traceable_wrapper_subclass(tensor):
        inside = (getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
        return tuple(p for i in inside if isinstance(i, torch.Tensor) for p in _parts(i))
    return (tensor,) if tensor.layout is torch.strided else (tensor._indices(), tensor._values())


def _has(func: Any, key: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key))


def _nothing() -> None:
    """Do nothing, as there is only one stream."""


def _nowhere(_: Any) -> str:
    return ""


def _device(args: tuple[Any, ...]) -> int | None:
    """Return the CUDA device index that an operation works on; None without one."""
    for arg in args:
        first = arg[0] if isinstance(arg, list | tuple) and arg else arg
        if isinstance(first, torch.Tensor) and first.device.type == "cuda":
            return first.device.index or 0
    return None

"""Tensors of a PyTorch checkpoint, from its pickle, which is never run.

A tensor is a view: torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...), and its
storage a persistent id ("storage", torch.FloatStorage, key, location, elements). Tied weights and
slices share storages; so the bytes of a checkpoint are those of its storages, each once.

Source: torch/_utils.py (_rebuild_*), torch/serialization.py (persistent_id), torch/storage.py
(_dtype_to_storage_type_map), torch 2.13.
"""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

from weighbridge.base.dtypes import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    TORCH,
    UINT8,
    DType,
)
from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models.formats.strict_json import collector_paused, short
from weighbridge.models.formats.unpickle import Global, Map, PickledCall, Sequence
from weighbridge.models.tensors import CheckpointTensor

MAX_TENSORS = 1 << 16
MAX_RANK = 64
MAX_COUNT = 1 << 63
MAX_DEPTH = 100
MAX_NAME = 1 << 12
MAX_NAMES = 1 << 24  # characters of all names: a key that is recalled costs the file nothing
MAX_UNCALLED = 100

STORAGES: dict[str, DType] = {
    "DoubleStorage": FLOAT64,
    "FloatStorage": FLOAT32,
    "HalfStorage": FLOAT16,
    "BFloat16Storage": BFLOAT16,
    "LongStorage": INT64,
    "IntStorage": INT32,
    "ShortStorage": INT16,
    "CharStorage": INT8,
    "ByteStorage": UINT8,
    "BoolStorage": BOOL,
    "ComplexDoubleStorage": TORCH["complex128"],
    "ComplexFloatStorage": TORCH["complex64"],
    "QInt8Storage": INT8,
    "QUInt8Storage": UINT8,
    "QInt32Storage": INT32,
    "UntypedStorage": UINT8,
    "_UntypedStorage": UINT8,  # before torch 1.13
}
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")


class FileStorage(NamedTuple):
    key: str
    dtype: DType
    nbytes: int


class StoredView(NamedTuple):
    """A tensor that has no name yet; `begin` is its first byte in its storage."""

    storage: FileStorage
    dtype: DType
    shape: tuple[int, ...]
    begin: int
    parts: Any = None  # scales and zero points of a quantized tensor


class Storages:
    """The storages of a pickle, with their bytes."""

    def __init__(self) -> None:
        self.nbytes: dict[str, int] = {}

    def persistent(self, identity: Any) -> Any:
        """Return the storage or the module that a persistent id describes: ("storage", type, key,
        location, elements[, view]) or ("module", class, ...)."""
        if type(identity) is tuple and len(identity) >= 5 and identity[0] == "storage":
            return self._storage(identity[1], identity[2], identity[4])
        if type(identity) is tuple and len(identity) >= 2 and identity[0] == "module":
            return identity[1]
        raise BadFileError(sentence("torch.foreign_id"))

    def _storage(self, kind: Any, key: Any, count: Any) -> FileStorage:
        dtype = _storage_dtype(kind)
        if not isinstance(key, str | int) or type(count) is not int or not 0 <= count < MAX_COUNT:
            raise BadFileError(sentence("torch.no_key", key=short(key), count=short(count)))
        storage = FileStorage(str(key), dtype, dtype.size(count))
        if self.nbytes.setdefault(storage.key, storage.nbytes) != storage.nbytes:
            raise BadFileError(sentence("torch.two_sizes", key=short(storage.key)))
        return storage

    def size_of(self, key: str) -> int:
        if key not in self.nbytes:
            raise BadFileError(sentence("torch.unreferred", key=short(key)))
        return self.nbytes[key]


class Stored(NamedTuple):
    tensor: CheckpointTensor
    storage: str
    begin: int


@frozen_record
class Checkpoint:
    """All tensors of a file. `storages`: bytes by key; `uncalled`: unknown functions that the
    pickle would have called."""

    tensors: tuple[Stored, ...]
    storages: Mapping[str, int]
    uncalled: tuple[str, ...]
    file_bytes: int

    def ties(self) -> dict[str, str]:
        """Return a mapping from each further name of a tensor's memory to its first name."""
        owners: dict[tuple[str, int, int], str] = {}
        second_names = {}
        for tensor, storage, begin in self.tensors:
            owner = owners.setdefault((storage, begin, tensor.nbytes), tensor.name)
            if owner != tensor.name and tensor.nbytes:
                second_names[tensor.name] = owner
        return second_names


def checkpoint(value: Any, storages: Storages, *, file_bytes: int, file: str = "") -> Checkpoint:
    """Return the tensors in an unpickled value, under dotted names, in the pickle's order."""
    stored: dict[str, Stored] = {}
    uncalled: dict[str, None] = {}
    name_characters = 0
    with collector_paused():
        for keys, leaf in _walk(value):
            if isinstance(leaf, StoredView):
                name = _name(keys)
                name_characters += len(name)
                _add(stored, name, leaf, file, name_characters)
            elif len(uncalled) < MAX_UNCALLED and (
                isinstance(leaf.function, Global) and str(leaf.function) not in HARMLESS
            ):
                uncalled.setdefault(str(leaf.function)[:200])
    if uncalled and not stored:
        calls = ", ".join(list(uncalled)[:3])
        raise BadFileError(sentence("torch.runs_code", calls=calls))
    return Checkpoint(
        tensors=tuple(stored.values()),
        storages=storages.nbytes,
        uncalled=tuple(uncalled),
        file_bytes=file_bytes,
    )


def _add(
    stored: dict[str, Stored], name: str, view: StoredView, file: str, name_characters: int
) -> None:
    if name in stored:
        raise BadFileError(sentence("two_tensors", name=short(name)))
    if name_characters > MAX_NAMES:
        raise BadFileError(sentence("torch.long_names", most=MAX_NAMES))
    if len(stored) >= MAX_TENSORS:
        raise BadFileError(sentence("torch.many_tensors", most=MAX_TENSORS))
    nbytes = view.dtype.size(prod(view.shape))
    tensor = CheckpointTensor(name, view.dtype, view.shape, nbytes, file)
    stored[name] = Stored(tensor, view.storage.key, view.begin)


def _walk(value: Any) -> Iterator[tuple[list[Any], StoredView | PickledCall]]:
    """Yield every tensor and unknown call inside `value`, with the keys that lead to it. Each
    container is visited once, cycles or not."""
    seen: set[int] = set()
    keys: list[Any] = []
    levels: list[Iterator[tuple[Any, Any]]] = [iter([(None, value)])]
    while levels:
        step = next(levels[-1], None)
        if step is None:
            levels.pop()
            keys[-1:] = []
            continue
        key, node = step
        if isinstance(node, StoredView | PickledCall):
            yield [*keys, key], node
        if not _is_container(node) or id(node) in seen:
            continue
        seen.add(id(node))
        keys.append(key)
        levels.append(_children(node))
        if len(levels) > MAX_DEPTH:
            raise BadFileError(sentence("nested", most=MAX_DEPTH))


def _is_container(node: Any) -> bool:
    if isinstance(node, StoredView):
        return node.parts is not None
    return isinstance(node, PickledCall) or (type(node) in (Map, Sequence, tuple) and len(node) > 0)


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, StoredView):  # a tuple as well, so first
        yield None, node.parts
    elif isinstance(node, PickledCall):
        yield None, node.function  # which may be the result of a call itself
        yield None, node.arguments
        yield from node.contents
    else:
        yield from node if isinstance(node, Map) else enumerate(node)


# What torch.nn.Module keeps its tensors in: no part of the names of state_dict().
MODULE_PARTS = ("_parameters", "_buffers", "_modules")


def _name(keys: list[Any]) -> str:
    words = [_word(key) for key in keys if key is not None and key not in MODULE_PARTS]
    name = ".".join(words)
    if len(name) > MAX_NAME:
        raise BadFileError(sentence("torch.long_name", count=len(name)))
    return name


def _word(key: Any) -> str:
    return key if isinstance(key, str) else str(key) if isinstance(key, int | float) else "?"


# torch's side of the pickle: the types of storages, and the calls whose result we know.


def _storage_dtype(kind: Any) -> DType:
    if isinstance(kind, Global) and kind.module in STORAGE_MODULES and kind.name in STORAGES:
        return STORAGES[kind.name]
    what = str(kind) if isinstance(kind, Global) else short(kind)
    raise BadFileError(
        sentence("torch.unknown_storage", what=what[:100], known=", ".join(STORAGES))
    )


def known(function: Global, arguments: Any) -> Any:
    """Return the result of a known call of torch or of a container class; for other functions a
    record of the call."""
    rebuild = REBUILD.get((function.module, function.name))
    if rebuild is None or type(arguments) is not tuple:
        return PickledCall(function, arguments)
    return rebuild(function, arguments)


def _tensor(function: Global, arguments: tuple[Any, ...]) -> Any:
    return _view(arguments, arguments[0].dtype if _has_storage(arguments) else UINT8)


def _tensor_of_dtype(function: Global, arguments: tuple[Any, ...]) -> Any:
    dtype = arguments[6] if len(arguments) > 6 else None
    if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in TORCH:
        what = str(dtype) if isinstance(dtype, Global) else short(dtype)
        raise BadFileError(
            sentence("torch.unknown_dtype", what=what[:100], known=", ".join(sorted(TORCH)))
        )
    return _view(arguments, TORCH[dtype.name])


def _quantized(function: Global, arguments: tuple[Any, ...]) -> Any:
    view: StoredView = _tensor(function, arguments)
    return view._replace(parts=arguments[4]) if len(arguments) > 4 else view


def _has_storage(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments) and isinstance(arguments[0], FileStorage)


def _view(arguments: tuple[Any, ...], dtype: DType) -> StoredView:
    if not _has_storage(arguments) or len(arguments) < 4:
        raise BadFileError(sentence("torch.no_storage"))
    storage, offset, shape, stride = arguments[:4]
    numbers = (offset, *shape, *stride) if type(shape) is type(stride) is tuple else (None,)
    if not all(type(n) is int and 0 <= n < MAX_COUNT for n in numbers):
        raise BadFileError(sentence("torch.no_sizes"))
    if len(shape) != len(stride) or len(shape) > MAX_RANK:
        raise BadFileError(sentence("torch.uneven_sizes", sizes=len(shape), strides=len(stride)))
    if prod(shape) >= MAX_COUNT:
        raise BadFileError(sentence("torch.huge"))
    reach = sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    last = dtype.size(offset + 1 + reach) if prod(shape) else 0
    if last > storage.nbytes:
        raise BadFileError(
            sentence("torch.beyond_storage", last=last, key=short(storage.key), size=storage.nbytes)
        )
    return StoredView(storage, dtype, shape, dtype.size(offset))


def _first_argument(function: Global, arguments: tuple[Any, ...]) -> Any:
    """Return the first argument, which stands for torch.nn.Parameter (its tensor) and torch.Size
    (its tuple)."""
    return arguments[0] if arguments else PickledCall(function, arguments)


def _from_type(function: Global, arguments: tuple[Any, ...]) -> Any:
    """Return the result of torch._tensor._rebuild_from_type_v2(rebuild, type, arguments, state)."""
    if len(arguments) < 4 or not isinstance(arguments[0], Global):
        return PickledCall(function, arguments)
    result = known(arguments[0], arguments[2])
    if isinstance(result, PickledCall):  # a wrapper, whose tensors are in its state
        result.contents.append((None, arguments[3]))
    return result


def _dict(function: Global, arguments: tuple[Any, ...]) -> Any:
    """Return the pairs of an OrderedDict() call, or as Python 2 writes it, OrderedDict([[key,
    value], ...])."""
    pairs = Map()
    source = arguments[-1] if arguments else None
    if isinstance(source, Map):
        pairs.extend(source)
    elif isinstance(source, Sequence):
        pairs.extend(
            (pair[0], pair[1])
            for pair in source
            if isinstance(pair, list | tuple) and len(pair) == 2
        )
    return pairs


REBUILD: dict[tuple[str, str], Callable[[Global, tuple[Any, ...]], Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_dtype,
    ("torch._utils", "_rebuild_qtensor"): _quantized,
    ("torch._utils", "_rebuild_parameter"): _first_argument,
    ("torch._utils", "_rebuild_parameter_with_state"): _first_argument,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch", "Size"): _first_argument,
    ("collections", "OrderedDict"): _dict,
    ("collections", "defaultdict"): _dict,
    ("builtins", "dict"): _dict,
    ("__builtin__", "dict"): _dict,
}

# Calls that hide no tensor from us: what they would make is in their arguments or their state.
HARMLESS = frozenset(
    {
        "torch._utils._rebuild_wrapper_subclass",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_nested_tensor",
        "torch._utils._rebuild_meta_tensor_no_storage",
        "torch.serialization._get_layout",
        "torch.device",
        "_codecs.encode",
        *(
            f"{module}.{name}"
            for module in ("builtins", "__builtin__")
            for name in ("set", "frozenset", "list", "tuple", "bytearray", "complex", "slice")
        ),
    }
)

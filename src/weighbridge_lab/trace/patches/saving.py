"""torch.save and torch.load: a fake tensor has no values, so nothing is written over real files.

What is saved is kept in this process, as a pickle of what tensors look like; loading gives that
back. Of a real file it gives tensors of the right shapes. Their data is read where a program may
look at it: integers and truth values, such as the edges of a graph or the slices of a data set,
and few numbers; not weights.

Programs ask whether a file is there, list folders, and rename them: so a mark stands in the place
of a file, but of a real one, until the end (keeping/marks.py). What is saved into a buffer is one
as well, with the content in it: a program may write that wherever it likes.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from weighbridge_lab.trace.keeping.marks import archive, content, gone, marked, noted
from weighbridge_lab.trace.patches import Notes, Patch
from weighbridge_lab.trace.shadows import FEW, WHOLE, cast, extent, lost

WROTE_NOTHING = "tensors are not written to files: they have no values here"
NO_CHECKPOINT = "{} is not here: it loads as nothing"
READ = 1 << 24  # elements of a tensor of integers that are read from a file
Place = Callable[[torch.device], torch.device]  # where a stored tensor goes

POINTER = torch.UntypedStorage.data_ptr
REBUILD = torch._utils._rebuild_tensor
SAVE, LOAD = torch.save, torch.load

_place: ContextVar[Place] = ContextVar("place", default=lambda device: device)
_file: ContextVar[Any] = ContextVar("file", default=None)  # that is read: a path or a stream


class Marks:
    """Contents saved under a file's name, or under the name that it got later."""

    running: ClassVar["Marks"]  # of this fake GPU: libraries keep functions of an earlier one

    def __init__(self) -> None:
        self.contents: list[Any] = []
        self.paths: dict[str, int] = {}
        self.marks: set[str] = set()  # files that are marks, and not real

    def put(self, path: Any, content: Any) -> None:
        where = os.path.abspath(path)
        self.paths[where] = len(self.contents)
        self.contents.append(content)
        if where in self.marks or not os.path.exists(where):
            noted({*self.marks, where})
            with open(where, "wb") as file:
                file.write(archive(str(self.paths[where]).encode()))
            self.marks.add(where)

    def get(self, path: Any) -> Any:
        """Return what this run saved at a path; None if nothing."""
        where = os.path.abspath(path)
        if where in self.paths and where not in self.marks:
            return self.contents[self.paths[where]]
        number = marked(where)
        return None if number is None else self.contents[number]

    def close(self) -> None:
        gone(self.marks)
        self.marks.clear()


class UnreadCheckpoint(dict[Any, Any]):
    """A checkpoint that was not read: every key that a program looks up is there, and empty."""

    def __missing__(self, _: Any) -> "UnreadCheckpoint":
        return UnreadCheckpoint()

    def state_dict(self) -> "UnreadCheckpoint":
        return UnreadCheckpoint()

    def __index__(self) -> int:
        return 0

    def __float__(self) -> float:
        return 0.0

    def __add__(self, other: Any) -> Any:
        return other

    def __lt__(self, other: Any) -> bool:
        return bool(other > 0)

    def __gt__(self, other: Any) -> bool:
        return bool(other < 0)

    def __format__(self, spec: str) -> str:
        return format(0, spec)


class Saved:
    """torch.save and torch.load of this run. A program that imported these functions by name may
    keep them after the trace, when they act as torch's own."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.saving = False  # a real tensor in a pickle saves its storage by torch.save

    def patches(self) -> Iterator[Patch]:
        for owner in (torch, torch.serialization):
            yield Patch(owner, "save", self._save)
            yield Patch(owner, "load", self._load)
        yield Patch(torch._utils, "_rebuild_tensor", _rebuild)
        yield Patch(FakeTensor, "__reduce_ex__", _reduce)
        yield Patch(torch.UntypedStorage, "data_ptr", _pointer)

    def _save(self, obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if detect_fake_mode() is None or self.saving:
            SAVE(obj, f, *args, **kwargs)
            return
        self.saving = True
        try:
            data = pickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL)
        finally:
            self.saving = False
        if isinstance(f, str | os.PathLike):
            self.notes(WROTE_NOTHING)
            Marks.running.put(f, data)
        else:
            f.write(archive(data))

    def _load(self, f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        if detect_fake_mode() is None:
            return LOAD(f, map_location, *args, **kwargs)
        place, file = _place.set(_placed(map_location)), _file.set(f)
        try:
            data = self._saved_bytes(f)
            if data is not None:
                return pickle.loads(data)
            return LOAD(f, map_location, *args, **kwargs)
        except FileNotFoundError:
            self.notes(NO_CHECKPOINT.format(os.path.basename(os.fspath(f))))
            return UnreadCheckpoint()
        finally:
            _place.reset(place)
            _file.reset(file)

    def _saved_bytes(self, f: Any) -> bytes | None:
        """Return what this run saved in a file; None for a real file."""
        if isinstance(f, str | os.PathLike):
            data: bytes | None = Marks.running.get(f)
            return content(f) if data is None else data
        start = f.tell()
        data = content(f)
        f.seek(start)
        return data


def _placed(location: Any) -> Place:
    """Return torch.load's map_location as a function of devices. One that is a function already is
    assumed to move storages to the CPU."""
    if location is None:
        return lambda device: device
    if isinstance(location, Mapping):
        moved = {torch.device(a): torch.device(b) for a, b in location.items()}
        return lambda device: moved.get(device, device)
    if callable(location):
        return lambda _: torch.device("cpu")
    return lambda _: torch.device(location)


def _rebuild(storage: Any, offset: int, size: Any, stride: Any) -> torch.Tensor:
    """Return a tensor of a real file. torch sets a fake tensor's device afterwards; made there by
    an operation, it is recorded."""
    untyped = storage._untyped_storage
    fake_device = untyped._fake_device
    if fake_device is None and untyped.device.type != "meta":
        real: torch.Tensor = REBUILD(storage, offset, size, stride)
        return real
    device = torch.device("cpu" if fake_device is None else fake_device)
    tensor = _empty(size, stride, storage.dtype, _place.get()(device))
    start = getattr(untyped, "_checkpoint_offset", None)
    if start is not None and _worth(tensor):
        known = _read(tensor, start + offset * tensor.element_size())
        if known is not None:
            cast(tensor, known)
    return tensor


def _worth(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is small enough that programs may look at its values."""
    return bool(tensor.numel() <= (READ if tensor.dtype in WHOLE else FEW))


def _read(like: torch.Tensor, offset: int) -> torch.Tensor | None:
    """Return a tensor's values from the loaded file, from byte `offset` on; None if they are not
    read."""
    file = _file.get()
    count = extent(like)
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as opened:
            opened.seek(offset)
            data = opened.read(count * like.element_size())
    else:
        before = file.tell()
        file.seek(offset)
        data = file.read(count * like.element_size())
        file.seek(before)
    if len(data) < count * like.element_size():
        return None
    with unset_fake_temporarily():
        if not count:
            return torch.empty(tuple(like.shape), dtype=like.dtype)
        flat = torch.frombuffer(bytearray(data), dtype=like.dtype)
        return flat.as_strided(tuple(like.shape), like.stride())


def _reduce(self: FakeTensor, _: int) -> tuple[Any, ...]:
    looks = tuple(self.shape), self.stride(), self.dtype, str(self.device)
    return _made, (looks, self.requires_grad, isinstance(self, torch.nn.Parameter))


def _made(looks: Any, needs_gradient: bool, parameter: bool) -> torch.Tensor:
    shape, stride, dtype, device = looks
    tensor = _empty(shape, stride, dtype, _place.get()(torch.device(device)))
    if parameter:
        return torch.nn.Parameter(tensor, needs_gradient)
    return tensor.requires_grad_(needs_gradient)


def _empty(shape: Any, stride: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a tensor of a file. It has values there, so those that are not read are unknown."""
    empty = torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype, device=device)
    lost(empty)
    return empty


def _pointer(self: torch.UntypedStorage) -> int:
    """Return an address by which libraries recognize shared tensors; without data all would be
    0."""
    address: int = self._cdata if self.device.type == "meta" else POINTER(self)
    return address

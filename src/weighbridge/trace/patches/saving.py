"""torch.save and torch.load: a fake tensor has no values, so nothing is written over real files.

What is saved is kept in this process, under the file's name, as a pickle of what tensors look
like; loading gives that back. Of a real file it gives tensors of the right shapes, and reads none
of their data.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor

from weighbridge.trace.notes import Notes
from weighbridge.trace.patches import Patch

MAGIC = b"weighbridge: tensors without values\n"
WROTE_NOTHING = "tensors are not written to files: they have no values here"
Place = Callable[[torch.device], torch.device]  # where a stored tensor goes

POINTER = torch.UntypedStorage.data_ptr
REBUILD = torch._utils._rebuild_tensor
SAVE, LOAD = torch.save, torch.load

_place: ContextVar[Place] = ContextVar("place", default=lambda device: device)


class Saved:
    """What this run has saved, by absolute path. A program may keep these functions after the
    end, where it has imported them by name: then they are torch's own."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.objects: dict[str, bytes] = {}
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
            content = pickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL)
        finally:
            self.saving = False
        if isinstance(f, str | os.PathLike):
            self.notes(WROTE_NOTHING)
            self.objects[os.path.abspath(f)] = content
        else:
            f.write(MAGIC + content)

    def _load(self, f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        if detect_fake_mode() is None:
            return LOAD(f, map_location, *args, **kwargs)
        token = _place.set(_placed(map_location))
        try:
            own = self._own(f)
            if own is not None:
                return pickle.loads(own)
            return LOAD(f, map_location, *args, **kwargs)
        finally:
            _place.reset(token)

    def _own(self, f: Any) -> bytes | None:
        """What this run has put there."""
        if isinstance(f, str | os.PathLike):
            return self.objects.get(os.path.abspath(f))
        start = f.tell()
        if f.read(len(MAGIC)) == MAGIC:
            content: bytes = f.read()
            return content
        f.seek(start)
        return None


def _placed(location: Any) -> Place:
    """torch.load's map_location; of a function only that it moves storages, which is to the CPU."""
    if location is None:
        return lambda device: device
    if isinstance(location, Mapping):
        moved = {torch.device(a): torch.device(b) for a, b in location.items()}
        return lambda device: moved.get(device, device)
    if callable(location):
        return lambda _: torch.device("cpu")
    return lambda _: torch.device(location)


def _rebuild(storage: Any, offset: int, size: Any, stride: Any) -> torch.Tensor:
    """A tensor of a real file. torch says afterwards where a fake one is; made there by an
    operation, it is recorded."""
    untyped = storage._untyped_storage
    said = untyped._fake_device
    if said is None and untyped.device.type != "meta":
        real: torch.Tensor = REBUILD(storage, offset, size, stride)
        return real
    device = torch.device("cpu" if said is None else said)
    return _empty(size, stride, storage.dtype, _place.get()(device))


def _reduce(self: FakeTensor, _: int) -> tuple[Any, ...]:
    looks = tuple(self.shape), self.stride(), self.dtype, str(self.device)
    return _made, (looks, self.requires_grad, isinstance(self, torch.nn.Parameter))


def _made(looks: Any, needs_gradient: bool, parameter: bool) -> torch.Tensor:
    shape, stride, dtype, device = looks
    made = _empty(shape, stride, dtype, _place.get()(torch.device(device)))
    if parameter:
        return torch.nn.Parameter(made, needs_gradient)
    return made.requires_grad_(needs_gradient)


def _empty(shape: Any, stride: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype, device=device)


def _pointer(self: torch.UntypedStorage) -> int:
    """Libraries find shared tensors by it; without data all would be at 0."""
    address: int = self._cdata if self.device.type == "meta" else POINTER(self)
    return address

"""Everything that reads or writes tensors in files, torch's own and the libraries'.

Files of safetensors give tensors of the shapes in their headers, and none is written: what is saved
is kept in this process, with a mark in its place (saving.py).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch._guards import detect_fake_mode

from weighbridge.models.formats.safetensors import header
from weighbridge.models.sources.base import read_plan
from weighbridge.models.sources.local import LocalSource
from weighbridge_lab.trace.keeping import keeper, marks
from weighbridge_lab.trace.patches import Notes, Patch, Patches
from weighbridge_lab.trace.patches.pretrained import Pretrained
from weighbridge_lab.trace.patches.saving import WROTE_NOTHING, Marks, Saved

# safetensors

Look = tuple[tuple[int, ...], torch.dtype]

# These import the functions by name, perhaps before there was a fake GPU
USERS = (
    "transformers.modeling_utils",
    "accelerate.utils.modeling",
    "accelerate.utils.other",
    "peft.peft_model",
    "peft.utils.loftq_utils",
    "peft.utils.save_and_load",
)


# torch's dtypes as headers spell them (safetensors/src/tensor.rs, enum Dtype)
NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0",
}


class FilePatches:
    """All patches of files: `patches` of torch, and `table` of libraries by module name, for when
    they are imported."""

    def __init__(self, notes: Notes) -> None:
        self._marks = Marks()
        self._saved = Saved(notes)
        self._headers = SafetensorsPatches(notes)
        self._pretrained = Pretrained(notes)

    def close(self) -> None:
        self._pretrained.close()
        self._marks.close()

    def patches(self) -> Iterator[Patch]:
        marks.swept()
        keeper.swept()
        Marks.running = self._marks
        yield from self._saved.patches()
        yield from self._pretrained.patches()

    def table(self) -> dict[str, Patches]:
        headers = self._headers
        table: dict[str, Patches] = {
            "safetensors": headers.package,
            "safetensors.torch": headers.functions,
        }
        table |= dict.fromkeys(USERS, headers.user)
        for name, patches in self._pretrained.table().items():
            table[name] = both(table[name], patches) if name in table else patches
        return table


def both(first: Patches, second: Patches) -> Patches:
    return lambda module: [*first(module), *second(module)]


class SafetensorsPatches:
    """The patches of safetensors. After the trace, functions that a program imported by name act as
    the library's own."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.original: dict[str, Any] = {}

    def package(self, module: ModuleType) -> Iterator[Patch]:
        """Yield the patches of `safetensors`."""
        self.original["safe_open"] = module.safe_open
        yield Patch(module, "safe_open", self._open)

    def functions(self, module: ModuleType) -> Iterator[Patch]:
        """Yield the patches of `safetensors.torch`."""
        for name, value in (("save_file", self._save_file), ("load_file", self._load_file)):
            self.original[name] = vars(module)[name]
            yield Patch(module, name, value)
        yield Patch(module, "safe_open", self._open)
        yield Patch(module, "_is_complete", _is_complete)

    def user(self, module: ModuleType) -> Iterator[Patch]:
        ours = {"safe_open": self._open, "save_file": self._save_file, "load_file": self._load_file}
        for name, value in tuple(vars(module).items()):
            for function, original in self.original.items():
                if value is original:
                    yield Patch(module, name, ours[function])

    def _save_file(
        self, tensors: dict[str, torch.Tensor], filename: Any, metadata: Any = None
    ) -> None:
        if detect_fake_mode() is None:
            self.original["save_file"](tensors, filename, metadata)
            return
        self.notes(WROTE_NOTHING)
        looks = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
        Marks.running.put(filename, (looks, dict(metadata or {})))

    def _load_file(self, filename: Any, device: Any = "cpu", **known: Any) -> dict[str, Any]:
        if detect_fake_mode() is None:
            read: dict[str, Any] = self.original["load_file"](filename, device, **known)
            return read
        loaded: dict[str, Any] = self._open(filename, "pt", device).get_tensors()
        return loaded

    def _open(self, filename: Any, framework: str = "pt", device: Any = "cpu", **known: Any) -> Any:
        if detect_fake_mode() is None:
            return self.original["safe_open"](filename, framework, device, **known)
        where = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        looks, metadata = Marks.running.get(filename) or _header(filename)
        return Opened(looks, metadata, where)


def _is_complete(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is its whole storage; the library compares addresses."""
    return bool(tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size())


def _header(filename: Any) -> tuple[dict[str, Look], dict[str, str]]:
    folder, name = os.path.split(os.path.abspath(filename))
    if not os.path.exists(filename):
        raise FileNotFoundError(f"No such file or directory: {os.fspath(filename)}")
    plan = header(os.path.getsize(filename), file=name)
    parsed = read_plan(plan, LocalSource(folder), name)
    looks = {t.name: (tuple(t.shape), getattr(torch, t.dtype.name)) for t in parsed.tensors}
    return looks, dict(parsed.metadata)


class Opened:
    """A safetensors file without its data, with the methods of `safe_open`."""

    def __init__(
        self, looks: Mapping[str, Look], metadata: dict[str, str], device: torch.device
    ) -> None:
        self.looks = looks
        self._metadata = metadata
        self._device = device

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def keys(self) -> list[str]:
        return list(self.looks)

    def offset_keys(self) -> list[str]:
        return list(self.looks)

    def metadata(self) -> dict[str, str]:
        return self._metadata

    def get_tensor(self, name: str) -> torch.Tensor:
        shape, dtype = self.looks[name]
        return torch.empty(shape, dtype=dtype, device=self._device)

    def get_tensors(self, names: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        return {
            name: self.get_tensor(name) for name in self.looks if names is None or name in names
        }

    def get_slice(self, name: str) -> "Slice":
        return Slice(self, name)


class Slice:
    """A tensor of a file that is read in parts."""

    def __init__(self, opened: Opened, name: str) -> None:
        self._opened, self._name = opened, name

    def get_shape(self) -> Sequence[int]:
        return list(self._opened.looks[self._name][0])

    def get_dtype(self) -> str:
        return NAMES[self._opened.looks[self._name][1]]

    def __getitem__(self, index: Any) -> torch.Tensor:
        shape, dtype = self._opened.looks[self._name]
        part = torch.empty(shape, dtype=dtype, device="meta")[index]
        return torch.empty(part.shape, dtype=dtype, device=self._opened._device)

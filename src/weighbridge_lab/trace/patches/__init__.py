"""Patches of torch while a fake GPU stands in, as a table of (owner, name, value).

    runtime.py     torch.cuda and torch.accelerator below Python: devices, memory
    streams.py     streams, events, generators, CUDA graphs and pools
    tensors.py     values and copies of tensors; moving modules, loaders
    compilers.py   torch.compile
    files.py       safetensors; saving.py torch.save and torch.load, pretrained.py from_pretrained
    driver.py      NVML and nvidia-smi, torch.profiler
    libraries.py   what transformers and torchvision ask of values
    repeats.py     layers that repeat another are not run

Everything is put back in reverse order, also after an exception.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from weighbridge.base.records import NamedTuple

ABSENT: Any = object()


class Patch(NamedTuple):
    owner: Any  # a module or a class
    name: str
    value: Any  # ABSENT removes the name


def put(patch: Patch) -> Patch:
    """Apply a patch, and return the patch that undoes it."""
    owner, name, value = patch
    before = vars(owner).get(name, ABSENT)
    if value is ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
    return Patch(owner, name, before)


@contextmanager
def patched(patches: Iterable[Patch]) -> Iterator[list[Patch]]:
    """Apply patches inside. Patches appended to the list are undone as well."""
    undo: list[Patch] = []
    try:
        undo.extend(put(patch) for patch in patches)
        yield undo
    finally:
        for patch in reversed(undo):
            put(patch)


class Notes:
    """Notes for the user on a run: each line once, as a warning and in the report."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)
            warnings.warn(line, stacklevel=3)

    def each(self, lines: Iterable[str]) -> None:
        for line in lines:
            self(line)


@contextmanager
def each_once(notes: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Show each warning of a line once. Python forgets which it has shown whenever a library
    changes its filters, which fake tensors do at many operations. Notes on the run are shown
    without our line."""
    shown: set[tuple[str, str, int]] = set()
    before = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, *where: Any) -> None:
        if (str(message), filename, lineno) in shown:
            return
        shown.add((str(message), filename, lineno))
        if str(message) in notes():
            sys.stderr.write(f"warning: {message}\n")
        else:
            before(message, category, filename, lineno, *where)

    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before


# Modules that a program imports during a trace, patched as soon as they are there
Patches = Callable[[Any], Iterable[Patch]]  # of a module


UNKNOWN = "this version of {} has {} nowhere: what we replace there is left as it is"


@contextmanager
def arriving(table: Mapping[str, Patches], undo: list[Patch], notes: Notes) -> Iterator[None]:
    """Patch modules when they are imported, inside the block. `table`: patches by module name;
    `undo` collects the patches that restore them."""
    finder = _Finder(table, undo, notes)
    for name in table:
        if name in sys.modules:
            finder.arrived(sys.modules[name])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """An import hook that finds no module itself but wraps the next finder's result."""

    def __init__(self, table: Mapping[str, Patches], undo: list[Patch], notes: Notes) -> None:
        self.table = table
        self.undo = undo
        self.notes = notes

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in self.table:
            return None
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    self._follow(spec)
                    return spec
        return None

    def _follow(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        execute = loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            self.arrived(module)

        loader.exec_module = executed

    def arrived(self, module: ModuleType) -> None:
        try:
            patches = list(self.table[module.__name__](module))
        except (AttributeError, KeyError) as error:
            name = error.name if isinstance(error, AttributeError) else error.args[0]
            self.notes(UNKNOWN.format(module.__name__, name))
            return
        self.undo.extend(map(put, patches))

"""Modules that a program imports while a fake GPU stands in, patched as soon as they are there."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from weighbridge.lab.trace.notes import Notes
from weighbridge.lab.trace.patches import Patch, put

Patches = Callable[[Any], Iterable[Patch]]  # of a module


UNKNOWN = "this version of {} has {} nowhere: what we replace there is left as it is"


@contextmanager
def arriving(table: Mapping[str, Patches], undo: list[Patch], notes: Notes) -> Iterator[None]:
    """Patch modules as they arrive. `table` says by a module's name what is replaced in it; `undo`
    gets what puts it back."""
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
    """Finds nothing by itself; lets the next finder do it, and looks over its shoulder."""

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

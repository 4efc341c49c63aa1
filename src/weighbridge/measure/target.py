"""What is to be run: a golden program's name, `script.py`, or `script.py:function`."""

import os
import runpy
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from weighbridge.errors import NotFoundError, UsageError
from weighbridge.golden import PROGRAMS, find

ALL = "golden"
DEVICE = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`name` is a golden program's, or a script's path; `function` is of that script."""

    name: str
    function: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def golden(self) -> bool:
        return self.name in PROGRAMS

    def __str__(self) -> str:
        return f"{self.name}:{self.function}" if self.function else self.name

    def run(self) -> None:
        """Runs it here, on the current CUDA device."""
        if self.golden:
            find(self.name).load()(DEVICE)
        elif self.function:
            self._named()()
        else:
            self._whole()

    def _whole(self) -> None:
        """The script as `python script.py ARGUMENTS` runs it."""
        sys.argv = [self.name, *self.arguments]
        sys.path.insert(0, os.path.dirname(os.path.abspath(self.name)))
        try:
            runpy.run_path(self.name, run_name="__main__")
        except SystemExit as end:
            if end.code not in (None, 0):
                raise UsageError(f"{self.name} ended with exit status {end.code}") from None

    def _named(self) -> Any:
        sys.path.insert(0, os.path.dirname(os.path.abspath(self.name)))
        spec = spec_from_file_location("__measured__", self.name)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        if self.function not in vars(module):
            raise NotFoundError(f"{self.name} has no function {self.function!r}")
        return vars(module)[self.function]


def targets(text: str, arguments: tuple[str, ...] = ()) -> list[Target]:
    """What `text` means. Raises UsageError."""
    path, _, function = text.rpartition(":")
    if text.endswith(".py") or path.endswith(".py"):
        script = path if path.endswith(".py") else text
        if not os.path.isfile(script):
            raise NotFoundError(f"{script}: no such file")
        named = function if script == path else ""
        return [Target(name=script, function=named, arguments=arguments)]
    if arguments:
        raise UsageError(f"{arguments[0]!r} is for a script; our own options go before {text!r}")
    if text == ALL:
        return [Target(name=name) for name in PROGRAMS]
    if "*" in text:
        found = [Target(name=name) for name in PROGRAMS if fnmatchcase(name, text)]
        if not found:
            raise NotFoundError(f"no golden program is called like {text!r}")
        return found
    return [Target(name=find(text).name)]

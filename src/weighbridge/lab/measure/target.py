"""What is to be run: a golden program's name, `script.py`, or `script.py:function`."""

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase

from weighbridge.errors import NotFoundError, UsageError
from weighbridge.lab.golden import PROGRAMS, find
from weighbridge.lab.trace.program import as_python, execute, request

ALL = "golden"
DEVICE = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A program that is to be measured. `name` is a golden program's, or a script's path;
    `function` is of that script."""

    name: str
    function: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def golden(self) -> bool:
        return self.name in PROGRAMS

    def __str__(self) -> str:
        return f"{self.name}:{self.function}" if self.function else self.name

    def run(self) -> None:
        """Run it here, on the current CUDA device."""
        if self.golden:
            find(self.name).load()(DEVICE)
        else:
            self._program()

    def _program(self) -> None:
        program = request(str(self), self.arguments)
        with as_python(program) as main:
            try:
                execute(program, main)
            except SystemExit as end:
                if end.code not in (None, 0):
                    raise UsageError(f"{self.name} ended with exit status {end.code}") from None


def targets(text: str, arguments: tuple[str, ...] = ()) -> list[Target]:
    """Return the targets that `text` names. Raises UsageError."""
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
        matching = [Target(name=name) for name in PROGRAMS if fnmatchcase(name, text)]
        if not matching:
            raise NotFoundError(f"no golden program is called like {text!r}")
        return matching
    return [Target(name=find(text).name)]

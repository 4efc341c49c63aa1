"""torch's compiler, which fake modes read settings of, and would import: seconds for nothing.

Its settings are imported as of an empty package of its name. Afterwards `torch._dynamo` is an
object that has them, and imports the compiler for anything else.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"


class CompilerSettings:
    """Stand-in for `torch._dynamo` until somebody imports it."""

    def __init__(self, config: ModuleType) -> None:
        self.config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(NAME), name)


@contextmanager
def without_compiler(make: Callable[[], Any]) -> Iterator[Any]:
    """Give what `make` gives, and keep the compiler from being imported for it."""
    if NAME in sys.modules:
        yield make()
        return
    package: Any = ModuleType(NAME)
    package.__path__ = [os.path.join(os.path.dirname(torch.__file__), "_dynamo")]
    sys.modules[NAME] = vars(torch)["_dynamo"] = package
    try:
        mode, settings = make(), CompilerSettings(import_module(f"{NAME}.config"))
    finally:
        for name in [m for m in sys.modules if m == NAME or m.startswith(f"{NAME}.")]:
            del sys.modules[name]
        del vars(torch)["_dynamo"]
    vars(torch)["_dynamo"] = settings
    try:
        yield mode
    finally:
        if vars(torch).get("_dynamo") is settings:
            del vars(torch)["_dynamo"]

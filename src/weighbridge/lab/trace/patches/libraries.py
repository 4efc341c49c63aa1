"""Libraries that ask whether they are traced would take another branch than on a GPU.

A patch here names a module that may not be imported yet; it is applied once it is.
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from weighbridge.lab.trace.patches import Patch


class LateImport(NamedTuple):
    module: str
    name: str
    value: Any


def _no(*_: Any, **__: Any) -> bool:
    return False


LATE = (
    # masking_utils keeps 4-D masks and looks for packed sequences where this says yes
    LateImport("transformers.utils.import_utils", "is_fake_tensor", _no),
)


class Libraries:
    """Patches of LATE that are still to come."""

    def __init__(self) -> None:
        self.waiting = list(LATE)

    def arrived(self) -> Iterator[Patch]:
        for late in tuple(self.waiting):
            module = sys.modules.get(late.module)
            if module is not None and late.name in vars(module):
                self.waiting.remove(late)
                yield Patch(module, late.name, late.value)

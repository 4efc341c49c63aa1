"""weighbridge weighs a model before it is loaded.

    >>> import weighbridge
    >>> report = weighbridge.load("llama-3.1-8b")
    >>> report.model.parameters
    8030261248

Public names: `load`, `infer`, `Infer`, `Report`, `FakeGPU`, the errors. Each is imported when it is
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weighbridge._version import __version__

if TYPE_CHECKING:
    from weighbridge.api import infer, load
    from weighbridge.errors import (
        BadFileError,
        GatedError,
        HubError,
        NotFoundError,
        UnsupportedError,
        UsageError,
        WeighbridgeError,
    )
    from weighbridge.report import Report
    from weighbridge.trace.gpu import FakeGPU
    from weighbridge.workload import Infer

_HOMES = {
    "load": "weighbridge.api",
    "infer": "weighbridge.api",
    "train": "weighbridge.api",
    "Infer": "weighbridge.workload",
    "Report": "weighbridge.report",
    "FakeGPU": "weighbridge.trace.gpu",
    "WeighbridgeError": "weighbridge.errors",
    "UsageError": "weighbridge.errors",
    "NotFoundError": "weighbridge.errors",
    "UnsupportedError": "weighbridge.errors",
    "BadFileError": "weighbridge.errors",
    "HubError": "weighbridge.errors",
    "GatedError": "weighbridge.errors",
}

__all__ = [
    "BadFileError",
    "FakeGPU",
    "GatedError",
    "HubError",
    "Infer",
    "NotFoundError",
    "Report",
    "UnsupportedError",
    "UsageError",
    "WeighbridgeError",
    "__version__",
    "infer",
    "load",
    "train",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'weighbridge' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""weighbridge weighs a model before it is loaded.

    >>> import weighbridge
    >>> report = weighbridge.load("llama-3.1-8b")
    >>> report.model.parameters
    8030261248
    >>> model = weighbridge.prepare("llama-3.1-8b")  # read once, asked many times
    >>> model.infer(engine="vllm", gpu="h100").verdict.fits
    'yes'

Public names: `load`, `infer`, `train`, `fit`, `prepare` and what they take and give, `FakeGPU`, the
errors. Each is imported when it is first used.
"""

from weighbridge import lazily
from weighbridge._version import __version__

TYPE_CHECKING = False  # typing costs more to import than all that is here
if TYPE_CHECKING:
    from weighbridge.api import (
        check,
        emit,
        explain_oom,
        fit,
        infer,
        load,
        prepare,
        together,
        train,
        weigh,
    )
    from weighbridge.canonical import key
    from weighbridge.errors import (
        BadFileError,
        GatedError,
        HubError,
        NotFoundError,
        UnsupportedError,
        UsageError,
        WeighbridgeError,
    )
    from weighbridge.lab.trace.gpu import FakeGPU as FakeGPU
    from weighbridge.oom import Oom
    from weighbridge.questions.prepared import Prepared
    from weighbridge.report import Report
    from weighbridge.report.fit import Fit
    from weighbridge.report.together import Services
    from weighbridge.runfiles.checking import FileCheck
    from weighbridge.runfiles.emitting import Emitted
    from weighbridge.runfiles.live.callback import WeighbridgeCallback as WeighbridgeCallback
    from weighbridge.runfiles.live.lightning import LightningCallback as LightningCallback
    from weighbridge.runfiles.live.peaks import Seen, watch
    from weighbridge.runfiles.live.trainers import from_accelerator, from_trainer
    from weighbridge.runfiles.weighing import WeighedFile
    from weighbridge.watching import NotWantedError, Watch, watched
    from weighbridge.workload import Infer, Load, Train

_HOMES = {
    "load": "api",
    "infer": "api",
    "train": "api",
    "fit": "api",
    "together": "api",
    "prepare": "api",
    "explain_oom": "api",
    "weigh": "api",
    "check": "api",
    "emit": "api",
    "key": "canonical",
    "Oom": "oom",
    "Prepared": "questions.prepared",
    "Load": "workload",
    "Infer": "workload",
    "Train": "workload",
    "Report": "report",
    "Fit": "report.fit",
    "Services": "report.together",
    "WeighedFile": "runfiles.weighing",
    "FileCheck": "runfiles.checking",
    "Emitted": "runfiles.emitting",
    "FakeGPU": "lab.trace.gpu",
    "WeighbridgeCallback": "runfiles.live.callback",
    "LightningCallback": "runfiles.live.lightning",
    "Seen": "runfiles.live.peaks",
    "watch": "runfiles.live.peaks",
    "from_trainer": "runfiles.live.trainers",
    "from_accelerator": "runfiles.live.trainers",
    "Watch": "watching",
    "watched": "watching",
    "NotWantedError": "watching",
    "WeighbridgeError": "errors",
    "UsageError": "errors",
    "NotFoundError": "errors",
    "UnsupportedError": "errors",
    "BadFileError": "errors",
    "HubError": "errors",
    "GatedError": "errors",
}

__all__ = [  # without FakeGPU and callbacks, which need torch: `import *` is for all
    "BadFileError",
    "Emitted",
    "FileCheck",
    "Fit",
    "GatedError",
    "HubError",
    "Infer",
    "Load",
    "NotFoundError",
    "NotWantedError",
    "Oom",
    "Prepared",
    "Report",
    "Seen",
    "Services",
    "Train",
    "UnsupportedError",
    "UsageError",
    "Watch",
    "WeighbridgeError",
    "WeighedFile",
    "__version__",
    "check",
    "emit",
    "explain_oom",
    "fit",
    "from_accelerator",
    "from_trainer",
    "infer",
    "key",
    "load",
    "prepare",
    "together",
    "train",
    "watch",
    "watched",
    "weigh",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOMES})


if not TYPE_CHECKING:  # or a type checker would take any name of this package for an object
    __getattr__ = lazily.named(__name__, _HOMES)

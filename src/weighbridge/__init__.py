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

from weighbridge.base import lazily
from weighbridge.base._version import __version__

TYPE_CHECKING = False  # typing costs more to import than all that is here
if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.base.canonical import key
    from weighbridge.base.errors import (
        BadFileError,
        GatedError,
        HubError,
        NotFoundError,
        UnsupportedError,
        UsageError,
        WeighbridgeError,
    )
    from weighbridge.base.watching import NotWantedError, Watch, watched
    from weighbridge.faces.api import (
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
    from weighbridge.files.oom import Oom
    from weighbridge.files.runfiles.checking import FileCheck
    from weighbridge.files.runfiles.emitting import Emitted
    from weighbridge.files.runfiles.live.callback import WeighbridgeCallback as WeighbridgeCallback
    from weighbridge.files.runfiles.live.lightning import LightningCallback as LightningCallback
    from weighbridge.files.runfiles.live.peaks import Seen, watch
    from weighbridge.files.runfiles.live.trainers import from_accelerator, from_trainer
    from weighbridge.files.runfiles.weighing import WeighedFile
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.together import Services
    from weighbridge.workload import Infer, Load, Train
    from weighbridge_lab.trace.gpu import FakeGPU as FakeGPU

_HOMES = {
    "load": "faces.api",
    "infer": "faces.api",
    "train": "faces.api",
    "fit": "faces.api",
    "together": "faces.api",
    "prepare": "faces.api",
    "explain_oom": "faces.api",
    "weigh": "faces.api",
    "check": "faces.api",
    "emit": "faces.api",
    "key": "base.canonical",
    "Oom": "files.oom",
    "Prepared": "answers.questions.prepared",
    "Load": "workload",
    "Infer": "workload",
    "Train": "workload",
    "Report": "memory.report",
    "Fit": "memory.report.fit",
    "Services": "memory.report.together",
    "WeighedFile": "files.runfiles.weighing",
    "FileCheck": "files.runfiles.checking",
    "Emitted": "files.runfiles.emitting",
    "FakeGPU": "weighbridge_lab.trace.gpu",
    "WeighbridgeCallback": "files.runfiles.live.callback",
    "LightningCallback": "files.runfiles.live.lightning",
    "Seen": "files.runfiles.live.peaks",
    "watch": "files.runfiles.live.peaks",
    "from_trainer": "files.runfiles.live.trainers",
    "from_accelerator": "files.runfiles.live.trainers",
    "Watch": "base.watching",
    "watched": "base.watching",
    "NotWantedError": "base.watching",
    "WeighbridgeError": "base.errors",
    "UsageError": "base.errors",
    "NotFoundError": "base.errors",
    "UnsupportedError": "base.errors",
    "BadFileError": "base.errors",
    "HubError": "base.errors",
    "GatedError": "base.errors",
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

"""weighbridge estimates a model's memory before the model is loaded.

    >>> import weighbridge
    >>> report = weighbridge.load("llama-3.1-8b")
    >>> report.model.parameters
    8030261248
    >>> model = weighbridge.prepare("llama-3.1-8b")  # read once, asked many times
    >>> model.infer(engine="vllm", gpu="h100").verdict.fits
    'yes'

Public names: `load`, `infer`, `train`, `fit`, `prepare` with their argument and result types,
`FakeGPU`, `trace`, the errors. Each is imported on first use.
"""

from weighbridge.base import lazily
from weighbridge.base._version import __version__

TYPE_CHECKING = False  # importing typing takes longer than everything else here
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
    from weighbridge.files.runfiles.weighing import WeighedFile
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.together import Services
    from weighbridge.workload import Infer, Load, Train
    from weighbridge_lab.trace.gpu import FakeGPU as FakeGPU
    from weighbridge_lab.trace.live import trace as trace
    from weighbridge_lab.trace.magic import load_ipython_extension as load_ipython_extension

_NAMES = {  # module -> the public names that it defines
    "faces.api": "load infer train fit together prepare explain_oom weigh check emit",
    "base.canonical": "key",
    "files.oom": "Oom",
    "answers.questions.prepared": "Prepared",
    "workload": "Load Infer Train",
    "memory.report": "Report",
    "memory.report.fit": "Fit",
    "memory.report.together": "Services",
    "files.runfiles.weighing": "WeighedFile",
    "files.runfiles.checking": "FileCheck",
    "files.runfiles.emitting": "Emitted",
    "weighbridge_lab.trace.gpu": "FakeGPU",
    "weighbridge_lab.trace.live": "trace",
    "weighbridge_lab.trace.magic": "load_ipython_extension",
    "base.watching": "Watch watched NotWantedError",
    "base.errors": "WeighbridgeError UsageError NotFoundError UnsupportedError BadFileError "
    "HubError GatedError",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = [  # without FakeGPU: `import *` must work without torch
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
    "infer",
    "key",
    "load",
    "prepare",
    "together",
    "train",
    "watched",
    "weigh",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOMES})


if not TYPE_CHECKING:  # else a type checker would accept any name as one of this package
    __getattr__ = lazily.named(__name__, _HOMES)

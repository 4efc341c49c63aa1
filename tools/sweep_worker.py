"""The side of the sweep that runs models: one after another, in one process."""

import gc
import os
import resource
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from time import monotonic
from types import TracebackType
from typing import Any

SUITES = ("timm", "transformers")
CARD = "a100-80gb"
MEMORY = 4 << 30  # bytes of this process, after which another takes its place
INSIDE = ("site-packages/torch/", "src/weighbridge/")  # not where a model asks
LONGEST = 220  # characters of a line about a failure


def jobs() -> list[tuple[str, str]]:
    """(suite, model) of all that is installed."""
    from tools import sweep_classes, sweep_timm

    names = {"timm": sweep_timm.NAMES, "transformers": list(sweep_classes.CLASSES)}
    return [(suite, name) for suite in SUITES if find_spec(suite) for name in names[suite]]


def serve(connection: Connection) -> None:
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    _prepare()
    while True:
        try:
            suite, name = connection.recv()
        except EOFError:
            return
        done = row(suite, name)
        gc.collect()
        last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 > MEMORY
        connection.send((done, last))
        if last:
            return


def _prepare() -> None:
    """FakeGPU's trial once, before there are threads; torch on one core."""
    import torch

    from weighbridge_lab.trace import guard

    reason = guard.why_not()
    if reason:
        raise SystemExit(reason)
    torch.set_num_threads(1)


def row(suite: str, name: str) -> dict[str, Any]:
    """What became of one model, without `suite` and `name`."""
    from weighbridge_lab.trace.gpu import FakeGPU

    step = _step(suite)
    began = monotonic()
    gpu = FakeGPU(CARD)
    try:
        with gpu:
            parameters = step(name, "cuda")
    except Exception as error:
        seconds, failed = monotonic() - began, said(error)
        del error
        gc.collect()
        return {"seconds": seconds, "failed": failed, "own": _own(step, name)}
    peak = gpu.tape.allocated.nbytes
    return {"seconds": monotonic() - began, "parameters": parameters, "peak": peak}


def _step(suite: str) -> Callable[[str, str], int]:
    from tools import sweep_classes, sweep_timm

    return {"timm": sweep_timm.step, "transformers": sweep_classes.step}[suite]


def _own(step: Callable[[str, str], int], name: str) -> bool:
    """Whether the same step fails with real tensors."""
    try:
        step(name, "cpu")
    except Exception:
        return True
    return False


def said(error: BaseException) -> str:
    """One line: the operation, where the model asked for it, and what torch says."""
    operation, place = "", ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        function = trace.tb_frame.f_locals.get("func")
        file = trace.tb_frame.f_code.co_filename
        if type(function).__name__ == "OpOverload":
            operation = str(function)
        if not operation and not any(part in file for part in INSIDE):
            place = f"{os.path.basename(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    told = (str(error).strip().splitlines() or [""])[0]
    where = " ".join(filter(None, (operation, f"({place})")))
    return f"{where}: {type(error).__name__}: {told}"[:LONGEST]

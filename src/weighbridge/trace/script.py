"""Runs an unmodified script as `python script.py` would, on the fake GPU, in this process.

`sys.argv`, `sys.path[0]`, `__main__` and the collector's thresholds are as Python has them. Its
exceptions are shown as Python shows them; what was recorded up to there stays.
"""

import ast
import contextlib
import gc
import io
import os
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from weighbridge.accelerators.budget import budget
from weighbridge.errors import NotFoundError, UnsupportedError, UsageError
from weighbridge.trace.report import Ending, Gpu, Program, TraceReport, device, verdict

DEFAULT_GPU = "a100-80gb"  # its kernels, where nobody names a card
NO_END = "1024TiB"  # of memory, then
COLLECT_EVERY = (700, 10, 10)  # Python's own: when cycles are freed decides what they hold
LONGEST = 300  # signs of an error's line
INTERRUPTED = 130  # 128 + SIGINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to run: a script, or one function of it, with the arguments of its `sys.argv`."""

    script: str
    function: str | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What stands in: the arguments of FakeGPU as a command line has them."""

    gpu: str | None = None
    gpu_memory: str | None = None
    torch_version: str | None = None
    alloc_conf: str | None = None
    history: bool = False  # what a snapshot needs


def request(target: str, arguments: Sequence[str]) -> Request:
    """Of "train.py" or "train.py:step". Raises NotFoundError."""
    path, colon, name = target.rpartition(":")
    if os.path.exists(target) or not (colon and name.isidentifier()):
        path, name = target, ""
    if not os.path.isfile(path):
        raise NotFoundError(f"{path}: no such script; weighbridge trace runs a Python file")
    if name:
        _defined(path, name)
    return Request(script=path, function=name or None, arguments=tuple(arguments))


def _defined(path: str, name: str) -> None:
    with open(path, "rb") as file:
        source = file.read()
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise UsageError(f"{path}: line {error.lineno}: {error.msg}") from None
    names = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    if name not in names:
        raise NotFoundError(f"{path} has no function {name!r}; it has {', '.join(names) or 'none'}")


def trace(asked: Request, card: Settings) -> tuple[TraceReport, Any]:
    """The report, and the FakeGPU with its tapes. Raises WeighbridgeError before the script runs;
    after that everything that happens is in the report."""
    if find_spec("torch") is None:
        raise UnsupportedError(
            "weighbridge trace needs torch: pip install torch (a CPU one will do)"
        )
    from weighbridge.trace.gpu import FakeGPU

    limited = card.gpu is not None or card.gpu_memory is not None
    name = card.gpu or DEFAULT_GPU
    memory = card.gpu_memory if limited else NO_END
    gpu = FakeGPU(
        name,
        gpu_memory=memory,
        torch_version=card.torch_version,
        alloc_conf=card.alloc_conf,
        history=card.history,
    )
    with _as_python(asked):
        main = _module(asked)  # lives until the tapes are read
        with gpu:
            program = _run(asked, main)
        return _report(program, gpu, card, limited=limited), gpu


@contextlib.contextmanager
def _as_python(asked: Request) -> Iterator[None]:
    before = sys.argv, sys.path[:], sys.modules["__main__"], gc.get_threshold()
    sys.argv = [asked.script, *asked.arguments]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(asked.script))
    gc.set_threshold(*COLLECT_EVERY)
    try:
        yield
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = before[:3]
        gc.set_threshold(*before[3])


def _module(asked: Request) -> types.ModuleType:
    """The script's own, as `__main__`; under the file's name where one function is wanted, so that
    what `if __name__ == "__main__"` guards is left alone."""
    stem = os.path.splitext(os.path.basename(asked.script))[0]
    module = types.ModuleType("__main__" if asked.function is None else stem)
    module.__file__ = os.path.abspath(asked.script)
    module.__dict__["__builtins__"] = __builtins__
    module.__spec__ = None
    if asked.function is None:
        sys.modules["__main__"] = module
    return module


def _run(asked: Request, main: types.ModuleType) -> Program:
    ending: Ending = "finished"
    code, told = 0, ""
    try:
        with io.open_code(os.path.abspath(asked.script)) as file:
            source = file.read()
        exec(compile(source, main.__file__ or "", "exec", dont_inherit=True), main.__dict__)
        if asked.function is not None:
            vars(main)[asked.function]()
    except SystemExit as end:
        ending, code = "exit", _status(end)
    except KeyboardInterrupt as error:
        ending, code, told = "interrupted", INTERRUPTED, _shown(error)
    except BaseException as error:
        ending, code = "out of memory" if _is_oom(error) else "exception", 1
        told = _shown(error)
    return Program(
        script=asked.script,
        function=asked.function,
        arguments=asked.arguments,
        ending=ending,
        exit_code=code,
        error=told,
    )


def _status(end: SystemExit) -> int:
    """sys.exit(None) is 0, a number its low byte, anything else is printed."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    sys.stdout.flush()
    sys.stderr.write(f"{end.code}\n")
    return 1


def _shown(error: BaseException) -> str:
    """Shows it as Python does, without our own frames; its last line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.stdout.flush()
    sys.excepthook(type(error), error, trace)
    return traceback.format_exception_only(error)[-1].strip().partition("\n")[0][:LONGEST]


def _is_oom(error: BaseException | None) -> bool:
    """Also where a library raised its own error because of it."""
    import torch

    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            return True
        error = error.__cause__
    return False


def _report(program: Program, gpu: Any, card: Settings, *, limited: bool) -> TraceReport:
    import torch

    found = Gpu(
        id=gpu.card.id,
        name=gpu.card.name,
        count=len(gpu.tapes),
        memory=gpu.card.total_memory,
        limited=limited,
    )
    devices = tuple(device(index, tape) for index, tape in enumerate(gpu.tapes))
    asked = budget(card.gpu or DEFAULT_GPU, card.gpu_memory, None) if limited else None
    died = program.ending == "out of memory"
    return TraceReport(
        program=program,
        gpu=found,
        torch_version=torch.__version__,
        rules=".".join(map(str, gpu.version)),
        devices=devices,
        alloc_conf=card.alloc_conf or "",
        verdict=verdict(found, asked.usable, devices, died=died) if asked else None,
        warnings=(*gpu.recorder.looks.told, *gpu.notes.told),
    )

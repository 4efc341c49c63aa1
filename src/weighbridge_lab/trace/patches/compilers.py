"""torch.compile: the code runs as it is, and what its operations read is noted for `fused`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.autograd import graph

from weighbridge_lab.trace.fused import CompiledWays
from weighbridge_lab.trace.patches import Notes, Patch
from weighbridge_lab.trace.places import is_own
from weighbridge_lab.trace.recorder import Recorder

COMPILED = "torch.compile is traced as eager code: compiled code keeps and fuses other tensors"
BUDGET = "region_activation_memory_budget"
CONFIG = "torch._functorch.config"


def compilers(notes: Notes, recorder: Recorder) -> Iterator[Patch]:
    def noted(**settings: Any) -> None:
        notes(COMPILED)
        before = recorder.compiled or CompiledWays()
        recorder.compiled = CompiledWays(
            before.tuned or _tunes(settings), before.budgeted or _budgets()
        )

    def of_module(_: nn.Module, *__: Any, **settings: Any) -> None:
        noted(**settings)

    yield Patch(torch, "compile", _compiler(noted))
    yield Patch(nn.Module, "compile", of_module)
    if hasattr(graph, BUDGET):
        yield Patch(graph, BUDGET, _budgeted(recorder))


def _compiler(noted: Callable[..., None]) -> Callable[..., Any]:
    def compile_(model: Any = None, **settings: Any) -> Any:
        """Return the model uncompiled. The user is only notified of their own compiling, as what a
        library compiles on import seldom runs."""
        if isinstance(model, nn.Module) or is_own(sys._getframe(1).f_code.co_filename):
            noted(**settings)
        return _unchanged if model is None else model

    return compile_


def _tunes(settings: dict[str, Any]) -> bool:
    """Return whether product kernels are autotuned, so that they may be fused with other
    operations."""
    variables = (v for k, v in os.environ.items() if k.startswith("TORCHINDUCTOR_MAX_AUTOTUNE"))
    return "autotune" in f"{settings}" or "1" in variables


def _budgets() -> bool:
    """Return whether torch's partitioner may recompute products."""
    return bool(getattr(sys.modules.get(CONFIG), "activation_memory_budget", 1.0) < 1)


def _budgeted(recorder: Recorder) -> Callable[..., Any]:
    def region(*_: Any, **__: Any) -> Any:
        """Note the budget. torch's own region cannot be entered in uncompiled code."""
        recorder.compiled = (recorder.compiled or CompiledWays())._replace(budgeted=True)
        return nullcontext()

    return region


def _unchanged(function: Any, *_: Any, **__: Any) -> Any:
    return function

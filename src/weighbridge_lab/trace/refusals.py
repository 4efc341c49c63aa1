"""Refusals of what cannot be traced, in our words: which operation, where, and what to do.

An error of the program itself stays as it is; only the frames in which torch finds out what a fake
tensor would be are left out of its trace.
"""

import os
import re
from types import TracebackType
from typing import Any

import torch
from torch._subclasses.fake_tensor import UnsupportedOperatorException

from weighbridge.base.errors import UnsupportedError

ADVICE = "trace the program without it, or with a function of torch that does the same"
NO_RULE = f"{{op}} in {{where}} has no rule for tensors without values: {ADVICE}"
OURS = os.path.dirname(os.path.abspath(__file__))
BELOW = re.compile(
    r"[/\\]torch[/\\](_ops|_subclasses|_prims|_prims_common|_refs|_decomp|_meta_registrations|"
    r"_logging|_library|_higher_order_ops|utils[/\\](_python_dispatch|_stats|_pytree)|__init__\.py)"
)
# torch's errors if C++ or Python reaches for a device, or for data, that is not there
RAW = (
    (r"Could not run '([\w:.]+)' with arguments from the '\w*CUDA\w*' backend", "{}"),
    (r"Found no NVIDIA driver", "an operation"),
    (r"no rule registered for HigherOrderOperator (\w+)", "{}"),
    (r"Tried to instantiate dummy base class (\w+)", "torch.cuda's {}"),
    (r"[Ii]ts data is not allocated yet", "an operation that reads values in C++"),
    (r"Cannot access (?:data pointer|storage) of", "an operation that reads addresses"),
    (r"^([\w.:]+): what it returns is in the data", "{}"),
)


class RefusedOperationError(UnsupportedError, NotImplementedError):
    """Raised for an operation without a rule; libraries may catch it and try something else."""


def refused(func: Any, where: str) -> RefusedOperationError:
    return RefusedOperationError(NO_RULE.format(op=func, where=where or "the script"))


def is_raw(error: BaseException) -> bool:
    """Return whether an error is the dispatcher's, a driver's or a missing value's, rather than one
    that torch wrote for its user."""
    if isinstance(error, NotImplementedError | UnsupportedOperatorException):
        return True
    return any(re.search(pattern, str(error)) for pattern, _ in RAW)


def explanation(error: BaseException) -> str:
    """Return our explanation of an error that ended a program; "" if its own message stays."""
    if isinstance(error, RefusedOperationError):
        return str(error)
    for pattern, words in RAW:
        match = re.search(pattern, str(error))
        if match is not None:
            name = words.format(*match.groups()).replace("::", ".")
            return NO_RULE.format(op=name, where=_place(error.__traceback__))
    return ""


def _place(trace: TracebackType | None) -> str:
    """Return the last line of the program's own in a traceback, neither torch's nor ours; ""
    without one."""
    place = "the script"
    while trace is not None:
        code = trace.tb_frame.f_code
        if not _is_ours(code.co_filename) and f"{os.sep}torch{os.sep}" not in code.co_filename:
            place = f"{os.path.basename(code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def trimmed(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without our frames, and without torch's after the first of them."""
    shown, behind = [], False
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        behind = behind or name.endswith(os.path.join("trace", "recorder.py"))
        if not _is_ours(name) and not (behind and BELOW.search(name)):
            shown.append(trace)
        trace = trace.tb_next
    following: TracebackType | None = None
    for one in reversed(shown):
        one.tb_next = following
        following = one
    return following


def _is_ours(path: str) -> bool:
    return path.startswith(OURS)


TOGETHER = frozenset(  # operations that a fake tensor's rules allow to mix host and card
    (
        torch.ops.aten.convolution.default,
        torch.ops.aten.mse_loss.default,
        torch.ops.aten.smooth_l1_loss.default,
        torch.ops.aten.huber_loss.default,
    )
)


def on_one_device(args: tuple[Any, ...]) -> None:
    """Raise torch's error if tensors are on different devices."""
    kinds = {str(arg.device) for arg in args if isinstance(arg, torch.Tensor) and arg.dim()}
    if len(kinds) > 1:
        first, second = sorted(kinds)[:2]
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{first} and {second}!"
        )

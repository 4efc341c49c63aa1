"""A module in memory: `weighbridge.trace(module, inputs, optimizer="adamw", gpu="4060")`.

The module itself is not touched: a copy without values runs on the fake card.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge_lab.trace.copies import copies
from weighbridge_lab.trace.gpu import FakeGPU
from weighbridge_lab.trace.inputs import Input, read
from weighbridge_lab.trace.net import NetRun, drive
from weighbridge_lab.trace.report import TracedProgram, TraceReport
from weighbridge_lab.trace.script import FakeGpuSettings, report_of, simulated


def trace(  # noqa: PLR0913  the options of the command line
    module: nn.Module,
    inputs: Any,
    *,
    optimizer: Any = None,
    gpu: str | None = None,
    gpu_memory: str | None = None,
    torch_version: str | None = None,
    loss: str | None = None,
    bf16: bool = False,
    checkpoint: bool = False,
) -> TraceReport:
    """Run a module on a fake card, forward or in training, and return the report of its peaks.
    `optimizer`: "adamw" and others, or a class of torch.optim; `loss`: "ce", "mse", "sum", or by
    default by its output.

    `inputs` are shapes ("8x3x224x224", "8x512:int"), tensors, or several of them. Raises UsageError
    for a bad shape or optimizer; what the module raises goes through.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(sentence("trace.no_module", kind=type(module).__name__))
    rule = optimizer and getattr(optimizer, "__name__", str(optimizer)).lower()
    run = NetRun(
        inputs=tuple(_inputs(inputs)),
        optimizer=rule,
        loss=loss,
        bf16=bf16,
        checkpoint=checkpoint,
    )
    card = FakeGpuSettings(gpu=gpu, gpu_memory=gpu_memory, torch_version=torch_version)
    name = type(module).__name__
    with endless(card) as fake:
        taken = drive(copies({name: module}, "cuda")[name], run, name)
    return report_of(TracedProgram(script=name, loss=taken), fake, card)


def endless(card: FakeGpuSettings) -> FakeGPU:
    """Return a FakeGPU that, like a larger card, serves requests that its card refuses."""
    fake: FakeGPU = simulated(card)
    for tape in fake.tapes:
        tape.goes_on = lambda _: True
    return fake


def _inputs(values: Any) -> Sequence[Input]:
    if isinstance(values, str):
        return read(values, "inputs")
    if isinstance(values, torch.Tensor):
        return (Input(tuple(values.shape), str(values.dtype).removeprefix("torch.")),)
    if not isinstance(values, list | tuple) or any(isinstance(one, int) for one in values):
        raise UsageError(sentence("trace.no_inputs", value=values))
    return [one for value in values for one in _inputs(value)]

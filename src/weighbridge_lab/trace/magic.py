"""One cell of a notebook on a card that is not there:

    %load_ext weighbridge

    %%weighbridge t4
    model.cuda()(images.cuda()).sum().backward()

The cell sees the notebook's names. Modules among them are copies without values, so that the
notebook's own stay as they are; what the cell assigns is gone after it.
"""

import sys
from typing import Any

from torch import nn

from weighbridge_lab.trace.live import endless, without_values
from weighbridge_lab.trace.render import render
from weighbridge_lab.trace.report import TracedProgram
from weighbridge_lab.trace.script import FakeGpuSettings, report_of


def load_ipython_extension(shell: Any) -> None:
    """Register the magic: %load_ext weighbridge calls this."""

    def weighbridge(line: str, cell: str) -> None:
        sys.stdout.write(traced(cell, dict(shell.user_ns), line.strip() or None))

    shell.register_magic_function(weighbridge, magic_kind="cell")


def traced(cell: str, names: dict[str, Any], gpu: str | None = None) -> str:
    """Run a cell and return its report as text. What it raises goes through."""
    card = FakeGpuSettings(gpu=gpu)
    modules = {n: without_values(v) for n, v in names.items() if isinstance(v, nn.Module)}
    with endless(card) as fake:
        names |= {name: module.to_empty(device="cpu") for name, module in modules.items()}
        exec(compile(cell, "<cell>", "exec"), names)
    report = report_of(TracedProgram(script="<cell>"), fake, card)
    return render(report, "human")

"""One cell of a notebook on a card that is not there:

    %load_ext weighbridge

    %%weighbridge t4
    model.cuda()(images.cuda()).sum().backward()

The cell sees the notebook's names. Modules, optimizers and what keeps them are copies without
values, by one memo (copies.py), so that the notebook's own stay as they are; functions of earlier
cells see the copies, too. What the cell assigns is gone after it.
"""

import sys
from typing import Any

from weighbridge_lab.trace.copies import copies
from weighbridge_lab.trace.live import endless
from weighbridge_lab.trace.render import render
from weighbridge_lab.trace.report import TracedProgram
from weighbridge_lab.trace.script import FakeGpuSettings, report_of


def load_ipython_extension(shell: Any) -> None:
    """Register the magic: %load_ext weighbridge calls this."""

    def weighbridge(line: str, cell: str) -> None:
        sys.stdout.write(traced(cell, shell.user_ns, line.strip() or None))

    shell.register_magic_function(weighbridge, magic_kind="cell")


def traced(cell: str, names: dict[str, Any], gpu: str | None = None) -> str:
    """Run a cell and return its report as text; `names` are restored afterwards. Errors of the cell
    are raised."""
    card, before = FakeGpuSettings(gpu=gpu), dict(names)
    try:
        with endless(card) as fake:
            names |= copies(names)
            exec(compile(cell, "<cell>", "exec"), names)
    finally:
        names.clear()
        names |= before
    report = report_of(TracedProgram(script="<cell>"), fake, card)
    return render(report, "human")

"""Windows: memory that a card lacks spills to RAM, where Linux ends the process.

The display driver (WDDM) gives a process pages of RAM if the card is full, at most half of RAM for
all cards ("shared GPU memory" of the task manager), and the card reads them over PCIe: "roughly an
order of magnitude" slower (AtomicBot-ai/atomic-llama-cpp-turboquant issue 77), 2,500 for 170 ms per
token (ggml-org/llama.cpp issue 3806). NVIDIA's control panel can forbid it ("Prefer No Sysmem
Fallback"). Linux never does, nor a server that WSL runs (microsoft/WSL issue 11050).

The verdict is open then: it runs, and nobody who has a choice wants that.
"""

from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import human

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.memory.report.verdict import Verdict
    from weighbridge.settings.shared import Weighed

LENT = 2  # all cards may use one part in two of RAM
SPILL = ("NVIDIA", "AMD")  # vendors whose drivers spill


def spilled(verdict: "Verdict | None", workload: "Weighed") -> "Verdict | None":
    """Return the verdict, open on Windows if the card lacks memory that its driver takes of RAM."""
    budget = workload.budget() if workload.on_windows() else None
    if verdict is None or budget is None or not _lends(budget.choice.part):
        return verdict
    from weighbridge.memory.report.verdict import fits  # imported late: `load` does not need it

    short = fits(verdict.per_device, verdict.usable) != "yes"
    if not short or verdict.fits == "yes" or verdict.devices_used > verdict.count:
        return verdict
    if verdict.host is not None and verdict.host.fits == "no":
        return verdict
    machine = workload.host_memory()
    return _moved(verdict, None if machine is None else machine.room.low)


def _moved(verdict: "Verdict", known: int | None) -> "Verdict":
    """Return the verdict on what spills to RAM; `known` is RAM's size in bytes, None if unknown."""
    from weighbridge.answers.estimate.divided import ANY_MACHINE
    from weighbridge.memory.report.verdict import Condition

    most, least = verdict.usable.low, verdict.usable.high
    low, expected, high = verdict.per_device
    over = Bytes(max(0, low - least), max(0, expected - most), high - most)
    on_host = 0 if verdict.host is None else verdict.host.needed.high
    ram = ANY_MACHINE if known is None else known
    if known is not None and over.low > ram // LENT:
        lead = sentence("lends", size=human(over.expected))
        return replace(verdict, reason=clauses(lead, verdict.reason))
    lead = sentence("spills", size=human(over.expected))
    open_ = verdict.under(
        Condition("shared_gpu_memory", opens="no"), reason=clauses(lead, verdict.reason)
    )
    surely = over.high <= min(ram // LENT, max(0, ram - on_host))
    return replace(open_, spilled=over.expected * surely, share_that_fits=None)


def _lends(part: "Part") -> bool:
    return part.kind == "gpu" and part.vendor in SPILL and part.at_home

"""Margins: how far published runs were from the expected values, and how much wider that makes an
interval.

    widened(devices, runs)          every phase of a device, with the margins of similar runs
    phase(found, runs)              the same for one phase
    around(value, runs, ...)        the same for one figure
    novel(devices, runs)            axes with few similar published runs, if that widens much
    highest(kinds, runs)            the high end of a widened device, computed from bytes only

novelty.py     wider margins for what nobody has published    seen.json, novelty.jsonl
margin.py      the width of a kind of runs, and of its nearest kin     margins.jsonl   all widths
phases.py      margins as components of an answer
accuracy.py    how near predictions come, as found for this version   accuracy.json

An engine's own interval covers what its rules leave open. A margin is how far nearly all published
runs of the kind were above that, and most below: `tools/fit_intervals.py` computes it from the
evidence, and docs/accuracy.md tells how. The shares are MOST and LEAST of lab/evidence/margins.py.
"""

from weighbridge.answers.bounds.margin import (
    COMPILED,
    CONVOLUTIONS,
    DENSE,
    EXPERTS,
    NOTHING,
    PEAK,
    PLAIN,
    RECURRENT,
    TOWERS,
    TRACED,
    Margin,
    MarginTable,
    RunForm,
    RunGroup,
    form,
    kind,
)
from weighbridge.answers.bounds.novelty import Novelty, fitted
from weighbridge.answers.bounds.phases import around, highest, novel, phase, published, widened

__all__ = [
    "COMPILED",
    "CONVOLUTIONS",
    "DENSE",
    "EXPERTS",
    "NOTHING",
    "PEAK",
    "PLAIN",
    "RECURRENT",
    "TOWERS",
    "TRACED",
    "Margin",
    "MarginTable",
    "Novelty",
    "RunForm",
    "RunGroup",
    "around",
    "fitted",
    "form",
    "highest",
    "kind",
    "novel",
    "phase",
    "published",
    "widened",
]

"""Margins: how far published runs lay from what was expected of them, and what an interval gets of
it.

    widened(devices, runs)          every phase of a device, with what runs like it took beyond it
    phase(found, runs)              the same of one moment
    around(value, runs, ...)        the same of one figure
    novel(devices, runs)            on which axes few are published like it, where that is much
    highest(kinds, runs)            the high end that a widened device has, in numbers alone

novelty.py     what nobody has published is wider    seen.json, novelty.jsonl
margin.py      the width of a kind of runs, and of its nearest kin     margins.jsonl   all widths
phases.py      where it stands in an answer
accuracy.py    how near predictions come, as it was found for this version   accuracy.json

An engine's own interval says what its rules leave open. A margin says how far nearly all published
runs of the kind were above that, and most below: `tools/fit_intervals.py` reads it off the
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

"""An out-of-memory message, explained: what ran out, what filled it, what to change.

explain_oom(text, model) -> Oom

text.py           a pasted log: decoded, unwrapped, bounded; figures -> bytes
reading.py        its wording, its figures, the log around it      wordings.jsonl figures.jsonl
causes.py         rules: figures, place, wording -> cause          conclusions.jsonl
figures.py        sums of a message's figures
explain.py        all together; the question that the log is about
reconcile.py      the message beside the estimate of the model
changes.py        what to change, by cause and program             changes.jsonl
record.py         the answer
"""

from weighbridge.files.oom.explain import explained
from weighbridge.files.oom.record import Oom

__all__ = ["Oom", "explained"]

"""An out-of-memory message, explained: what ran out, what filled it, what to change.

explain_oom(text, model) -> Oom

text.py           a pasted log: decoded, unwrapped, bounded; figures -> bytes
reading.py        which wording it is, and its figures          wordings.jsonl, figures.jsonl
surroundings.py   what the log around it tells
causes.py         rules: figures, place, wording -> cause       conclusions.jsonl
figures.py        sums of a message's figures
question.py       the settings that the log is about            reconcile.py  beside the model
changes.py        what to change, by cause and program          changes.jsonl
screen.py         what a person sees; its sentences are in weighbridge.words
record.py         the answer
"""

from weighbridge.oom.explain import explained
from weighbridge.oom.record import Oom

__all__ = ["Oom", "explained"]

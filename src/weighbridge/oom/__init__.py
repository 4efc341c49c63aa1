"""An out-of-memory message, explained: what ran out, what filled it, what to change.

explain_oom(text, model) -> Oom

text.py           a pasted log: decoded, unwrapped, bounded     sizes.py  figures -> bytes
wordings.py       the messages of each program, as patterns     reading.py  which one it is
surroundings.py   what the log around it tells
causes.py         rules: figures, place, wording -> cause       figures.py  their sums
question.py       the settings that the log is about            reconcile.py  beside the model
changes.py        what to change, by cause and program
screen.py         what a person sees                            messages/  its sentences
record.py         the answer
"""

from weighbridge.oom.explain import explained
from weighbridge.oom.record import Oom

__all__ = ["Oom", "explained"]

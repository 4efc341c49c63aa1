"""What a text says of torch's allocator, in the variable of the environment that decides: whether
its segments grow.

    grows('export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True\\ntorchrun train.py')   (True, 1)

A shell sets it, a Python script, a job or a container of whatever syntax. Lines that are comments
say nothing, and the last one that says it counts.
"""

import re

from weighbridge.records import replace
from weighbridge.runfiles.record import PlannedRun, Understood

NAME = "expandable_segments"
SAID = re.compile(
    r"(?P<name>PYTORCH_(?:CUDA_)?ALLOC_CONF)[\"')\]]*\s*(?:[:=,]|\n\s*value\s*:)\s*"
    r"[\"']?[^\n\"']{0,200}?expandable_segments\s*:\s*(?P<value>True|False)"
)
COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
LONGEST = 1 << 20  # characters of a text that is looked through


def grows(text: str) -> tuple[bool, int] | None:
    """Return whether segments grow, and the line that says so; None where nothing does."""
    if NAME not in text or len(text) > LONGEST:
        return None
    bare = COMMENT.sub("", text)
    found = None
    for found in SAID.finditer(bare):  # noqa: B007
        pass
    if found is None:
        return None
    return found["value"] == "True", bare.count("\n", 0, found.start("value")) + 1


def told(run: PlannedRun, text: str) -> PlannedRun:
    """Return a run that trains with what its text says of the allocator, where its own keys say
    nothing."""
    found = grows(text) if run.task == "train" and NAME not in run.settings else None
    if found is None:
        return run
    value, line = found
    key = Understood(key="PYTORCH_CUDA_ALLOC_CONF", value=value, setting=NAME, line=line)
    return replace(run, settings={**run.settings, NAME: value}, understood=(*run.understood, key))

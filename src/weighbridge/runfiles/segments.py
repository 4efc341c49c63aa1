"""What a text says of torch's allocator, in the variable of the environment that decides: whether
its segments grow.

    grows('export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True\\ntorchrun train.py', "shell")

A shell exports it or sets it before a command; a Python script puts it into os.environ. Where a
shell starts trainings with and without it, nothing is taken.
"""

import re
from collections.abc import Mapping

from weighbridge.allocator.settings import VARIABLES, from_environment
from weighbridge.engines.launch.shell import commands
from weighbridge.errors import WeighbridgeError
from weighbridge.records import replace
from weighbridge.runfiles.record import PlannedRun, Understood

NAME = "expandable_segments"
STARTS = (  # programs that a line begins with which starts a training
    *("torchrun", "deepspeed", "accelerate", "python", "python3", "swift", "trl", "megatron"),
    *("llamafactory-cli", "axolotl", "tune", "litgpt", "srun", "uv", "nohup", "bash", "sh"),
    "run_train.sh",
)
PUT = re.compile(
    r"environ(?:\[|\.setdefault\(|\.update\(\s*\{)\s*[\"'](?P<name>PYTORCH_(?:CUDA_)?ALLOC_CONF)[\"']"
    r"\s*(?:\]\s*=|,|:)\s*\(?\s*(?P<parts>(?:[\"'][^\"'\n]*[\"']\s*)+)"
)
COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
LONGEST = 1 << 20  # characters of a text that is looked through


def grows(text: str, syntax: str) -> bool | None:
    """Return whether segments grow; None where nothing says it, or trainings differ."""
    if NAME not in text or len(text) > LONGEST:
        return None
    if syntax == "shell":
        return _of_lines(text)
    return _of_script(COMMENT.sub("", text)) if syntax == "python" else None


def _of_lines(text: str) -> bool | None:
    try:
        started = [c for c in commands(text) if c.words[0].rpartition("/")[2] in (*STARTS, "unset")]
    except WeighbridgeError:
        return None
    found: set[bool | None] = set()
    gone = False
    for command in started:
        if command.words[0] == "unset":
            gone = gone or not set(VARIABLES).isdisjoint(command.words)
        else:
            found.add(None if gone else _said(command.env))
    return found.pop() if len(found) == 1 else None


def _of_script(text: str) -> bool | None:
    quoted = re.compile(r"[\"']([^\"'\n]*)[\"']")
    return _said({m["name"]: "".join(quoted.findall(m["parts"])) for m in PUT.finditer(text)})


def _said(env: Mapping[str, str]) -> bool | None:
    """Return what the variables say of segments, as torch reads them; None where they do not."""
    if not any(NAME in env.get(name, "") for name in VARIABLES):
        return None
    try:
        return from_environment(env).expandable_segments
    except WeighbridgeError:
        return None


def told(run: PlannedRun, text: str, syntax: str) -> PlannedRun:
    """Return a run that trains with what its text says of the allocator, where its own keys say
    nothing."""
    value = grows(text, syntax) if run.task == "train" and NAME not in run.settings else None
    if value is None:
        return run
    lines = COMMENT.sub("", text).splitlines()
    line = next((i for i, each in enumerate(lines, 1) if NAME in each), 0)
    key = Understood(key=VARIABLES[0], value=value, setting=NAME, line=line)
    return replace(run, settings={**run.settings, NAME: value}, understood=(*run.understood, key))

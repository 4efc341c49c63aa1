"""What a text says of torch's allocator, in the variable of the environment that decides: whether
its segments grow.

    grows('export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True\\ntorchrun train.py', "shell")

A shell exports it or sets it before a command; a Python script puts it into os.environ; Slurm's
`--export` sets it, or keeps it from what srun starts. Where a shell starts trainings with and
without it, or sets it in a branch that it may not take, nothing is taken. What a shell writes into
a file (`cat > FILE <<EOF`) is a text of its own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import replace
from weighbridge.engines.launch.shell import Command, commands
from weighbridge.files.runfiles.pieces import LAUNCH
from weighbridge.files.runfiles.record import PlannedRun, Understood
from weighbridge.files.runfiles.slurm import environment, exported
from weighbridge.files.runfiles.training.arrays import branches, taken
from weighbridge.files.runfiles.written import lines_of
from weighbridge.machines.allocator.settings import VARIABLES, from_environment

NAME = "expandable_segments"
UNSETS, OF_SHELLS = "unset", ("bash", "sh")
PUT = re.compile(
    r"environ(?:\[|\.setdefault\(|\.update\(\s*\{)\s*[\"'](?P<name>PYTORCH_(?:CUDA_)?ALLOC_CONF)[\"']"
    r"\s*(?:\]\s*=|,|:)\s*\(?\s*(?P<parts>(?:[\"'][^\"'\n]*[\"']\s*)+)"
)
COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
SHELLS = re.compile(r"(?:^|[\s/|;&])(?:bash|sh|zsh)\b")
ELSEWHERE = re.compile(r"(?:^|[\s/|;&])ssh\b")  # where this shell's variables are not set
LONGEST = 1 << 20  # characters of a text that is searched


def grows(text: str, syntax: str) -> bool | None:
    """Return whether torch's expandable segments are on; None if not stated, or if trainings
    differ."""
    if NAME not in text or len(text) > LONGEST:
        return None
    if syntax == "shell":
        here, handed = _parts(text)
        answers: set[bool | None] = set()
        for part in handed:
            with suppress(WeighbridgeError):  # most often not commands: a config, a script
                answers |= set(_of_part(part))
        try:
            answers |= set(_of_part(here))
        except WeighbridgeError:
            return None
        return answers.pop() if len(answers) == 1 else None
    return _of_script(COMMENT.sub("", text)) if syntax == "python" else None


def _parts(text: str) -> tuple[str, list[str]]:
    """Return (lines that the shell runs, heredocs that it passes to other programs)."""
    here: list[str] = []
    apart: list[str] = []
    for one in lines_of(text):
        if isinstance(one, str):
            here.append(one)
        elif SHELLS.search(one.line) and not ELSEWHERE.search(one.line):
            here.append(one.text)
        else:
            here.append(one.line.replace("<<", " "))
            apart.append(one.text)
    return "".join(here), apart


def _of_part(text: str) -> Iterator[bool | None]:
    """Yield whether expandable segments are on for each training of a text, None if unknown. Raises
    WeighbridgeError."""
    job, text = exported(text), taken(text)
    perhaps = any(NAME in each and not list(_started(each)) for each in branches(text))
    gone = False
    for command in _started(text):
        if command.words[0] == UNSETS:
            gone = gone or not set(VARIABLES).isdisjoint(command.words)
        else:
            yield None if gone or perhaps else _of_environment(_program_environment(command, job))


def _started(text: str) -> Iterator[Command]:
    for command in commands(text):
        if command.words[0] == UNSETS or _trains(command.words):
            yield command


def _trains(words: Sequence[str]) -> bool:
    """Return whether a command starts a training, or a shell that may start one."""
    first = words[0].rpartition("/")[2]
    return first in OF_SHELLS or bool(LAUNCH.match(" ".join((first, *words[1:2]))))


def _program_environment(command: Command, job: str | None) -> Mapping[str, str]:
    """Return the environment variables that the command's program sees, in a job with `--export`
    set to `job`."""
    env = environment(f"ALL,{job}" if job else None, command.env)
    if command.words[0].rpartition("/")[2] != "srun":
        return env
    exports = (word.partition("=")[2] for word in command.words if word.startswith("--export="))
    return environment(next(exports, job), env)


def _of_script(text: str) -> bool | None:
    quoted = re.compile(r"[\"']([^\"'\n]*)[\"']")
    return _of_environment(
        {m["name"]: "".join(quoted.findall(m["parts"])) for m in PUT.finditer(text)}
    )


def _of_environment(env: Mapping[str, str]) -> bool | None:
    """Return the variables' setting of expandable segments, as torch reads it; None without one."""
    if not any(NAME in env.get(name, "") for name in VARIABLES):
        return None
    try:
        return from_environment(env).expandable_segments
    except WeighbridgeError:
        return None


def with_allocator(run: PlannedRun, text: str, syntax: str) -> PlannedRun:
    """Return a training with the allocator setting of its text, if its own keys have none."""
    value = grows(text, syntax) if run.task == "train" and NAME not in run.settings else None
    if value is None:
        return run
    lines = COMMENT.sub("", text).splitlines()
    line = next((i for i, each in enumerate(lines, 1) if NAME in each), 0)
    key = Understood(key=VARIABLES[0], value=value, setting=NAME, line=line)
    return replace(run, settings={**run.settings, NAME: value}, understood=(*run.understood, key))

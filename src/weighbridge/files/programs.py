"""The programs that files, logs, messages and people tell of, and the lines that they write.

programs.toml has each program once:

    commands of a shell      runfiles/pieces.py         which lines are a shell's
    a line among words       runfiles/text.py
    an image                 runfiles/serving           what starts in it
    a script                 runfiles/training          what is read and not answered
    a message                oom/reading.py             who wrote it
    a name in words          runfiles/in_words.py

logs.jsonl has each line of a log once: the `part` of a start (runfiles/serving/start_logs.py) or
the `figure` of an out-of-memory message (oom/reading.py) that it tells, or both.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from weighbridge.base.parsed import lines_beside, text_beside
from weighbridge.base.records import NamedTuple, frozen_record

# Placeholders in patterns of logs: a printed size, a number, a device as llama.cpp names it (a
# longer word is none)
SIZE = r"(?P<size>\d{1,7}(?:\.\d{1,4})?)\s?(?P<unit>[KMG])i?B"
COUNT = r"(?P<count>[\d,]{1,15})"
DEVICE = r"(?<!\w)(?P<device>\w{1,40})"


class ConfigStart(NamedTuple):
    """How a command starts a config of one kind."""

    kind: str
    verbs: Sequence[str] = ()
    flag: str = ""
    assigns: bool = False


@frozen_record
class Program:
    """A program and how to recognize it: a table of programs.toml, which explains each field."""

    name: str
    task: str = ""
    title: str = ""
    commands: tuple[str, ...] = ()
    line: str = ""
    script: str = ""
    launchers: tuple[str, ...] = ()
    trainers: tuple[str, ...] = ()
    arguments: Mapping[str, str]
    configs: Mapping[str, "ConfigStart"]
    images: Mapping[str, str]
    image: str = ""
    port: int = 0
    module: str = ""
    signs: tuple[str, ...] = ()
    rules: str = ""
    words: str = ""
    pictures: str = ""
    refused: str = ""
    alone: bool = False
    learns: str = ""
    near: str = ""

    def starts(self, text: str) -> bool:
        """Return whether a text has a line that starts this program."""
        return bool(self.script and re.search(self.script, text))


@cache
def programs() -> Mapping[str, Program]:
    """Return all programs by name, in the order of the file."""
    import tomllib

    tables = tomllib.loads(text_beside(__file__, "programs.toml"))
    return {name: _program(name, table) for name, table in tables.items()}


def _program(name: str, table: Mapping[str, Any]) -> Program:
    plain: dict[str, Any] = {"title": name, "arguments": {}, "configs": {}, "images": {}, **table}
    for key, value in plain.items():
        plain[key] = tuple(value) if isinstance(value, list) else value
    plain["configs"] = {word: ConfigStart(**row) for word, row in plain["configs"].items()}
    return Program(name=name, **plain)


def told_by(face: str, task: str = "") -> Iterator[Program]:
    """Yield the programs whose field `face` ("words", "signs", ...) is not empty; with `task`, only
    its programs."""
    for program in programs().values():
        if getattr(program, face) and task in ("", program.task):
            yield program


@cache
def command_words(*tasks: str) -> str:
    """Return a pattern for the beginning of lines that start a program of these tasks."""
    return "|".join(word for p in told_by("commands") for word in p.commands if p.task in tasks)


@cache
def config_starts() -> Mapping[str, ConfigStart]:
    """Return the commands that start a config, with how they do it."""
    return {name: row for p in told_by("configs") for name, row in p.configs.items()}


@cache
def names_of(face: str) -> tuple[str, ...]:
    """Return the names in the field `face` of all programs: "launchers" start trainings, "trainers"
    have their own arguments."""
    return tuple(name for p in told_by(face) for name in getattr(p, face))


@cache
def images() -> Mapping[str, str]:
    """Return parts of image names -> the line that the image starts; "" if weighbridge does not
    read it."""
    return {part: line for p in told_by("images") for part, line in p.images.items()}


def rules_of(name: str) -> str:
    """Return the engine whose rules explain a program's messages; "" without one."""
    program = programs().get(name)
    return program.rules if program is not None else ""


class LogLine(NamedTuple):
    """A line of logs.jsonl: its program, pattern, and meaning. `kind` and `before` belong to a
    figure (oom/reading.py); `unless`: skipped if this text is in the log."""

    program: str
    pattern: str
    part: str = ""  # a component of ours, or a count ("tokens", "context")
    figure: str = ""
    kind: str = "size"
    before: bool = False
    unless: str = ""

    @property
    def searched(self) -> str:
        """Return the pattern for an unchanged log, with its placeholders filled in."""
        pattern = self.pattern.replace("{SIZE}", SIZE).replace("{COUNT}", COUNT)
        return pattern.replace("{DEVICE}", DEVICE)


@cache
def log_lines() -> tuple[LogLine, ...]:
    """Return the log lines; of two with the same meaning, the better first."""
    return tuple(LogLine(**json.loads(line)) for line in lines_beside(__file__, "logs.jsonl"))


def length_lines(program: str = "") -> Iterator[str]:
    """Yield the patterns of log lines that state the longest request, of all servers or of
    `program`."""
    for line in log_lines():
        if line.part == "context" and not line.figure and program in ("", line.program):
            yield line.searched

"""The programs that files, logs, messages and people tell of: programs.toml, and who asks for what.

commands of a shell      runfiles/pieces.py         which lines are a shell's
a line among words       runfiles/text.py
an image                 runfiles/serving           what starts in it
a script                 runfiles/training          what is read and not answered
a message                oom/reading.py             who wrote it
a name in words          runfiles/in_words.py
"""

from collections.abc import Iterator, Mapping
from functools import cache

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program, and how it is told: a table of programs.toml, which says what each field is."""

    name: str
    task: str = ""
    title: str = ""
    commands: tuple[str, ...] = ()
    line: str = ""
    script: str = ""
    images: Mapping[str, str]
    image: str = ""
    port: int = 0
    module: str = ""
    signs: tuple[str, ...] = ()
    rules: str = ""
    words: str = ""
    refused: str = ""
    alone: bool = False


@cache
def programs() -> Mapping[str, Program]:
    """Return all programs by their names, in the order of the file."""
    import tomllib

    tables = tomllib.loads(text_beside(__file__, "programs.toml"))
    return {name: _program(name, table) for name, table in tables.items()}


def _program(name: str, table: Mapping[str, object]) -> Program:
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    return Program(**{"name": name, "title": name, "images": {}, **plain})  # type: ignore[arg-type]


def told_by(face: str, task: str = "") -> Iterator[Program]:
    """Yield the programs that have a face ("words", "signs", ...), those of a task where one is
    named."""
    for program in programs().values():
        if getattr(program, face) and task in ("", program.task):
            yield program


@cache
def command_words(*tasks: str) -> str:
    """Return the pattern of what a line begins with that starts a program of one of these tasks."""
    return "|".join(word for p in told_by("commands") for word in p.commands if p.task in tasks)


@cache
def images() -> Mapping[str, str]:
    """Return the parts of images' names, and the line that each starts; "" where it is not read."""
    return {part: line for p in told_by("images") for part, line in p.images.items()}


def rules_of(name: str) -> str:
    """Return the engine by whose rules the messages of a program are explained; "" of none."""
    program = programs().get(name)
    return program.rules if program is not None else ""

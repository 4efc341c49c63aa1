"""Words into flags with their values, by the rules of argparse or those of llama.cpp.

llama.cpp takes the next word as a value whatever it looks like (common/arg.cpp:
common_params_parse_ex); argparse does not take one that looks like a flag, and completes
beginnings that only one flag has.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence

from weighbridge.engines.launch.record import Dialect, Flag, GivenFlag
from weighbridge.engines.launch.values import loose
from weighbridge.errors import UsageError

LEVELS = ("0", "1", "2", "3")  # of vLLM's -O


def scan(words: Sequence[str], dialect: Dialect, program: str) -> Iterator[GivenFlag]:
    """Raises UsageError where a flag lacks its value, or a blank before it."""
    for word in words:
        _apart(word, dialect, program)
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if not _flaglike(word):
            yield GivenFlag(name="", value=word)
            continue
        name, equals, glued = _split(word)
        if dialect.dotted and name.startswith("-O") and name != "-O" and "." not in name:
            name, equals, glued = "--optimization-level", "=", (name[2:] or glued)
        if dialect.dotted and word == "-O" and rest and rest[0] in LEVELS:
            name = "--optimization-level"
        yield _given(name, glued if equals else None, rest, dialect, program)


def _apart(word: str, dialect: Dialect, program: str) -> None:
    """Raises UsageError for a value that a flag hangs on, as in `--port 8111--max-model-len 8192`:
    the program takes both for one value, and what follows for a word."""
    own = word.partition("=")[2] if _flaglike(word) else word
    value, hangs, name = own.partition("--")
    flag = f"{hangs}{_split(name)[0]}".replace("_", "-")
    if value.strip("-") and flag in dialect.flags:
        raise UsageError(
            f"{program}: a blank is missing in {word!r:.80} before {flag}; write {value} {flag}"
        )


def _flaglike(word: str) -> bool:
    """argparse: a negative number and a text with a space are values."""
    return bool(re.match(r"-{1,2}[A-Za-z]", word)) and " " not in word.partition("=")[0]


def _split(word: str) -> tuple[str, str, str]:
    name, equals, value = word.partition("=")
    if name.startswith("--"):
        head, dot, tail = name.partition(".")
        name = head.replace("_", "-") + dot + tail
    return name, equals, value


def _given(
    name: str, glued: str | None, rest: deque[str], dialect: Dialect, program: str
) -> GivenFlag:
    base, _, path = name.partition(".") if dialect.dotted else (name, "", "")
    flag = find(base, dialect)
    if flag is None:
        if glued is None and rest and not _flaglike(rest[0]):
            rest.popleft()
        return GivenFlag(name=base)
    if path:
        return GivenFlag(
            name=base, flag=flag, value=_dotted(path, _one(name, glued, rest, program))
        )
    if flag.takes == "switch":
        return GivenFlag(name=base, flag=flag, value=_truth(base, flag, glued))
    if flag.takes == "value":
        value = _one(name, glued, rest, program, verbatim=not dialect.argparse)
        return GivenFlag(name=base, flag=flag, value=value)
    return GivenFlag(name=base, flag=flag, value=_some(flag, glued, rest, dialect))


def find(name: str, dialect: Dialect) -> Flag | None:
    found = dialect.flags.get(name)
    if found is None and dialect.argparse and name.startswith("--"):
        begin = {id(f): f for n, f in dialect.flags.items() if n.startswith(name)}
        found = next(iter(begin.values())) if len(begin) == 1 else None
    return found


def _truth(name: str, flag: Flag, glued: str | None) -> bool:
    """Tell whether a switch is on. vLLM's old ones took =true and =false too."""
    on = name in flag.names or any(n.startswith(name) for n in flag.names)
    off = glued is not None and glued.lower() in ("false", "0", "no")
    return on is not off


def _one(
    name: str, glued: str | None, rest: deque[str], program: str, *, verbatim: bool = False
) -> str:
    if glued is not None:
        return glued
    if not rest or (_flaglike(rest[0]) and not verbatim):
        raise UsageError(f"{program}: {name} is given without its value; write {name} VALUE")
    return rest.popleft()


def _some(flag: Flag, glued: str | None, rest: deque[str], dialect: Dialect) -> list[str] | str:
    """Take the values of a flag that takes "values", "maybe" ("" where there is none) or "pair"."""
    if glued is not None:
        return glued if flag.takes == "maybe" else [glued]
    most = {"maybe": 1, "pair": 2}.get(flag.takes, len(rest))
    taken: list[str] = []
    while rest and len(taken) < most and not _flaglike(rest[0]):
        if flag.takes == "maybe" and dialect.optional and rest[0].lower() not in dialect.optional:
            break
        taken.append(rest.popleft())
    return "".join(taken) if flag.takes == "maybe" else taken


def _dotted(path: str, text: str) -> dict[str, object]:
    """--config.a.b 1 -> {"a": {"b": 1}}; --config.a+ x,y -> {"a": ["x", "y"]}."""
    keys = path.removesuffix("+").split(".")
    value: object = text.split(",") if path.endswith("+") else loose(text)
    for key in reversed(keys[:32]):
        value = {key: value}
    assert isinstance(value, dict)
    return value

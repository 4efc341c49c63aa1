"""Words parsed into flags and their values, by the rules of argparse or of llama.cpp.

llama.cpp takes the next word as a value whatever it looks like (common/arg.cpp:
common_params_parse_ex); argparse does not take one that looks like a flag, and completes unique
prefixes of flags.
"""

import json
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.record import Dialect, Flag, GivenFlag, Value
from weighbridge.engines.launch.shell import is_variable

# Parsers of values, as the engine parses them. They raise ValueError for a wrong text

# vllm/utils/argparse_utils.py: human_readable_int; sglang/srt/utils/common.py has the same.
SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def whole(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text):
        raise ValueError
    return int(text)


def count(text: str) -> int:
    """Return a number with a suffix: 8192, 8k (8,000), 8K (8,192), 25.6k."""
    match = re.fullmatch(r"(-?\d{1,18}(?:\.\d{1,18})?)([kKmMgGtT]?)", text.strip())
    if not match:
        raise ValueError
    number, suffix = match.groups()
    scale = (SCALES | BINARY)[suffix]
    if "." not in number:
        return int(number) * scale
    if not suffix or suffix in BINARY:  # the engines refuse these too
        raise ValueError
    return int(float(number) * scale)


def number(text: str) -> float:
    if not re.fullmatch(r"\s*[+-]?(\d{1,18}\.?\d{0,18}|\.\d{1,18})(e[+-]?\d\d?)?\s*", text.lower()):
        raise ValueError
    return float(text)


def word(text: str) -> str:
    if not text or "$" in text:  # an unset variable
        raise ValueError
    return text


def dtype(text: str) -> str:
    """Names of vLLM and SGLang (config/model.py ModelDType; fields/model.py)."""
    name = {"half": "float16", "float": "float32"}.get(text.lower(), text.lower())
    if name not in ("float16", "bfloat16", "float32"):
        raise ValueError
    return name


def more_than_one(text: str) -> bool:
    return whole(text) > 1


READERS: Mapping[str, tuple[Callable[[str], Value], str]] = {
    "whole": (whole, "value.whole"),
    "count": (count, "value.tokens"),
    "bytes": (count, "value.bytes"),
    "number": (number, "value.number"),
    "word": (word, "value.name"),
    "dtype": (dtype, "value.dtype"),
    "many": (more_than_one, "value.whole"),
}


def as_object(value: object) -> dict[str, Any]:
    """Return the parsed '{"a": 1}'. A mapping, made of dotted flags, is returned as it is."""
    if isinstance(value, dict):
        return value
    try:
        parsed = json.loads(str(value))
    except RecursionError:
        raise ValueError from None
    if not isinstance(parsed, dict):
        raise ValueError
    return parsed


def loose(text: str) -> Any:
    """Return the value of a dotted key: JSON, else 80g, else the text."""
    for read in (json.loads, count):
        try:
            return read(text)
        except (ValueError, RecursionError):
            continue
    return text


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(old)
    for key, value in new.items():
        both = isinstance(out.get(key), Mapping) and isinstance(value, Mapping)
        out[key] = merged(out[key], value) if both else value
    return out


LEVELS = ("0", "1", "2", "3")  # of vLLM's -O


def scan(words: Sequence[str], dialect: Dialect, program: str) -> Iterator[GivenFlag]:
    """Yield flags and words. Raises UsageError if a flag lacks its value, or a blank before it."""
    for word in words:
        _apart(word, dialect, program)
    unread = deque(words)
    while unread:
        word = unread.popleft()
        if not _flaglike(word):
            yield GivenFlag(name="", value=word)
            continue
        name, equals, glued = _split(word)
        if dialect.dotted and name.startswith("-O") and name != "-O" and "." not in name:
            name, equals, glued = "--optimization-level", "=", (name[2:] or glued)
        if dialect.dotted and word == "-O" and unread and unread[0] in LEVELS:
            name = "--optimization-level"
        yield _given(name, glued if equals else None, unread, dialect, program)


def _apart(word: str, dialect: Dialect, program: str) -> None:
    """Raise UsageError for a flag glued to a value, as in `--port 8111--max-model-len 8192`: the
    program takes both for one value, and what follows for a word."""
    inside = word.partition("=")[2] if _flaglike(word) else word
    value, hangs, name = inside.partition("--")
    flag = f"{hangs}{_split(name)[0]}".replace("_", "-")
    if value.strip("-") and flag in dialect.flags:
        raise UsageError(
            sentence("blank_missing", program=program, word=word, flag=flag, value=value)
        )


def _flaglike(word: str) -> bool:
    """Return whether a word looks like a flag; negative numbers and texts with spaces do not."""
    return bool(re.match(r"-{1,2}[A-Za-z]", word)) and " " not in word.partition("=")[0]


def _split(word: str) -> tuple[str, str, str]:
    name, equals, value = word.partition("=")
    if name.startswith("--"):
        head, dot, tail = name.partition(".")
        name = head.replace("_", "-") + dot + tail
    return name, equals, value


def _given(
    name: str, glued: str | None, unread: deque[str], dialect: Dialect, program: str
) -> GivenFlag:
    base, _, path = name.partition(".") if dialect.dotted else (name, "", "")
    flag = find(base, dialect)
    if flag is None:
        if glued is None and unread and not _flaglike(unread[0]):
            unread.popleft()
        return GivenFlag(name=base)
    if path:
        return GivenFlag(
            name=base, flag=flag, value=_dotted(path, _one(name, glued, unread, program))
        )
    if flag.takes == "switch":
        return GivenFlag(name=base, flag=flag, value=_truth(base, flag, glued))
    if flag.takes == "value":
        value = _one(name, glued, unread, program, verbatim=not dialect.argparse)
        return GivenFlag(name=base, flag=flag, value=value)
    return GivenFlag(name=base, flag=flag, value=_some(flag, glued, unread, dialect))


def find(name: str, dialect: Dialect) -> Flag | None:
    flag = dialect.flags.get(name)
    if flag is None and dialect.argparse and name.startswith("--"):
        return _begun(name, dialect)
    return flag


# By id of a mapping of flags, which lives as long as its engine: the mapping, its sorted names
_ORDERED: dict[int, tuple[Mapping[str, Flag], list[str]]] = {}


def _in_order(flags: Mapping[str, Flag]) -> list[str]:
    """Return the sorted names of flags, sorted once."""
    if id(flags) not in _ORDERED:
        _ORDERED[id(flags)] = (flags, sorted(flags))
    return _ORDERED[id(flags)][1]


def _begun(name: str, dialect: Dialect) -> Flag | None:
    """Return the only flag whose name starts with `name`; None without one, or with several. Found
    by bisection: a command may have a hundred thousand words that are no flag."""
    names = _in_order(dialect.flags)
    only: Flag | None = None
    for each in islice(names, bisect_left(names, name), None):
        if not each.startswith(name):
            break
        if only is not None and dialect.flags[each] is not only:
            return None
        only = dialect.flags[each]
    return only


def _truth(name: str, flag: Flag, glued: str | None) -> bool:
    """Return whether a switch is on. Old vLLM ones accept =true and =false, too."""
    on = name in flag.names or any(n.startswith(name) for n in flag.names)
    off = glued is not None and glued.lower() in ("false", "0", "no")
    return on is not off


def _one(
    name: str, glued: str | None, unread: deque[str], program: str, *, verbatim: bool = False
) -> str:
    if glued is not None:
        return glued
    if not unread or (_flaglike(unread[0]) and not verbatim):
        raise UsageError(sentence("value_missing", program=program, name=name))
    return unread.popleft()


def _some(flag: Flag, glued: str | None, unread: deque[str], dialect: Dialect) -> list[str] | str:
    """Return the values of a flag that takes "values", "maybe" ("" without one) or "pair"."""
    if glued is not None:
        return glued if flag.takes == "maybe" else [glued]
    most = {"maybe": 1, "pair": 2}.get(flag.takes, len(unread))
    taken: list[str] = []
    while unread and len(taken) < most and not _flaglike(unread[0]):
        if flag.takes == "maybe" and dialect.optional and unread[0].lower() not in dialect.optional:
            break
        if taken and is_variable(unread[0]):  # flags follow values
            break
        taken.append(unread.popleft())
    return "".join(taken) if flag.takes == "maybe" else taken


def _dotted(path: str, text: str) -> dict[str, object]:
    """Nest a value: --config.a.b 1 -> {"a": {"b": 1}}; --config.a+ x,y -> {"a": ["x", "y"]}."""
    keys = path.removesuffix("+").split(".")
    value: object = text.split(",") if path.endswith("+") else loose(text)
    for key in reversed(keys[:32]):
        value = {key: value}
    assert isinstance(value, dict)
    return value

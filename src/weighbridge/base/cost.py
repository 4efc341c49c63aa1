"""One rule of cost for what strangers write: each kind of thing has a most, before it is read.

    a text       bytes             before it is decoded
    a key        dots in it        before it is parsed: TOML makes a table for each
    a document   values, depth     before places and kinds are looked for
    a name       characters        before it is compared with all that we know
    a number     characters        before it is a number: YAML reads 1:1:1 in sixties

What is within them costs a reader time and memory in proportion to its length, which a law holds
(tests/hostile/test_cost.py): twice as long, no more than twice as much.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown

MOST = 1 << 20  # bytes of a file: the longest of those that we know has 40,000
DEEPEST_TREE = 120  # Python: nested calls or statements
MOST_NODES = 20_000
DEEPEST = 40
MOST_DOCUMENTS = 100
MOST_RUNS = 24  # of one file that are weighed, a third of a second each
MOST_NAME = 200  # characters of a card's name: the longest that we know has 60
MOST_NUMBER = 60  # characters
PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+"
DEEP_KEY = rf"(?<![\w-]){PART}(?:\.[ \t]*+{PART}){{{DEEPEST}}}"  # few questions read a document


def deep_key(text: str) -> int | None:
    """Return where a dotted key begins that has more parts than a document may have levels; None
    without one."""
    match = re.search(DEEP_KEY, text)
    return match.start() if match else None


def too_much(value: Any) -> str:
    """Return which limit a document exceeds; "" if none. It works without recursion, and ignores
    values beyond the limit."""
    count, level = 0, [value]
    for _ in range(DEEPEST + 1):
        if not level:
            return ""
        count += len(level)
        if count > MOST_NODES:
            return sentence("too_large")
        level = [inner for each in level for inner in within(each)]
    return sentence("too_deep") if level else ""


def deeper(tree: Any, most: int, inside: Callable[[Any], Iterable[Any]]) -> bool:
    """Return whether a tree has more levels than `most`, without recursion."""
    level = [tree]
    for _ in range(most):
        if not level:
            return False
        level = [inner for each in level for inner in inside(each)]
    return bool(level)


def within(value: Any) -> Any:
    """Return the values directly inside a value."""
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def bounded(value: Any, name: str, syntax: str) -> None:
    """Raise BadFileError for a document that exceeds a limit."""
    what = too_much(value)
    if what:
        raise BadFileError(sentence("file.too_much", kind=syntax, what=what), where=name)


def short_name(text: str, flag: str, most: int = MOST_NAME) -> None:
    """Raise UsageError for a name or a setting that is too long to be valid."""
    if len(text) > most:
        raise UsageError(
            sentence("name.long", flag=flag, text=shown(text), count=len(text), most=most)
        )

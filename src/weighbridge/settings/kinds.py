"""How values are written, wherever they come from: a command line, a request, Python.

    COUNT.read("8K") -> 8192;  IMAGE.read("1280x720") -> (720, 1280)

A reader raises TypeError or ValueError for what is none of its values.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from weighbridge.errors import UsageError
from weighbridge.units import parse_count, parse_size
from weighbridge.versions import dated, release


class ValueKind(NamedTuple):  # not a frozen dataclass: every start makes it
    """`metavar` is a placeholder for the help; `read` raises for what is no value."""

    name: str
    metavar: str
    read: Callable[[Any], Any]
    says: str  # "a whole number", for errors


def _word(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise TypeError
    return given


def _version(given: Any) -> str:
    if release(_word(given)) is None:
        raise ValueError
    return str(given)


def _release(given: Any) -> str:
    """A version, or the date of a library that has few releases."""
    return str(given) if dated(_word(given)) is not None else _version(given)


def _plain(given: Any) -> int | float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError
    return given


def _count(given: Any) -> int:
    if isinstance(given, str):
        if re.fullmatch(r"\s*-\d+\s*", given):
            return int(given)  # its bound is what is wrong with it
        try:
            return parse_count(given)
        except UsageError:
            raise ValueError from None
    return _whole(given)


def _whole(given: Any) -> int:
    if isinstance(given, str):
        return int(given)
    number = _plain(given)
    if number != int(number):
        raise ValueError
    return int(number)


def _number(given: Any) -> float:
    return float(given) if isinstance(given, str) else float(_plain(given))


def _size(given: Any) -> int:
    return parse_size(given) if isinstance(given, str) else _whole(given)


def _text_size(given: Any) -> str:
    """A size that may be relative: kept as it was written."""
    return str(_whole(given)) if not isinstance(given, str) else _word(given)


def _flag(given: Any) -> bool:
    if not isinstance(given, bool):
        raise TypeError
    return given


def _image(given: Any) -> tuple[int, int]:
    """ "1024", "1280x720" (width x height), 1024 or [height, width] -> (height, width)."""
    if isinstance(given, str):
        found = re.fullmatch(r"\s*(\d+)\s*(?:[x,]\s*(\d+)\s*)?", given.lower())
        if not found:
            raise ValueError
        width, height = int(found[1]), int(found[2] or found[1])
    elif isinstance(given, list | tuple):
        height, width = map(_whole, given)
    else:
        height = width = _whole(given)
    if not 1 <= min(height, width) <= max(height, width) <= 65_536:
        raise ValueError
    return height, width


def _split(given: Any) -> tuple[float, ...]:
    parts = re.split(r"[,/]", given) if isinstance(given, str) else given
    found = tuple(_number(p) for p in parts)
    if not found or min(found) < 0 or not sum(found):
        raise ValueError
    return found


def _words(given: Any) -> tuple[str, ...]:
    parts = given.split(",") if isinstance(given, str) else given
    found = tuple(_word(p).strip() for p in parts)
    if not all(found) or not found:
        raise ValueError
    return found


WORD = ValueKind(name="word", metavar="NAME", read=_word, says="text")
VERSION = ValueKind(name="version", metavar="V", read=_version, says="a version such as 2.5")
RELEASE = ValueKind(
    name="release", metavar="V", read=_release, says="a version such as 2.5, or a date"
)
COUNT = ValueKind(
    name="count", metavar="N", read=_count, says="a number such as 8192, 8k (8,000) or 8K (8,192)"
)
WHOLE = ValueKind(name="whole", metavar="N", read=_whole, says="a whole number")
NUMBER = ValueKind(name="number", metavar="X", read=_number, says="a number")
SIZE = ValueKind(name="size", metavar="SIZE", read=_size, says="a size such as 24GiB")
RELATIVE = ValueKind(
    name="relative", metavar="SIZE", read=_text_size, says="a size such as 1GiB or 10%"
)
MEMORY = ValueKind(
    name="memory", metavar="SIZE", read=_text_size, says="a size such as 64GiB, or local"
)
FLAG = ValueKind(name="flag", metavar="", read=_flag, says="true or false")
IMAGE = ValueKind(
    name="image", metavar="WxH", read=_image, says="a size in pixels such as 1024 or 1280x720"
)
SPLIT = ValueKind(name="split", metavar="A,B...", read=_split, says="shares such as 3,1")
WORDS = ValueKind(name="words", metavar="A,B...", read=_words, says="names such as q_proj,v_proj")

"""Kinds of values, and how each is written on a command line, in a request and in Python.

    COUNT.read("8K") -> 8192;  IMAGE.read("1280x720") -> (720, 1280)

A reader raises TypeError or ValueError for a value that is not of its kind.
"""

import re
from collections.abc import Callable
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import parse_count, parse_size
from weighbridge.base.versions import dated, release

# Everyday names of video sizes -> (height, width) in pixels, as video models have them
FORMATS = {
    "480p": (480, 832),
    "540p": (544, 960),
    "720p": (720, 1280),
    "1080p": (1080, 1920),
}


class ValueKind(NamedTuple):  # not a frozen dataclass: every start of the program creates these
    """A kind of value. `metavar` is its placeholder in the help; `read` raises for other values."""

    name: str
    metavar: str
    read: Callable[[Any], Any]
    says: str  # key of the sentence that describes the kind, for errors


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _version(value: Any) -> str:
    if release(_word(value)) is None:
        raise ValueError
    return str(value)


def _release(value: Any) -> str:
    """Return a version, or a date for libraries that are released by date."""
    return str(value) if dated(_word(value)) is not None else _version(value)


def _plain(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if isinstance(value, str):
        if re.fullmatch(r"\s*-\d+\s*", value):
            return int(value)  # a negative number is read, so that the error names its lower bound
        try:
            return parse_count(value)
        except UsageError:
            raise ValueError from None
    return _whole(value)


def _whole(value: Any) -> int:
    if isinstance(value, str):
        return int(value)
    number = _plain(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, str) else float(_plain(value))


def _size(value: Any) -> int:
    return parse_size(value) if isinstance(value, str) else _whole(value)


def _text_size(value: Any) -> str:
    """Return a size as text, as it was written; it may be relative (10%)."""
    return str(_whole(value)) if not isinstance(value, str) else _word(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _image(value: Any) -> tuple[int, int]:
    """Return (height, width) of "1024", "1280x720" (width x height), "720p", 1024 or [h, w]."""
    if isinstance(value, str) and value.strip().lower() in FORMATS:
        height, width = FORMATS[value.strip().lower()]
    elif isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+)\s*(?:[x,]\s*(\d+)\s*)?", value.lower())
        if not match:
            raise ValueError
        width, height = int(match[1]), int(match[2] or match[1])
    elif isinstance(value, list | tuple):
        height, width = map(_whole, value)
    else:
        height = width = _whole(value)
    if not 1 <= min(height, width) <= max(height, width) <= 65_536:
        raise ValueError
    return height, width


def _split(value: Any) -> tuple[float, ...]:
    parts = re.split(r"[,/]", value) if isinstance(value, str) else value
    numbers = tuple(_number(p) for p in parts)
    if not numbers or min(numbers) < 0 or not sum(numbers):
        raise ValueError
    return numbers


def _words(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    words = tuple(_word(p).strip() for p in parts)
    if not all(words) or not words:
        raise ValueError
    return words


def _pairs(value: Any) -> tuple[str, ...]:
    """Return pairs as they were written: commas separate them, and a space is part of a pair."""
    listed = (value,) if isinstance(value, str) else value
    pairs = tuple(pair for text in listed for pair in _word(text).split(","))
    if not pairs:
        raise ValueError
    return pairs


WORD = ValueKind(name="word", metavar="NAME", read=_word, says="value.name")
VERSION = ValueKind(name="version", metavar="V", read=_version, says="value.version")
RELEASE = ValueKind(name="release", metavar="V", read=_release, says="value.release")
COUNT = ValueKind(name="count", metavar="N", read=_count, says="value.count")
WHOLE = ValueKind(name="whole", metavar="N", read=_whole, says="value.whole")
LORAS = WHOLE._replace(says="value.loras")
NUMBER = ValueKind(name="number", metavar="X", read=_number, says="value.number")
SIZE = ValueKind(name="size", metavar="SIZE", read=_size, says="value.size")
RELATIVE = ValueKind(name="relative", metavar="SIZE", read=_text_size, says="value.relative")
MEMORY = ValueKind(name="memory", metavar="SIZE", read=_text_size, says="value.memory")
FLAG = ValueKind(name="flag", metavar="", read=_flag, says="value.flag")
IMAGE = ValueKind(name="image", metavar="WxH", read=_image, says="value.image")
SPLIT = ValueKind(name="split", metavar="A,B...", read=_split, says="value.shares")
LAYERS = ValueKind(name="split", metavar="A,B...", read=_split, says="value.layers")
WORDS = ValueKind(name="words", metavar="A,B...", read=_words, says="value.names")
PAIRS = ValueKind(name="words", metavar="A,B...", read=_pairs, says="value.pairs")

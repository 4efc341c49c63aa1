"""JSON from strangers: bounded in size, depth and memory, each key once, UTF-8, no NaN.

Python's own parser takes the last of two equal keys, reads NaN, guesses UTF-16 and follows any
depth that the interpreter's stack allows; a file that relies on one of these means something else
to each program that reads it.
"""

import gc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown

MAX_CONFIG = 16_000_000  # the largest config.json we know of is below 1 MB
MAX_MEMORY = 1 << 29

# Measured with CPython 3.11, per list, object, value, half of a text and key (its place in a table
# that grows, and in a list of pairs), what the parser leaves lying included.
_COSTS = ((b"[", 160), (b"{", 400), (b",", 72), (b'"', 30), (b":", 100))

_DEAREST = max(cost for _, cost in _COSTS)

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

Pairs = list[tuple[str, Any]]


def strict_json(data: bytes, limit: int = MAX_CONFIG, *, constants: bool = False) -> Any:
    """Return a file's JSON value; `constants` allows NaN and Infinity, as in Mamba's configs."""
    return decode(data, limit, hook=_once, constants=constants)


def strict_object(data: bytes, limit: int = MAX_CONFIG, *, constants: bool = False) -> Any:
    """Return the JSON object of a file. Raises BadFileError for any other value."""
    value = strict_json(data, limit, constants=constants)
    if not isinstance(value, dict):
        raise BadFileError(sentence("json.no_object", kind=type(value).__name__))
    return value


def decode(
    data: bytes,
    limit: int,
    *,
    hook: Callable[[Pairs], dict[str, Any]] | None = None,
    constants: bool = False,
) -> Any:
    """Return JSON parsed within bounds; without a `hook`, the last of two equal keys counts."""
    if len(data) > limit:
        raise BadFileError(sentence("json.large", limit=limit))
    most = len(data) * _DEAREST  # of small files, which need no count
    if most > MAX_MEMORY and sum(data.count(sign) * cost for sign, cost in _COSTS) > MAX_MEMORY:
        raise BadFileError(sentence("json.memory", most=MAX_MEMORY))
    constant = None if constants else _no_constant
    try:
        text = data.decode("utf-8-sig")
        content = json.loads(text, object_pairs_hook=hook, parse_constant=constant)
        if SURROGATE.search(data):
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except UnicodeEncodeError:
        raise BadFileError(sentence("json.surrogate")) from None
    except UnicodeDecodeError as error:
        raise BadFileError(sentence("not_utf8", reason=error.reason, start=error.start)) from None
    except RecursionError:
        raise BadFileError(sentence("json.nested")) from None
    except ValueError as error:  # JSONDecodeError, or an integer of more than 4,300 digits
        raise BadFileError(sentence("json.broken", error=str(error))) from None


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which takes half the time of parsing 100,000 entries and finds
    nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _once(pairs: Pairs) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        seen: set[str] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadFileError(sentence("key_twice", key=short(twice)))
    return content


def _no_constant(text: str) -> Any:
    raise BadFileError(sentence("json.constant", text=text))


def short(value: object) -> str:
    """Return a value of a file for a one-line error; of a container only its kind."""
    plain = isinstance(value, str | int | float | None)
    return shown(value) if plain else f"a {type(value).__name__}"

"""Which modules the patterns of a config name: plain names, `*`, and `re:` before an expression."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.sentences import sentence

Test = Callable[[str], bool]
ONE_EXPERT = r"experts\W{1,3}\d+"
MAX_EXPRESSION, MAX_REPEATS = 1000, 4
REPEAT = r"(?<!\\)[*+{]"
NESTED = r"\)[*+{]"  # (a+)+, (a|aa)*


def patterns_of(raw: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return the patterns listed under any of `keys`."""
    return [text for key in keys for text in _texts(raw.get(key))]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def named_by(patterns: list[str]) -> Test:
    """Return a test for modules that one of `patterns` matches. Experts differ only in their
    number, so unless a pattern has one, the first expert stands for all."""
    names = list(dict.fromkeys(patterns))
    within = _contains_any(
        [_text_to_search(text) for text in names if not _is_searched_pattern(text)]
    )
    tests = [within, *(_test_of_pattern(text) for text in names if _is_searched_pattern(text))]

    @cache
    def named(path: str) -> bool:
        return any(test(path) for test in tests)

    if of_one_expert(patterns):
        return named
    return lambda path: named(re.sub(ONE_EXPERT, "experts.0", path))


def of_one_expert(patterns: Iterable[str]) -> bool:
    """Return whether a pattern names a single expert by its number."""
    return any(re.search(ONE_EXPERT, pattern) for pattern in patterns)


def _is_searched_pattern(text: str) -> bool:
    """Return whether a pattern is a regular expression or has a wildcard inside."""
    return text.startswith("re:") or "*" in text.strip("*")


def _test_of_pattern(text: str) -> Test:
    """Return a test for one pattern: `re:...` is a regular expression from the start of a path,
    otherwise * is a wildcard."""
    if text.startswith("re:"):
        expression = _safe_expression(text[3:])
        return lambda path: expression.match(path) is not None
    ends = [r"(^|\.)", r"(\.|$)"]
    inner = _safe_expression(ends[0] + ".*".join(map(re.escape, text.split("*"))) + ends[1])
    return lambda path: inner.search(path) is not None


def _text_to_search(text: str) -> str:
    """Return the text to search in a dotted path for a module with that name, or one below it."""
    before = "" if text.startswith("*") else "."
    after = "" if text.endswith("*") else "."
    return f"{before}{text.strip('*')}{after}"


def _contains_any(needles: list[str]) -> Test:
    """Return a test for paths that contain one of `needles`. Configs list hundreds of module names:
    sorted, and without names that begin with another, only the last one not after a text can be its
    start."""
    anywhere = [needle for needle in needles if not needle.startswith(".")]
    names: list[str] = []
    for needle in sorted(set(needles).difference(anywhere)):
        if not names or not needle.startswith(names[-1]):
            names.append(needle)

    def test(path: str) -> bool:
        text = f".{path}."
        position = 0 if names else -1
        while position >= 0:
            last = bisect_right(names, text[position:]) - 1
            if last >= 0 and text.startswith(names[last], position):
                return True
            position = text.find(".", position + 1)
        return any(needle in text for needle in anywhere)

    return test


def intricate(text: str, repeats: int) -> bool:
    """Return whether a regular expression might search for hours: nested or many repeats."""
    count = len(re.findall(REPEAT, text))
    return len(text) > MAX_EXPRESSION or count > repeats or re.search(NESTED, text) is not None


def _safe_expression(text: str) -> re.Pattern[str]:
    """Return a compiled regular expression from a config. Raises an error if it might search for
    hours."""
    if intricate(text, MAX_REPEATS):
        raise UnsupportedError(sentence("pattern_intricate", text=text[:80]))
    try:
        return re.compile(text)
    except re.error as error:
        raise BadFileError(sentence("no_pattern", text=text[:80], error=str(error))) from None

"""A command, and prose that somebody wrote behind it on its line.

    vllm serve org/name --max-model-len 8192 on an RTX 4090     two things
    vllm serve org/name --served-model-name on                  one

Prose begins with a word that no flag takes as its value, that people join sentences with, and
behind which no flag follows.
"""

import re

from weighbridge.base.errors import UsageError
from weighbridge.engines.launch.arguments import find
from weighbridge.engines.launch.programs import launched
from weighbridge.engines.launch.translated import dialect_of

_JOINS = """
on with but and gives fails runs for then i it is was in which when at to my using crashes ooms oom
throws says does doesn't works needs takes because where while still leads causes results uses
gets raises errors dies hangs after before will would can i'm how what why
"""
JOINS = frozenset(_JOINS.split())
WORD = re.compile(r"\S+")
CHINESE = re.compile(r"[\u4e00-\u9fff\uff0c\u3002]")
LEAST = 2  # fewest words of prose: a single one may be an argument


def apart(line: str) -> tuple[str, str]:
    """Return (launch line, prose): the line without the prose after it; "" without prose."""
    if any(sign in line for sign in "'\"\n"):  # a quoted text is one word
        return line, ""
    words = list(WORD.finditer(line))
    last_flag = max((i for i, word in enumerate(words) if word[0].startswith("-")), default=0)
    for number in range(max(2, last_flag + 1), len(words)):
        before = words[number - 1][0]
        joins = _ends(before) or _begins_prose(words[number][0], len(words) - number)
        if not joins or _is_value(line, before):
            continue
        start = words[number].start()
        head = line[:start].rstrip(" \t,，")
        return (head, line[start:].strip()) if _launches(head) else (line, "")
    return line, ""


def _ends(word: str) -> bool:
    """Return whether a word ends a clause, and is not a comma-separated value of a flag."""
    return word.endswith((",", "，")) and "=" not in word


def _begins_prose(word: str, count: int) -> bool:
    """Return whether `word` can begin prose of `count` words: it is Chinese or a joining word."""
    chinese = CHINESE.search(word) is not None
    return chinese or (count >= LEAST and word.strip(",.;:").lower() in JOINS)


def _is_value(line: str, flag: str) -> bool:
    """Return whether the word after `flag` is that flag's value."""
    if not flag.startswith("-") or "=" in flag:
        return False
    try:
        spoken = dialect_of(launched(line).engine)
    except UsageError:
        return True
    known = find(flag.replace("_", "-"), spoken)
    return known is None or known.takes != "switch"


def _launches(line: str) -> bool:
    try:
        launched(line)
    except UsageError:
        return re.search(r"\bollama run \S+$", line) is not None
    return True

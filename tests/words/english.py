"""The Chinese of an English line by its words: for lines of which a test has nothing but the text."""

import re
from functools import cache

from weighbridge.base.words import entries

VALUE = re.compile(r"\{(\w+)(?:![rs])?(?::[^{}]*)?\}")
NUMBER = re.compile(r"\d+(?:\\\.\d+)*")  # of which a line of the corners has none
JOINTS = 9  # signs: what puts sentences together has no more ("warning: {message}")
CATALOGUES = ("screens", "warnings", "errors")


@cache
def patterns():
    """A pattern for each sentence that has a key or is found by its words, and its Chinese; those
    with the most words first, since the words of one may stand within another."""
    listed = [
        entry
        for catalogue in CATALOGUES
        for key, entry in entries(catalogue).items()
        if catalogue != "screens" or key.startswith("known.")
        if len(VALUE.sub("", entry["en"])) > JOINTS
    ]
    listed.sort(key=lambda entry: -len(VALUE.sub("", entry["en"])))
    return [(pattern(entry["en"]), VALUE.sub(r"{\1}", entry["zh"])) for entry in listed]


def pattern(english):
    names = set()
    parts = []
    for place, part in enumerate(VALUE.split(english)):
        if place % 2 and part in names:
            parts.append(f"(?P={part})")
        elif place % 2:
            names.add(part)
            parts.append(f"(?P<{part}>.*?)")
        else:
            parts.append(NUMBER.sub(r"\\d[\\d,.]*", re.escape(part)))
    return re.compile("".join(parts))


def in_chinese(text):
    """The line in Chinese, with its name before it and its clauses; None where one has none."""
    for expression, chinese in patterns():
        match = expression.fullmatch(text)
        if match:
            return chinese.format(**match.groupdict())
    name, between, told = text.partition(": ")
    told = in_chinese(told) if between and " " not in name else None
    if told is not None:
        return f"{name}：{told}"
    for place in re.finditer("; ", text):
        first, second = in_chinese(text[: place.start()]), in_chinese(text[place.end() :])
        if first and second:
            return f"{first}；{second}"
    return None

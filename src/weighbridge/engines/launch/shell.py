"""A text as a shell splits it: commands of words, and the variables that are set before them.

Nothing is executed and nothing of our own environment is read. Variables are put in where the text
itself sets them; others stay as they are written.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from weighbridge.errors import UsageError

MOST = 64 * 1024  # bytes: twice what a shell history keeps of one entry
OPERATORS = ";&|<>\n"
ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
# A backslash before a letter is a path of Windows, wherever the text has such a path.
WINDOWS = re.compile(r"""(?:^|[\s"'=])(?:[A-Za-z]:|\.{1,2})\\[\w.]""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def commands(text: str) -> Iterator[Command]:
    """Raises UsageError where the quotes do not close or the text is too long."""
    if len(text.encode(errors="replace")) > MOST:
        raise UsageError(f"the command is longer than {MOST // 1024} KiB; give one launch alone")
    exported: dict[str, str] = {}
    for words in _lines(_words(text)):
        env: dict[str, str] = dict(exported)
        rest = [_filled(word, env) for word in words]
        while rest and (rest[0] in ("export", "set", "$", "%") or ASSIGNED.fullmatch(rest[0])):
            _assign(rest.pop(0), env)
        if words[:1] == ["export"] or not rest:
            exported = env
        elif rest:
            yield Command(words=tuple(_filled(word, env) for word in rest), env=env)


def _assign(word: str, env: dict[str, str]) -> None:
    found = ASSIGNED.fullmatch(word)
    if found:
        env[found[1]] = found[2]


def _words(text: str) -> list[str]:
    text = re.sub(r"(?m)^[ \t]*#.*$", "", text)
    text = re.sub(r"""(?m)[ \t]#[^'"\n]*$""", "", text)
    text = re.sub(r"[ \t]*[\\`^][ \t]*(?:\r?\n|$)", " ", text)  # bash, PowerShell, cmd
    if WINDOWS.search(text):
        text = re.sub(r"\\(?=[\w.])", r"\\\\", text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars=OPERATORS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        found = list(lexer)
    except ValueError:
        raise UsageError("the command has a quote that does not close; check its quotes") from None
    for word in found:
        if word[:1] in "\u2010\u2011\u2012\u2013\u2014\u2212" and word[1:]:
            raise UsageError(f"{word!r:.80} begins with a typographic dash; write it as - or --")
    return found


def _lines(words: list[str]) -> Iterator[list[str]]:
    """Split at operators; what a redirection writes to is left out."""
    line: list[str] = []
    skip = False
    for word in words:
        if set(word) <= set(OPERATORS) and word:
            if "<" in word or ">" in word:
                skip = True
                if line and line[-1].isdigit():  # 2>log
                    line.pop()
                continue
            yield line
            line, skip = [], False
        elif skip:
            skip = False
        else:
            line.append(word)
    yield line


def _filled(word: str, env: Mapping[str, str]) -> str:
    """$NAME and ${NAME} where the text sets it, ${NAME:-else}. Once: no variable in a variable."""

    def value(found: re.Match[str]) -> str:
        name = found["plain"] or found["braced"]
        if name in env:
            return env[name]
        return found[0] if found["other"] is None else found["other"]

    pattern = r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<other>[^}]*))?\})"
    return re.sub(pattern, value, word)

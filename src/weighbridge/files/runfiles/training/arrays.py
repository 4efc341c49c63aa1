"""Shell scripts that put a command together from variables: the text with their values in place.

    ARGS=(--num-layers 2 --bf16)                    torchrun pretrain_gpt.py --num-layers 2 --bf16
    torchrun pretrain_gpt.py ${ARGS[@]}

Variables and arrays are filled in, sums of numbers computed; what a script sets under a condition
that it does not decide itself is left out.
"""

import ast
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import add, floordiv, mul, sub

from weighbridge.files.runfiles.reading import filled
from weighbridge.files.runfiles.training.conditions import decided

NESTED = 6  # variables within variables
MOST = 1 << 18  # characters of a text with its variables filled in
MOST_COUNT = 10**12
COMMENT = re.compile(r"(?m)(?:^|(?<=[ \t]))#(?!!)[^\n'\"]*$")
SET = re.compile(
    r"(?m)^(?P<in>[ \t]*)(?:export[ \t]+|local[ \t]+)?(?P<name>[A-Za-z_]\w*)(?P<more>\+?)="
    r"(?:\((?P<array>[^()]*(?:\$\((?:\([^()]*\)|[^()]*)\)[^()]*)*)\)|\"(?P<quoted>(?:[^\"\\]|\\[\s\S])*)\""
    r"|'(?P<plain>[^']*)'|(?P<sum>\$\(\((?:[^()]|\([^()]*\))*\)\))|(?P<word>(?:\$\{\w+:?-\$\(\((?:[^()]|\([^()]*\))*\)\)\}|[^\s;&|])*))"
)
# Arithmetic, in which names need no dollar
COUNTED = re.compile(r"\$\(\((?:[^()$]|\([^()$]*\))*\)\)")
WORD = re.compile(r"[A-Za-z_]\w*")
OPENS, CLOSES = re.compile(r"^\s*(?:if|for|while|case)\b"), re.compile(r"^\s*(?:fi|done|esac)\b")
FUNCTION = re.compile(
    r"(?m)^(?:function[ \t]+)?(?P<name>[A-Za-z_]\w*)[ \t]*(?:\(\))?\s*\{[ \t]*\n"
    r"(?P<body>[\s\S]*?)^\}[ \t]*$"
)
ARGUMENT = re.compile(r"\$(?:(?P<n>[1-9])|\{(?P<braced>[1-9])(?::?[-?](?P<other>[^{}]*))?\})")
MOST_FUNCTIONS = 16
EXEC = re.compile(r"(?m)^[ \t]*exec[ \t]+[\w./\"'$](?:\\\n|[^\n])*")
MAY = re.compile(r"[ \t]*(?:if|case)\b")
USED = re.compile(
    r"\$(?P<bare>[A-Za-z_]\w*)|\$\{(?P<name>[A-Za-z_]\w*)\}"
    r"|(?P<quote>\"?)\$\{(?P<array>[A-Za-z_]\w*)\[[@*]\]\}(?P=quote)"
)
# Flags in quotes, which the shell splits into words
FLAGS = re.compile(r"(?P<quote>[\"'])(?P<flags>--(?:(?!(?P=quote)).)*)(?P=quote)")
SUM = re.compile(r"\$\(\((?P<sum>[\d\s()*+/\"-]{1,200})\)\)")
SUMS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Mult: mul,
    ast.Add: add,
    ast.Sub: sub,
    ast.Div: floordiv,
}


def called(text: str) -> str:
    """Return a script with function calls replaced by the functions' bodies, with arguments filled
    in."""
    for function in [*FUNCTION.finditer(text)][:MOST_FUNCTIONS]:
        calls = re.compile(rf"(?m)^[ \t]*{function['name']}(?P<words>[ \t][^\n;&|]*)?$")
        body = partial(_called_with, function["body"])
        text = calls.sub(body, text.replace(function[0], "\n" * function[0].count("\n")))
    return text


def _called_with(body: str, call: re.Match[str]) -> str:
    words = ['""', *re.findall(r"\"[^\"]*\"|'[^']*'|\S+", call["words"] or "")]

    def word(match: re.Match[str]) -> str:
        number = int(match["n"] or match["braced"])
        return words[number].strip("\"'") if number < len(words) else match["other"] or ""

    return ARGUMENT.sub(word, body.replace("$@", " ".join(words[1:])))


def filled_in(text: str) -> str:
    """Return a script without comments, and with its variables filled in."""
    if len(text) > MOST:
        return text
    text = taken(text)
    return _filled(text, dict(_variables(text)))


def conditional(text: str) -> bool:
    """Return whether a script adds to its arrays under a condition that its text does not
    decide."""
    text = taken(text[:MOST])
    spans = _conditions(text)
    return any(match["more"] and _within(match.start(), spans) for match in SET.finditer(text))


def branches(text: str) -> Iterator[str]:
    """Yield the text of each undecided `if` and `case` in a script."""
    for start, end in _conditions(text):
        if MAY.match(text, start):
            yield text[start:end]


def unsure(text: str) -> list[str]:
    """Return the variables that a script sets under an undecided condition and uses in a
    command."""
    text = taken(text[:MOST])
    spans = _conditions(text)
    names = {m["name"] for m in SET.finditer(text) if not m["more"] and _within(m.start(), spans)}
    lines = [line for line in text.replace("\\\n", " ").splitlines() if " --" in line]
    used = {name for line in lines for match in USED.finditer(line) for name in match.groups()}
    return sorted(names & used)


def taken(text: str) -> str:
    """Return a script without comments, without branches that it does not take, and without lines
    after `exec`."""
    text = decided(COMMENT.sub("", text), lambda above: dict(_variables(above)), _filled)
    spans = _conditions(text)
    ends = (match.end() for match in EXEC.finditer(text) if not _within(match.start(), spans))
    return text[: next(ends, None)]


def _variables(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of variables that a script sets outside of conditions; an array as its
    words."""
    spans = _conditions(text)
    variables: dict[str, str] = {}
    for match in SET.finditer(text):
        name, value = match["name"], _value(match)
        if _within(match.start(), spans):
            continue
        if filled(variables.get(name, "")) and value.startswith(f"${{{name}:"):
            continue  # it is already set, and NAME=${NAME:-x} keeps it
        value = (
            _filled(value, {name: variables.get(name, "")}) if f"${{{name}}}" in value else value
        )
        variables[name] = f"{variables.get(name, '')} {value}" if match["more"] else value
    yield from variables.items()


def _within(place: int, spans: list[tuple[int, int]]) -> bool:
    """Return whether position `place` is in one of the sorted `spans`."""
    before = bisect_right(spans, (place, MOST)) - 1
    return before >= 0 and place < spans[before][1]


def _value(match: re.Match[str]) -> str:
    words = (match[kind] for kind in ("array", "quoted", "plain", "sum", "word"))
    value = next((word for word in words if word), "")
    return " ".join(FLAGS.sub(r"\g<flags>", value.replace("\\\n", " ")).split())


def _conditions(text: str) -> list[tuple[int, int]]:
    """Return the (start, end) of a script's conditions and loops, in characters."""
    spans, depth, start, place = [], 0, 0, 0
    for line in text.splitlines(keepends=True):
        if OPENS.match(line):
            start, depth = (place if depth == 0 else start), depth + 1
        if CLOSES.match(line) or re.search(r";\s*(?:fi|done|esac)\b", line):
            depth = max(0, depth - 1)
            if depth == 0:
                spans.append((start, place + len(line)))
        place += len(line)
    return spans


def _filled(text: str, known: Mapping[str, str]) -> str:
    left = MOST - len(text)

    def value(match: re.Match[str]) -> str:
        nonlocal left
        known_value = known.get(match["bare"] or match["name"] or match["array"], match[0])
        left -= len(known_value)
        return known_value if left > 0 else match[0]

    def _number(match: re.Match[str]) -> str:
        number = SUM.sub(_computed, filled(known.get(match[0], "")))
        return number if number.isdecimal() else match[0]

    for _ in range(NESTED):
        before = text
        named = COUNTED.sub(lambda sums: WORD.sub(_number, sums[0]), USED.sub(value, filled(text)))
        text = SUM.sub(_computed, named)
        if text == before:
            break
    return text


def _computed(match: re.Match[str]) -> str:
    try:
        return str(_sum(ast.parse(match["sum"].replace('"', " ").strip(), mode="eval").body))
    except (SyntaxError, ArithmeticError, ValueError):
        return match[0]


def _sum(node: ast.expr) -> int:
    """Return the result of shell arithmetic, with integer division."""
    if isinstance(node, ast.BinOp) and type(node.op) in SUMS:
        return SUMS[type(node.op)](_sum(node.left), _sum(node.right))
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value < MOST_COUNT:
        return node.value
    raise ValueError

"""Commands split into words, with the variables set before them, as a shell splits a text.

Nothing is executed and nothing of our own environment is read. Variables are replaced if the text
itself sets them, and split into words if they are unquoted; others stay as they are written.

    ARGS="--a 1"; program $ARGS "$ARGS"          program, --a, 1, "--a 1"
    LIST=(--b "x y"); program "${LIST[@]}"       program, --b, "x y"
    srun bash -c 'program --a 1'                 srun, program, --a, 1
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from weighbridge.base.errors import UsageError
from weighbridge.base.records import field, frozen_record
from weighbridge.base.sentences import sentence

MOST = 64 * 1024  # bytes: twice what a shell history keeps per entry
MOST_WORDS = 20_000  # in all commands: a few variables of variables can expand to a billion
OPERATORS = ";&|<>\n"
ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
SETS = ("export", "set", "local", "declare", "readonly", "$", "%")  # keywords before an assignment
OF_A_SCRIPT = ("$@", "$*")  # a script's arguments, mostly empty
ARGUMENTS = re.compile(r"\"\$@\"|\$[@*]")
# From a blank and # on, in what stands after the last quote of a line: the quote may hold a "#".
COMMENT = re.compile(r"""(?m)(?:^|(?<=['"]))(?>([^'"\n]*?)[ \t]#)[^'"\n]*$""")
CONTINUED = re.compile(r"(?<![ \t])[ \t]*[\\`^][ \t]*(?:\r?\n|$)")  # bash, PowerShell, cmd
# A backslash before a letter is a path of Windows, wherever the text has such a path.
WINDOWS = re.compile(r"""(?:^|[\s"'=])(?:[A-Za-z]:|\.{1,2})\\[\w.]""")
QUOTED = re.compile(r"\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
# The number of a file that is redirected stands at its sign: 2>log, and not "8192 > log"
REDIRECTED = re.compile(rf"{QUOTED.pattern}|(?<![^\s;&|])(?P<file>\d)(?=[<>])", re.DOTALL)
ARRAY = re.compile(
    r"(?m)^(?P<before>[ \t]*(?:(?:export|local|declare|readonly)[ \t]+(?:-\w+[ \t]+)*)?)"
    r"(?P<name>[A-Za-z_]\w*\+?)=\((?P<words>[^()]*)\)"
)
# While a text is split: a dollar in double quotes, one that means itself, and what begins an array
# and parts its words
DOLLAR, ITSELF, LISTED, BETWEEN = "\ue000", "\ue001", "\ue002", "\ue003"
VARIABLE = re.compile(
    rf"(?P<sign>[${DOLLAR}])(?:(?P<plain>[A-Za-z_]\w*)|\{{(?P<braced>[A-Za-z_]\w*)"
    r"(?P<all>\[[@*]\])?(?::?-(?P<other>[^}]*))?\})"
)
SHELL = re.compile(r"(?:.*/)?(?:ba|z|da|k)?sh")
ITS_OPTIONS = 4  # words between a shell and its text, at most: --login -o pipefail -c
# Of numbers and names alone, as they stand once variables are put in: $((WORLD_SIZE / 8))
ARITHMETIC = re.compile(rf"(?P<sign>[${DOLLAR}])\(\((?P<inner>[\w \t+*/%${DOLLAR}{{}}-]*)\)\)")
PRODUCT = re.compile(r"(?P<left>\d+)(?P<sign>[*/%])(?P<right>\d+)")
SUM = re.compile(r"^(?P<left>-?\d+)(?P<sign>[+-])(?P<right>\d+)")
LONGEST_NUMBER = 9  # digits
# Scripts' ways to count the machine's cards, and what replaces them
COUNTED = re.compile(
    r"\$\((?:nvidia-smi[^()]*\bwc -l *|python3? -c [^\n)]*device_count\(\)[\s)]*[\"'])\)"
    r"|`nvidia-smi[^`]*`|\$\{?(?:SKYPILOT_NUM_GPUS_PER_NODE|DSTACK_GPUS_NUM)\b\}?"
)
CARDS = "$SLURM_GPUS_ON_NODE"
ALONE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*(?:\[[@*]\])?\}|[@*])")


@frozen_record
class Command:
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    goes_on: bool = False  # runs in the background: `program &`


def commands(text: str) -> Iterator[Command]:
    """Yield a text's commands. Raises UsageError for open quotes or a text that is too long."""
    handed = 0  # characters of what shells are handed, each of which may be one long variable
    for command in _commands(text, {}):
        before, inner = given_shell(command.words)
        handed += len(inner)
        _short_enough(handed)
        if not inner:
            yield command
            continue
        # Once: what a shell in a shell is handed stays a word
        for each in _commands(inner, command.env):
            goes_on = command.goes_on or each.goes_on
            yield Command(words=(*before, *each.words), env=each.env, goes_on=goes_on)


def given_shell(words: Sequence[str]) -> tuple[Sequence[str], str]:
    """Return (words before the shell, the text that a command hands it): `srun bash -c TEXT NAME
    ARGUMENTS`, with the arguments in place of `$@`; all words and "" without a shell."""
    at = next((n for n, word in enumerate(words) if SHELL.fullmatch(word)), len(words))
    for n in range(at + 1, min(at + 1 + ITS_OPTIONS, len(words) - 1)):
        if re.fullmatch(r"-\w*c", words[n]):
            text, arguments = words[n + 1], words[n + 3 :]
            if text == "--":
                text, arguments = "".join(words[n + 2 : n + 3]), words[n + 4 :]
            handed = shlex.join(arguments).replace("\\", r"\\")
            return words[:at], ARGUMENTS.sub(handed, text)
        if words[n][:1] not in "-+" and words[n - 1][-1:] != "o":
            break
    return words, ""


def _short_enough(length: int) -> None:
    if length > MOST:
        raise UsageError(sentence("command.long", most=MOST // 1024))


def _commands(text: str, exported: Mapping[str, str]) -> Iterator[Command]:
    """Yield the commands of a text, with `exported` variables set."""
    _short_enough(len(text.encode(errors="replace")))
    left = MOST_WORDS
    for words, goes_on in _lines(_words(text)):
        env: dict[str, str] = dict(exported)
        unread = list(words)
        while unread and (unread[0] in SETS or ASSIGNED.fullmatch(unread[0])):
            _assign(unread.pop(0), env)
        if words[:1] == ["export"] or not unread:
            exported = env
        elif unread:
            filled = [field for word in unread for field in _fields(word, env)]
            left -= len(filled)
            if left < 0:
                raise UsageError(sentence("command.words", most=MOST_WORDS))
            plain = {name: _plain(value) for name, value in env.items()}
            yield Command(words=tuple(map(_plain, filled)), env=plain, goes_on=goes_on)


def is_variable(word: str) -> bool:
    """Return whether a word is one variable that the text does not set: `$ARGS`, `${ARGS[@]}`,
    `$@`."""
    return ALONE.fullmatch(word) is not None


def _assign(word: str, env: dict[str, str]) -> None:
    assigned = ASSIGNED.fullmatch(word)
    if not assigned:
        return
    name, more, value = assigned[1], bool(assigned[2]), assigned[3]
    if value.startswith(LISTED):
        listed = [f for each in _elements(value) for f in _fields(each, env)]
        old = _elements(env[name]) if more and name in env else []
        value = LISTED + BETWEEN.join((*old, *listed))
    else:
        value = (env.get(name, "") if more else "") + _joined(value, env)
    env[name] = value[:MOST]


def _words(text: str) -> list[str]:
    text = re.sub(r"(?m)^[ \t]*#.*$", "", text)
    text = COMMENT.sub(r"\1", text)
    text = ARITHMETIC.sub(lambda m: re.sub(r"\s", "", m[0]), _marked(text))
    text = ARRAY.sub(_array, text)
    text = CONTINUED.sub(" ", text)
    if WINDOWS.search(text):
        text = re.sub(r"\\(?=[\w.])", r"\\\\", text)
    words = _split(REDIRECTED.sub(lambda m: "" if m["file"] else m[0], text), OPERATORS)
    for word in words:
        if word[:1] in "\u2010\u2011\u2012\u2013\u2014\u2212" and word[1:]:
            raise UsageError(sentence("command.dash", word=word))
    return words


def _split(text: str, operators: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=operators)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    if not operators:
        lexer.whitespace += "\n"
    try:
        return list(lexer)
    except ValueError:
        raise UsageError(sentence("command.quote")) from None


def _marked(text: str) -> str:
    """Return a text with marks for dollars in quotes: those of variables, and literal ones."""

    def mark(match: re.Match[str]) -> str:
        quoted = match[0]
        if quoted.startswith("'"):
            return quoted.replace("$", ITSELF)
        if quoted.startswith('"'):
            return quoted.replace("\\$", ITSELF).replace("$", DOLLAR)
        return ITSELF if quoted == "\\$" else quoted

    return QUOTED.sub(mark, re.sub(f"[{DOLLAR}-{BETWEEN}]", "", text))


def _array(match: re.Match[str]) -> str:
    """Return an array of a script as one word."""
    inner = re.sub(r"\\\r?\n", " ", match["words"])
    listed = LISTED + BETWEEN.join(_split(inner, ""))
    before = "" if not match["before"].strip() else "export "
    return f"{before}{match['name']}={shlex.quote(listed)}"


def _elements(value: str) -> list[str]:
    """Return the words of an array; a plain value is one word."""
    if not value.startswith(LISTED):
        return [value]
    return value[1:].split(BETWEEN) if value[1:] else []


def _plain(word: str) -> str:
    """Return a word without marks; an array becomes its words with blanks."""
    if LISTED in word:
        word = word.replace(LISTED, "").replace(BETWEEN, " ")
    return word.replace(DOLLAR, "$").replace(ITSELF, "$")


def _lines(words: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Yield lines split at operators, each with whether `&` follows it; targets of redirections are
    left out."""
    line: list[str] = []
    skip = False
    for word in words:
        if set(word) <= set(OPERATORS) and word:
            if "<" in word or ">" in word:
                skip = True
                continue
            yield line, word.startswith("&") and word[:2] != "&&"
            line, skip = [], False
        elif skip:
            skip = False
        else:
            line.append(word)
    yield line, False


def _found(match: re.Match[str], env: Mapping[str, str]) -> list[str] | None:
    """Return the words of a variable: for an array all or its first; None if unset."""
    name = match["plain"] or match["braced"]
    if name not in env:
        return None if match["other"] is None else [match["other"]]
    listed = _elements(env[name])
    if match["all"] == "[*]" and match["sign"] == DOLLAR:
        return [" ".join(listed)]
    return listed if match["all"] else listed[:1]


def _joined(word: str, env: Mapping[str, str]) -> str:
    """Return a word with its variables replaced but not split: the value of another variable."""
    word = _computed(word, env)

    def value(match: re.Match[str]) -> str:
        found = _found(match, env)
        return match[0] if found is None else " ".join(found)

    return VARIABLE.sub(value, word)


def _computed(word: str, env: Mapping[str, str]) -> str:
    """Return a word with its arithmetic computed, if the text gives the numbers."""

    def result(match: re.Match[str]) -> str:
        named = re.sub(rf"[${DOLLAR}{{}}]", "", match["inner"])
        inner = re.sub(r"[A-Za-z_]\w*", lambda name: env.get(name[0], name[0]), named)
        for step in (PRODUCT, SUM):
            while found := step.search(inner):
                inner = inner[: found.start()] + _step(found) + inner[found.end() :]
        return inner if re.fullmatch(r"-?\d+", inner) else match[0]

    return ARITHMETIC.sub(result, word)


def _step(match: re.Match[str]) -> str:
    """Return the result for two numbers, as in a shell; "?" for no number, or a long one."""
    if max(len(match["left"]), len(match["right"])) > LONGEST_NUMBER:
        return "?"
    left, right, sign = int(match["left"]), int(match["right"]), match["sign"]
    if sign in "/%":
        return "?" if not right else str(left // right if sign == "/" else left % right)
    return str({"*": left * right, "+": left + right, "-": left - right}[sign])


def _fields(word: str, env: Mapping[str, str]) -> list[str]:
    """Return the words that a word expands to: $NAME, ${NAME} and ${NAME[@]} if the text sets it,
    ${NAME:-else}. Once: no variable in a variable."""
    word = _computed(word, env)
    fields, kept, at = [""], False, 0
    for match in VARIABLE.finditer(word):
        before = word[at : match.start()]
        fields[-1] += before
        at = match.end()
        found = _found(match, env)
        quoted = found is None or match["sign"] == DOLLAR
        values = [match[0]] if found is None else found
        parts = values if quoted else [part for value in values for part in value.split()]
        kept = kept or bool(before or parts)
        fields[-1] += "".join(parts[:1])
        fields += parts[1:]
    fields[-1] += word[at:]
    return fields if kept or not at or word[at:] else []

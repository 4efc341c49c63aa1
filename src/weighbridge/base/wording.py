"""Words of strangers within lines of ours: bounded, without control characters, without secrets."""

import re
from collections.abc import Iterable, Mapping

LONGEST = 300  # characters of an error
WORD = 30  # characters of a word that is left out rather than cut
SHOWN = 80  # and of one value within it
ALIKE = 0.6  # similarity of names: twice their common characters / those of both (difflib's)
LITTLE = 64  # items of a container that are shown

HIDDEN = "***"  # replaces a secret

# Expressions are compiled when they are first used: here and in what a load imports.
# What stands before the host of an address, what stands behind its path, and what a key names.
USER = r"(?<=//)[^/\s?#@]*@|(?<=//)[^/\s?#@:'\"\[]+:(?!\d)[^/\s?#@'\"]+"
QUERY = r"(://[^\s?#'\"]*\?)[^\s'\"]*[^\s'\",.:;)]"
NAMED = r"(?i)(?<!eos[_-])(?<!bos[_-])(?<!pad[_-])(?<!unk[_-])"  # of a tokenizer's marks
NAMED += (
    r"((?:signature|credential|token(?!_dispatcher|_len)|passwd|password|passphrase|secret)[\w-]*=)"
)
NAMED += r"(?!\d{1,8}(?![\w.~+/-]))[^\s&'\"]+"  # a short number is a count: max_tokens=8192
# Tokens that are known wherever they stand, by how they begin: of Hugging Face, OpenAI and its kin,
# hosts of code, NVIDIA, Groq, Replicate, Slack, PyPI, npm, Docker, Google and AWS; JSON web tokens,
# which alone have dots: hf_moondream.HfMoondream is a class
TOKEN = r"\b(hf_|api_org_|sk-|gh[opsur]_|github_pat_|glpat-|nvapi-|gsk_|r8_|xox[abprs]-|pypi-|npm_"
TOKEN += r"|dckr_pat_|AIza(?=[\w-]{35})|A[KS]IA(?=[A-Z0-9]{16}\b)|eyJ(?=[\w-]+\.eyJ))"
TOKEN += r"(?:(?<=eyJ)[A-Za-z0-9_.-]{16,}|[A-Za-z0-9_-]{16,})"
_BEGINS = """
hf_ api_ sk- gh github_ glpat- nvapi- gsk_ r8_ xox pypi- npm_ dckr_ AIza AKIA ASIA eyJ @
"""
BEGINS = tuple(_BEGINS.split())
# A user with a password before a host, where no address stands around them
LOGGED_IN = r"(?<![\w.:/@-])([\w.+-]{1,40}:)[^\s:@/'\"<>]{3,80}@(?=[\w-]{1,60}(?:\.[\w-]|:\d))"
DIGITS = 60  # of a number; more are counted
# A flag (one of vLLM's may lead to a key of its JSON: --hf-overrides.auth_token), a variable or a
# key whose name says that its value is a secret, and the value
KEPT = r"(?<![\w-])(?:--(?:[\w-]{1,40}\.){0,8})?"
KEPT += r"(?!-*(?:eos|bos|pad|unk|stop|mask|image|special)[_-])[\w-]{0,60}?"
KEPT += r"(?:(?:api|access|secret|private)[_-]?key|token|secret|passw(?:or)?d|passphrase"
KEPT += r"|credentials?|(?<![a-z0-9])pw)(?![\w-])"
VALUE = r"(?!\$|-|\d{1,8}\b|true\b|false\b|null\b|none\b)[^\s\"',}]{6,}"
GIVEN = r"[\"']?(?:,?\s{0,40}[\"']?value[\"']?)?[ \t]{0,9}[=:][ \t]{0,9}[\"']?"
ASSIGNED = rf"(?i)({KEPT}{GIVEN}){VALUE}"
FLAGGED = (
    rf"(?i)((?=--){KEPT}[\"']?,?(?:[ \t]{{1,9}}|[ \t]{{0,9}}\n[ \t]{{0,40}}-[ \t]*)[\"']?){VALUE}"
)
# The same, with a value in quotes that may have blanks in it
SPACED = (
    rf"(?i)((?:{KEPT}[\"']?[ \t]{{0,9}}[=:][ \t]{{0,9}}"
    rf"|(?=--){KEPT}[\"']?,?(?:[ \t]{{1,9}}|[ \t]{{0,9}}\n[ \t]{{0,40}}-[ \t]{{0,9}})))"
    r"([\"'])(?!\$)(?=[^\"'\n]{6}|[^\"'\n]* )(?:(?!\2)[^\n]){1,400}(?:\2|$|(?=\n))"
)
# A variable of the environment whose name alone says it, in capitals: MY_KEY=x, MY_KEY: x, and
# Kubernetes' name: MY_KEY, value: x
EXPORTED = (
    r"(?<![\w$])((?:[A-Z][A-Z0-9_]{0,60}_(?:KEY|PASS|PASSWD|PWD|PAT|AUTH|CREDENTIALS?)"
    r"|SSHPASS|PGPASS)(?:=|([\"']?(?:,?\s{0,40}[\"']?value[\"']?)?[ \t]{0,9}:[ \t]{1,9})))"
    r"(?!\$|[\"']?\$)"
    r"(?:\"[^\"\n]*\"|'[^'\n]*'|(?(2)[^\s\"'}]{0,400}[^\s\"'},]|[^\s\"']+))"
)
# The password behind a user (`curl -u name:x`; numbers are the ids of docker's --user), and the
# value of a header that lets in
LOGIN = (
    r"((?<![\w-])(?:-u|--user|--proxy-user|--[\w-]{0,40}auth)(?:[ \t]+|=)([\"'])?"
    r"[^\s:\"'=/]{1,80}:)"
    r"(?!\$|\d+\b)(?(2)[^\n\"']+|[^\s\"']+)"
)
HEADER = (
    r"(?i)(\b(?:proxy-)?authorization[\"']?[ \t]{0,9}[:=][ \t]{0,9}[\"']?(?:[a-z]+[ \t]+)?"
    r"|\bbearer[ \t]+)(?!\$)(?!bearer\b)[^\s\"'$*]{3,}"
)


def tokenless(text: str) -> str:
    """Return `text` without tokens that have a known beginning, and without logins, wherever they
    are."""
    if not any(sign in text for sign in BEGINS):
        return text
    text = re.sub(LOGGED_IN, r"\1***@", re.sub(USER, "", text))
    return re.sub(TOKEN, r"\1***", text)


def printable(text: str) -> str:
    """Return `text` for a terminal, without control codes and tokens: names come from strangers'
    files."""
    text = tokenless(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return a `text` of several lines for a terminal."""
    return "\n".join(map(printable, text.splitlines()))


def either(names: Iterable[str]) -> str:
    """Return names joined as in a sentence: "a, b or c"."""
    *more, last = names
    return f"{', '.join(more)} or {last}" if more else last


def counted(count: int, one: str) -> str:
    """Return a count with its noun: "1 part", "2 parts"."""
    return f"{count:,} {one}{'s' * (count != 1)}"


def several(count: int, name: str) -> str:
    """Return the name of several cards, "2 x RTX 4090"; `name` itself for one card, and for a name
    that already lists cards that differ."""
    return name if count <= 1 or " + " in name else f"{count} x {name}"


def redacted(text: str) -> str:
    """Return `text` without the passwords and signatures of addresses in it."""
    if not any(sign in text for sign in ("=", "?", *BEGINS)):
        return text
    text = tokenless(text)
    text = re.sub(USER, "", text)
    for pattern in (QUERY, NAMED):
        text = re.sub(pattern, r"\1***", text)
    return text


def unsecret(text: str) -> str:
    """Return the `text` of a file or command, with asterisks in place of secret values, tokens and
    passwords."""
    text = re.sub(SPACED, r"\1\2***\2", text)
    for pattern in (ASSIGNED, FLAGGED, EXPORTED, LOGIN, HEADER):
        text = re.sub(pattern, r"\1***", text)
    return redacted(text)


def names_secret(flag: str) -> bool:
    """Return whether a flag's name means that its value is a secret."""
    return flag.startswith("--") and re.fullmatch(KEPT, flag, re.IGNORECASE) is not None


def clipped(text: str, most: int = SHOWN) -> str:
    """Return `text`; if longer than `most`, without its middle, since errors end with advice."""
    if len(text) <= most:
        return text
    tail = (most - 3) * 2 // 5
    return f"{text[: most - 3 - tail]}...{text[-tail:]}"


def one_line(text: str) -> str:
    """Return an error as one line of at most LONGEST characters, without secrets. Short words are
    left out whole."""
    line = redacted(" ".join(text.split()))
    cut = clipped(line, LONGEST)
    if cut is line:
        return line
    head, _, tail = cut.partition("...")
    before, after = head.rpartition(" ")[0], tail.partition(" ")[2]
    short = len(head) - len(before) < WORD and len(tail) - len(after) < WORD
    return f"{before} ... {after}" if short and before and after else cut


def shown(value: object) -> str:
    """Return a value from outside for an error. Only the part that is shown is formatted."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**DIGITS:
        return f"a number of some {value.bit_length() * 1233 >> 12:,} digits"
    if isinstance(value, str):
        return clipped(
            tokenless(repr(value if len(value) <= 2 * SHOWN else clipped(value, 2 * SHOWN)))
        )
    if isinstance(value, list | tuple | dict) and len(value) > LITTLE:
        return f"a {type(value).__name__} of {len(value):,} items"
    return clipped(repr(_unsecret_within(value)))


def _unsecret_within(value: object) -> object:
    """Return a value without the secrets in it: a secret follows a word that names it."""
    if isinstance(value, str):
        return unsecret(value)
    if isinstance(value, Mapping):
        return {k: HIDDEN if _names(k) else _unsecret_within(v) for k, v in value.items()}
    if not isinstance(value, list | tuple):
        return value
    before = (None, *value)
    return [
        HIDDEN if _names(k) else _unsecret_within(v) for k, v in zip(before, value, strict=False)
    ]


def _names(word: object) -> bool:
    return isinstance(word, str) and bool(re.fullmatch(KEPT, word.rstrip(":="), re.IGNORECASE))


# Signs that a terminal or a reader obeys and JSON lets through: C1 controls, line and paragraph
# separators, marks that turn the direction of text (Unicode 16, UAX #9), halves of pairs.
OBEYED = "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
# The last two are of GitHub, whose readers call @teams and link what begins with www.
MARKS = r"[\\`*\[\]<>|]|!(?=\[)|_(?=\s|$)|(?<!\S)_|://|www\.|(?<!\w)@(?=\w)"
INSTEAD = {"<": "&lt;", ">": "&gt;", "://": "&#58;//", "www.": "www&#46;", "@": "@&#8203;"}


def safe_json(text: str) -> str:
    """Return JSON with terminal controls as escapes; values stay equal, except tokens."""
    text = tokenless(text)
    if text.isascii() and "\x7f" not in text:
        return text
    return re.sub(OBEYED, lambda match: f"\\u{ord(match[0]):04x}", text)


def safe_markdown(text: str) -> str:
    """Return `text` as Markdown that shows it, without markup, links, images or HTML of its own."""
    return re.sub(MARKS, lambda match: INSTEAD.get(match[0], f"\\{match[0]}"), printable(text))


def spelled_like(
    name: str, known: Iterable[str], most: int = 1, *, least: float = ALIKE
) -> list[str]:
    """Return the known names spelled most like `name`, the nearest first."""
    from difflib import get_close_matches  # what is spelled right does without

    return get_close_matches(name[:SHOWN], [*known], most, least)

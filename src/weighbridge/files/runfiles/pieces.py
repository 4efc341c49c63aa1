"""Machine parts that stand in a text without fences: lines between words and lines of logs. A
text of commands alone has no words, and is a script.
"""

import re
from collections.abc import Iterator, Sequence

from weighbridge.base.sentences import sentence
from weighbridge.files.programs import command_words

MOST_LINES = 400  # lines of one part
MOST_PARTS = 40  # parts of one text, and prefixes of a script that are tried
PROMPT = r"[ \t]*(?:[$%>][ \t]+|!(?=[A-Za-z]))?(?:[A-Za-z_]\w*=\S*[ \t]+)*"
BEFORE = "srun|mpirun|mpiexec|uv|nohup|ray"  # programs that start others, of any task
LAUNCH = re.compile(rf"{PROMPT}(?:{command_words('train', '')}|{BEFORE})[ \t]+[^\s=]")
BEFORE_A_SERVER = "docker|podman|numactl|sudo|setsid|uvx"
SERVES = re.compile(rf"{PROMPT}(?:{command_words('infer')}|{BEFORE_A_SERVER})[ \t]+[^\s=]")
# Shell words that a text may begin with, and those that sentences begin with, too
FIRST = "export set cd source ulimit exec env bash sh module conda mkdir pip"
WITHIN = (
    "read echo if then else fi for do done while case esac wget git sleep exit wait rm cp mv cat "
    "kubectl trap unset local printf hf huggingface-cli"
)
_FIRST, _WORDS = ("|".join(words.split()) for words in (FIRST, f"{FIRST} {WITHIN}"))
BEGINS = re.compile(rf"{PROMPT}(?:[A-Za-z_]\w*=|(?:{_FIRST}|read[ ]-\w+)(?:[ \t;]|$))")
SHELL = re.compile(
    rf"{PROMPT}(?:[A-Za-z_]\w*=|(?:{_WORDS})(?:[ \t;]|$)|--?[A-Za-z]|#"
    r"|[(){};][ \t;\\]*$|[\"']|\\$)"
)
# A comment between two lines of a command: it ends the command there
COMMENTED = re.compile(r"\\\n(?P<comment>[ \t]*#)[^\n]*\n(?=[ \t]*-)")
# A line of any file, but not of prose; and a line of a log
_OF_A_FILE = re.compile(
    r"[\[\]{}(),\"'#@&]|-(?:[ \t-]|$)|[ \t]+\S|[\"']?[a-z_][\w./-]*[\"']?:(?:[ \t]|$)"
    r"|[\w.\"'-]+(?:, ?\w+)*[ \t]*=[ \t]*\S|[\w.]+[(\[]|[A-Z]{3,11}[ \t]+\S"
    r"|(?:from|import|def|class|with|try|else|elif|return)\b"
)
_LOGGED = re.compile(
    r"\d|\[\d|\([A-Z]|[ \t]*(?:\[rank\d|Traceback \(most "
    r"|(?:[\w.]*\.)?\w*(?:Error|Exception|Warning)(?:: |$)|\[?(?:INFO|WARN(?:ING)?|ERROR)\b|ggml_"
    r"|llama_)"
)


def is_command(line: str) -> bool:
    """Return whether a line is a command: it sets a variable, or begins with a shell word or a
    known program."""
    return any(each.match(line) for each in (BEGINS, LAUNCH, SERVES))


def begins_with_a_command(text: str) -> bool:
    """Return whether the first line of a text that is no comment is a command."""
    lines = text.replace("\\\n", " ").splitlines()
    return is_command(next((one for one in lines if one.strip() and one.lstrip()[0] != "#"), ""))


def only_commands(text: str) -> bool:
    """Return whether all lines of a text are shell lines."""
    lines = text.splitlines()[:MOST_LINES]
    return all(_is_shell(lines, n) or not line.strip() for n, line in enumerate(lines))


def cut_short(text: str) -> Iterator[str]:
    """Yield a warning for each comment inside a command, which cuts off its last flags."""
    for match in COMMENTED.finditer(text):
        line = text.count("\n", 0, match.start("comment")) + 1
        yield sentence("command.commented", line=line)


def blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of each block of lines between prose and logs, from 0; it may be a
    file."""
    lines = [*text.split("\n"), "no more"]
    start, within = -1, False  # a traceback
    for n, line in enumerate(lines):
        blank, logged = not line.strip(), _LOGGED.match(line) is not None
        within = logged or (within and line[:1] in (" ", "\t"))
        of_a_file = not within and (_OF_A_FILE.match(line) or _is_shell(lines, n))
        if start < 0 and of_a_file and line[:1] not in (" ", "\t"):
            start = n
        elif start >= 0 and not blank and not of_a_file:
            yield start, n
            start = -1


def has_words(text: str) -> bool:
    """Return whether a text has lines outside of files: prose, a log, fences."""
    lines = text.split("\n")
    for start, end in blocks(text):
        lines[start:end] = [""] * (end - start)
    return any(map(str.strip, lines))


def _is_shell(lines: Sequence[str], start: int) -> bool:
    """Return whether a line is a command, or continues the command above it."""
    line = lines[start]
    goes_on = start > 0 and lines[start - 1].rstrip().endswith("\\")
    return goes_on or any(each.match(line) for each in (LAUNCH, SERVES, SHELL))

"""Machine parts that stand in a text without fences.

    a block     lines between words and lines of logs: a config, a script, a manifest
    a command   from the line where a shell's word begins to the last that is a shell's, with what
                sets variables above it

What is around them are words. A text of commands alone has none, and is a script.
"""

import re
from collections.abc import Iterator, Sequence

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.files.programs import command_words

MOST_LINES = 400  # of one part
MOST_PARTS = 40  # of one text, and ends of a script that are tried
PROMPT = r"[ \t]*(?:[$%>][ \t]+|!(?=[A-Za-z]))?(?:[A-Za-z_]\w*=\S*[ \t]+)*"
BEFORE = "srun|mpirun|mpiexec|uv|nohup|ray"  # what stands before a program, of whatever task
LAUNCH = re.compile(rf"{PROMPT}(?:{command_words('train', '')}|{BEFORE})[ \t]+[^\s=]")
BEFORE_A_SERVER = "docker|podman|numactl|sudo|setsid|uvx"
SERVES = re.compile(rf"{PROMPT}(?:{command_words('infer')}|{BEFORE_A_SERVER})[ \t]+[^\s=]")
# Words of a shell that a text may begin with, and those that people begin a sentence with, too
FIRST = "export set cd source ulimit exec env bash sh module conda mkdir pip"
WITHIN = (
    "read echo if then else fi for do done while case esac wget git sleep exit wait rm cp mv cat "
    "kubectl trap unset local"
)
_FIRST, _WORDS = ("|".join(words.split()) for words in (FIRST, f"{FIRST} {WITHIN}"))
BEGINS = re.compile(rf"{PROMPT}(?:[A-Za-z_]\w*=|(?:{_FIRST}|read[ ]-\w+)(?:[ \t;]|$))")
SHELL = re.compile(
    rf"{PROMPT}(?:[A-Za-z_]\w*=|(?:{_WORDS})(?:[ \t;]|$)|--?[A-Za-z]|#"
    r"|[(){};][ \t;\\]*$|[\"']|\\$)"
)
# A comment between two lines of one command, which ends it there
COMMENTED = re.compile(r"\\\n(?P<comment>[ \t]*#)[^\n]*\n(?=[ \t]*-)")
# A line of a file of whatever kind, and no words; and one of a log, which no file has
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


class MachinePart(NamedTuple):
    """One part: its syntax, or "" where its kind tells; its lines, from 0, the last not in it."""

    syntax: str
    start: int
    end: int


def is_command(line: str) -> bool:
    """Tell whether a line is a command by itself: it sets a variable, or begins with a word of a
    shell or a program."""
    return any(each.match(line) for each in (BEGINS, LAUNCH, SERVES))


def begins_with_a_command(text: str) -> bool:
    """Tell whether the first line of a text is a command, but for comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return is_command(next((one for one in lines if one.strip() and one.lstrip()[0] != "#"), ""))


def only_commands(text: str) -> bool:
    """Tell whether all lines of a text are a shell's."""
    lines = text.splitlines()[:MOST_LINES]
    return all(_is_shell(lines, n) or not line.strip() for n, line in enumerate(lines))


def cut_short(text: str) -> Iterator[str]:
    """Say which comments end a command whose flags go on below them."""
    for match in COMMENTED.finditer(text):
        line = text.count("\n", 0, match.start("comment")) + 1
        yield sentence("command.commented", line=line)


def blocks(text: str) -> Iterator[MachinePart]:
    """Yield the lines between words and lines of logs, which may be a file each."""
    lines = text.split("\n")
    start, within = -1, False  # a traceback
    for n, line in enumerate((*lines, "no more")):
        blank, logged = not line.strip(), _LOGGED.match(line) is not None
        within = logged or (within and line[:1] in (" ", "\t"))
        of_a_file = not within and (_OF_A_FILE.match(line) or _is_shell(lines, n))
        if start < 0 and of_a_file and line[:1] not in (" ", "\t"):
            start = n
        elif start >= 0 and not blank and not of_a_file:
            yield MachinePart("", start, n)
            start = -1


def has_words(text: str) -> bool:
    """Tell whether lines stand in a text that are of no file: words, a log, fences."""
    lines = text.split("\n")
    for block in blocks(text):
        lines[block.start : block.end] = [""] * (block.end - block.start)
    return any(map(str.strip, lines))


def parts(text: str) -> Iterator[MachinePart]:
    """Yield the machine parts of a text, in their order."""
    lines = text.split("\n")
    start = 0
    for _ in range(MOST_PARTS):
        part = next(filter(None, (_part(lines, n) for n in range(start, len(lines)))), None)
        if part is None:
            return
        yield part
        start = part.end


def _part(lines: Sequence[str], start: int) -> MachinePart | None:
    """Return the part that begins at a line; None where none does."""
    if LAUNCH.match(lines[start]) or (SHELL.match(lines[start]) and _leads(lines, start)):
        return MachinePart("shell", start, _end(lines, start))
    return None


def _leads(lines: Sequence[str], start: int) -> bool:
    """Tell whether a line of a shell stands above one of its block that launches a training."""
    end = _end(lines, start)
    return not lines[start].lstrip().startswith("#") and any(map(LAUNCH.match, lines[start:end]))


def _is_shell(lines: Sequence[str], start: int) -> bool:
    """Tell whether a line is a command's, or goes on with the one above it."""
    line = lines[start] if start < len(lines) else "no more"
    goes_on = start > 0 and lines[start - 1].rstrip().endswith("\\")
    return goes_on or any(each.match(line) for each in (LAUNCH, SERVES, SHELL))


def _end(lines: Sequence[str], start: int) -> int:
    """Return where the lines of a shell end: an empty one is among them, two are not."""
    end = start + 1
    for n in range(start + 1, min(len(lines), start + MOST_LINES)):
        if _is_shell(lines, n):
            end = n + 1
        elif lines[n].strip() or n > end:
            break
    return end

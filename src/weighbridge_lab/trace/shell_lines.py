"""Commands that a text tells a shell, and that start Python: on lines of their own, in inline code,
behind `cd`, within loops, by runners of environments, in shell scripts and Makefiles that are here.

    cd src && CUDA_VISIBLE_DEVICES=0 nohup uv run python -u train.py --x 1 > log 2>&1 &
    `python train.py`       !python train.py       bash scripts/train.sh
    for s in 1 2; do python train.py --seed $s; done
    make train         ./train.py
    deepspeed --num_gpus 8 train.py --x 1       -> torchrun --nproc-per-node 8 train.py --x 1

Nothing is run. A line of more than LONGEST signs is none that people type. Torch-free.
"""

import re
import shlex
from collections.abc import Iterator, Sequence

from weighbridge.base.records import NamedTuple

LONGEST = 4096  # characters of a line
SETS = re.compile(r"[A-Za-z_]\w*=\S*")
PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?")
INLINE = re.compile(r"`([^`\n]+)`")
PROMPT = re.compile(r"^[\s$>!%#]*(?=[\w./])")
ENDS = ("&&", "||", ";", "|", "&")
WORDS_OF_LOOPS = ("do", "then", "else", "time", "exec", "nohup", "sudo", "env", "command")
RUNNERS = ("uv", "poetry", "pipenv", "pdm", "hatch", "rye", "pixi", "conda")  # with run
VALUED = ("-n", "--name", "-p", "--prefix", "--extra", "--with", "--group", "--python", "-e")
SHELLS = ("bash", "sh", "zsh", "source", ".")
OTHERS = ("pip", "venv", "build", "pytest", "unittest", "http.server", "ipykernel")  # after -m
SCRIPTS = (".py", ".ipynb")


class ShellCommand(NamedTuple):
    """A command: the folder in which it is started, and its words; or a shell script."""

    folder: str
    words: tuple[str, ...]

    @property
    def shell_script(self) -> str:
        """Return the shell script that the command starts; "" for Python."""
        first, *others = self.words
        named = others[0] if first in SHELLS and others else first
        return named if named.endswith(".sh") else ""

    @property
    def rule(self) -> str:
        """Return the Makefile rule that the command runs; "" without one."""
        return self.words[1] if self.words[0] == "make" and len(self.words) > 1 else ""


def commands(line: str) -> Iterator[ShellCommand]:
    """Yield the commands in a line that start Python or shell scripts."""
    if len(line) > LONGEST:
        return
    inline = INLINE.findall(line)
    for text in inline or [line]:
        yield from _commands_of_line(PROMPT.sub("", text))


def _commands_of_line(text: str) -> Iterator[ShellCommand]:
    folder = ""
    for words in _parted(text):
        started = _bare(words)
        if started[:1] == ("cd",) and len(started) > 1:
            folder = f"{folder}/{started[1]}".strip("/")
        elif started and _starts(started):
            yield ShellCommand(folder, _launched(started))


def _parted(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the commands in a line as words, without redirections."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if word in ENDS:
                yield tuple(words)
                words = []
            else:
                words.append(word)
    except ValueError:  # a quote without its end
        return
    yield tuple(words)


def _bare(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command without variables, environment runners, and redirected output."""
    cut = next((i for i, word in enumerate(words) if set(word) & set("<>")), len(words))
    left = list(words[:cut])
    while cut < len(words) and left and left[-1].isdigit():  # 2> of a file
        left.pop()
    while left:
        if SETS.fullmatch(left[0]) or left[0] in WORDS_OF_LOOPS:
            left.pop(0)
        elif left[0] in RUNNERS and left[1:2] == ["run"]:
            del left[:2]
            while left and left[0].startswith("-"):
                del left[: 2 if left[0] in VALUED else 1]
            if left and left[0].endswith(SCRIPTS):  # uv run train.py
                left.insert(0, "python")
        elif left[0].startswith("./") and left[0].endswith(SCRIPTS):  # its first line names Python
            left[:1] = ["python", left[0][2:]]
        else:
            break
    return tuple(left)


def _starts(words: Sequence[str]) -> bool:
    """Return whether a command starts a program of the repository."""
    first, *others = words
    command = ShellCommand("", tuple(words))
    if command.shell_script or command.rule:
        return True
    if "-c" in others[:2] or any(f"setup{end}" in others for end in SCRIPTS):
        return False
    module = others[others.index("-m") + 1] if "-m" in others[:-1] else ""
    if module.partition(".")[0] in OTHERS or module in OTHERS:
        return False
    launches = first in ("torchrun", "deepspeed") or (first == "accelerate" and "launch" in others)
    runs = any(word.endswith(SCRIPTS) for word in others) or bool(module)
    return runs and (launches or bool(PYTHON.fullmatch(first)))


def _launched(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the line in the form that trace reads: torchrun instead of deepspeed's launcher."""
    if words[0] != "deepspeed":
        return words
    script = next(i for i, word in enumerate(words) if word.endswith(SCRIPTS) or word == "-m")
    flags = " ".join(words[1:script]).replace("=", " ").split()
    count = next((flags[i + 1] for i, flag in enumerate(flags[:-1]) if flag == "--num_gpus"), "")
    return ("torchrun", "--nproc-per-node", count or "1", *words[script:])

"""Scripts on a screen: only the few statements that decide, one line each; the file has all of it.

    packed = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", ...)
    lora = LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    args = SFTConfig(per_device_train_batch_size=1, max_length=2048, ...)

A script begins with its docstring, whose first indented line is the command that starts it; the
first paragraph after a comment line has the statements that decide.
"""

from collections.abc import Iterator

from weighbridge.base.wording import printable_lines
from weighbridge.base.words import Words
from weighbridge.faces.view.records import Block, Note, Paste

MOST = 3  # most statements on a screen
WIDE = 79  # most columns of a statement
INDENT = "    "
REST = ", ...)"


def is_script(text: str) -> bool:
    return text.startswith('"""')


def shown(say: Words, heading: str, script: str, flags: str = "") -> tuple[Block, ...]:
    """Return blocks with the deciding lines of a script, and the command that writes and starts it;
    on a page the complete script, without a command line. `flags`: options of a change, to type
    before --save."""
    safe = printable_lines(script)
    if say.page:
        return Paste(heading, safe, "python"), Note(say("script.start", start=start(safe)))
    typed = " ".join(filter(None, (flags, "--save train.py")))
    started = start(safe)
    note = say("script.save", flags=typed, start=started)
    last = Note(note) if len(note) <= WIDE else Paste(say("script.then", flags=typed), started)
    return Paste(heading, "\n".join(telling(safe)), "python"), last


def start(script: str) -> str:
    """Return the command that starts a script, from the script's docstring."""
    return next(line.strip() for line in script.splitlines() if line.startswith(INDENT))


def telling(script: str) -> tuple[str, ...]:
    """Return the first deciding statements of a script, each cut to one line."""
    paragraph = next(p for p in script.split("\n\n") if p.startswith("# "))
    calls = (lines for lines in _statements(paragraph) if _is_deciding(lines[0]))
    return tuple(_on_one_line(lines) for lines, _ in zip(calls, range(MOST), strict=False))


def _is_deciding(line: str) -> bool:
    """Return whether a statement, by its first line, assigns the result of a call or sets the
    environment."""
    return " = " in line and ("(" in line or line.startswith("os.environ["))


def _statements(paragraph: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in paragraph.splitlines():
        if lines and not line.startswith((" ", ")", "}")):
            yield lines
            lines = []
        lines.append(line)
    yield lines


def _on_one_line(lines: list[str]) -> str:
    """Return a call as one line of at most `WIDE` columns, with "..." for arguments that do not
    fit."""
    if len(lines) == 1:
        return lines[0]
    first, *others = (line.strip().rstrip(",") for line in lines[1:-1])
    text = lines[0] + first
    for argument in others:
        if len(text) + len(argument) + len(REST) + 2 > WIDE:
            return text + REST
        text += f", {argument}"
    return f"{text})"

"""Files in a text, between fences or not, each read by the reader of its kind, as a file is.

Here is my config:            the run of an axolotl config, at the lines of the text
```yaml
base_model: org/name
adapter: lora
```
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.kinds import SYNTAXES, kinds
from weighbridge.files.runfiles.pieces import MOST_PARTS, SERVES, blocks
from weighbridge.files.runfiles.record import Kind, PlannedRun

FENCE = re.compile(
    r"(?P<fence>```|^[ \t]*~~~)[ \t]*(?P<syntax>\w*)[^\n`]*\n(?P<text>.*?)(?:(?P=fence)|\Z)",
    re.DOTALL | re.MULTILINE,
)
WRITTEN: Mapping[str, str] = {  # the word behind a fence -> its syntax
    **dict.fromkeys(("yaml", "yml"), "yaml"),
    **dict.fromkeys(("json", "jsonc", "json5"), "json"),
    "toml": "toml",
    **dict.fromkeys(("python", "py", "python3"), "python"),
    **dict.fromkeys(("bash", "sh", "shell", "zsh", "console"), "shell"),
    **dict.fromkeys(("modelfile", "dockerfile"), "modelfile"),
}
OF_A_NOTEBOOK = re.compile(r"(?m)^([ \t]*)!(?=[A-Za-z])")  # the ! before a notebook's shell command
ELSEWHERE = ("text", "command")  # kinds that are searched for in the whole text
TOLD = tuple(each for each in SYNTAXES if each != "text")  # syntaxes of a file within a text
PARTS = ("deepspeed", "accelerate")  # kinds that are a part of a run
BROKEN = "what stands between fences here is no {syntax} that can be read: {why}"


class FencedFile(NamedTuple):
    """Text between two fences at its original line numbers, and its syntax if stated. `start` and
    `end`: characters in the whole text."""

    syntax: str
    text: str
    start: int
    end: int


class FencedRuns(NamedTuple):
    """The runs of a text's files, notes on files that could not be read, and the prose around
    them."""

    runs: tuple[PlannedRun, ...]
    notes: tuple[str, ...]
    words: str


def read(text: str, name: str) -> FencedRuns:
    """Return the runs of the files in a text; partial configs fill in what the other files do not
    state."""
    whole: list[PlannedRun] = []
    parts: list[PlannedRun] = []
    notes: list[str] = []
    spans: list[FencedFile] = []
    for file in _files(text):
        try:
            kind, runs = _read(file, name)
        except BadFileError as error:
            line = text.count("\n", 0, file.start) + 1
            problem = " ".join(str(error).removeprefix(f"{name}:").split())
            notes.append(f"line {line}: {BROKEN.format(syntax=file.syntax, why=problem)}")
            continue
        (parts if kind in PARTS else whole).extend(runs)
        spans += [file] if runs else []
    runs = tuple(_with_partial_configs(run, parts) for run in whole) or tuple(parts[:1])
    return FencedRuns(runs, tuple(notes), _without_read_files(text, spans))


def without(text: str) -> str:
    """Return a text with its fenced blocks blanked; line numbers stay."""
    return FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _files(text: str) -> list[FencedFile]:
    """Return the files of a text; if Python comes in several blocks, they are one script."""
    files = [*_fenced(text), *_unfenced(text)]
    pieces = [file for file in files if file.syntax == "python"]
    if len(pieces) < 2 or any(_kind_of(file, ("python",)) for file in pieces):
        return files
    return [*(file for file in files if file not in pieces), _joined(pieces)]


def _fenced(text: str) -> Iterator[FencedFile]:
    """Yield the fenced files, each at its original line numbers."""
    for match in FENCE.finditer(text):
        syntax = WRITTEN.get(match["syntax"].lower(), "")
        dedented = OF_A_NOTEBOOK.sub(r"\1", textwrap.dedent(match["text"]))
        above = "\n" * text.count("\n", 0, match.start("text"))
        yield FencedFile(syntax, above + dedented, match.start("text"), match.end("text"))


def _joined(pieces: Sequence[FencedFile]) -> FencedFile:
    """Return several blocks as one script, each line at its original number."""
    lines: dict[int, str] = {}
    for file in pieces:
        lines |= {n: line for n, line in enumerate(file.text.split("\n")) if line.strip()}
    script = "\n".join(lines.get(n, "") for n in range(max(lines, default=0) + 1))
    return FencedFile("python", script, pieces[0].start, pieces[-1].end)


def _unfenced(text: str) -> Iterator[FencedFile]:
    """Yield the unfenced blocks that some kind recognizes."""
    plain = FENCE.sub(_as_plain_lines, text)
    lines = plain.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    for start, end in islice(blocks(plain), MOST_PARTS):
        while start < end and (SERVES.match(lines[start]) or lines[start - 1].endswith("\\")):
            start += 1  # server commands are searched for in the whole text
        dedented = OF_A_NOTEBOOK.sub(r"\1", textwrap.dedent("\n".join(lines[start:end])))
        file = FencedFile("", "\n" * start + dedented, starts[start], starts[end] - 1)
        if _kind_of(file, TOLD):
            yield file


def _as_plain_lines(match: re.Match[str]) -> str:
    """Return a fenced block as plain lines if its syntax is unknown and no kind recognizes it; else
    blanks."""
    whole = FencedFile("", textwrap.dedent(match["text"]), 0, 0)
    begin, end = match.start("text") - match.start(), match.end("text") - match.start()
    if match["syntax"].lower() in WRITTEN or _kind_of(whole, TOLD):
        begin = end
    blank = re.sub(r"[^\n]", " ", match[0])
    return blank[:begin] + match[0][begin:end] + blank[end:]


def _read(file: FencedFile, name: str) -> tuple[str, Sequence[PlannedRun]]:
    """Return (kind, runs) of a file; "" and () if no kind recognizes it. Raises BadFileError if it
    is malformed in its stated syntax."""
    recognized = _kind_of(file, (*filter(None, (file.syntax,)), *TOLD))
    if recognized is not None:
        return recognized[0].name, tuple(_runs(recognized[0], file, recognized[1], name))
    if file.syntax not in ("", "shell"):
        documents(file.text, file.syntax, name)
    return "", ()


def _kind_of(file: FencedFile, syntaxes: Sequence[str]) -> tuple[Kind, str] | None:
    """Return (kind, syntax) of a file; None if no kind recognizes it in one of `syntaxes`."""
    for syntax in syntaxes:
        try:
            pieces = documents(file.text.strip("\n"), syntax)
        except BadFileError:
            continue
        among = (k for k in kinds() if k.name not in ELSEWHERE and syntax in k.syntaxes)
        for each in among:
            if any(map(each.tells, pieces)):
                return each, syntax
    return None


def _runs(each: Kind, file: FencedFile, syntax: str, name: str) -> Iterator[PlannedRun]:
    """Yield a file's runs without the places of values, since texts are never changed."""
    try:
        for piece in documents(file.text, syntax, name):
            for run in each.read(piece):
                plain = tuple(replace(one, start=0, end=0) for one in run.understood)
                yield replace(run, understood=plain)
    except UsageError as error:
        yield PlannedRun(task="train", refused=error.line)


def _with_partial_configs(run: PlannedRun, parts: Sequence[PlannedRun]) -> PlannedRun:
    """Return a training run with its missing settings from partial configs: how ranks shard the
    model."""
    for part in parts if run.task == "train" else ():
        more = {n: v for n, v in part.settings.items() if n not in run.settings}
        if "shard" in part.settings and run.settings.get("shard") in (None, "ddp"):
            more["shard"] = part.settings["shard"]
        taken = tuple(one for one in part.understood if one.setting in more)
        run = replace(
            run,
            settings={**run.settings, **more},
            understood=(*run.understood, *taken),
            unread=(*run.unread, *part.unread),
        )
    return run


def _without_read_files(text: str, files: Sequence[FencedFile]) -> str:
    """Return a text with the files that were read blanked; line numbers stay."""
    for file in files:
        inner = re.sub(r"[^\n]", " ", text[file.start : file.end])
        text = text[: file.start] + inner + text[file.end :]
    return text

"""A Jupyter notebook -> what its code cells say: a Python script, and the shell lines in it.

    !pip install unsloth                          a line of the shell; in the script it is `pass`
    %%capture                                     a magic, which says nothing of a run
    %env NAME=value                               set for what follows, of Python and of the shell
    model, tokenizer = FastLanguageModel...       the script

Cells that are no Python even so are left out and told. Nothing is run. Lines are those of the file,
where its JSON has them: an editor and a review open it there.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.document import Document, Path, documents
from weighbridge.files.runfiles.record import PlannedRun

SUFFIX = ".ipynb"
MOST_CELLS = 2000
MOST_TOLD = 6  # cells that the note names
# IPython syntax: magics, shell lines, help, and assignments from them
MAGIC = re.compile(r"^(\s*)(?:[\w, ]+=\s*)?(?:!|%{1,2}[A-Za-z]|\?).*$|^(\s*)[\w.]+\?{1,2}\s*$")
SHELL = re.compile(r"^\s*!+\s*(.+)$")
ENV = re.compile(
    r"^\s*%(?:set_)?env\s+(?P<name>[A-Za-z_]\w*)(?:\s*=\s*|\s+)(?P<value>[^\s${}'\"]+)\s*$"
)
ENTIRE = re.compile(r"^%%(\w+)")  # a magic of its whole cell
FILE = re.compile(r"^%%(?:writefile|file)\s+(?P<more>-a\s+)?['\"]?(?P<path>[^'\"]+?)['\"]?\s*$")
PYTHON = ("capture", "time", "timeit", "prun")  # magics with Python below them
SHELLS = ("bash", "sh", "shell", "script")


class Code(NamedTuple):
    """Text in one syntax, and the line in the file of each of its lines."""

    syntax: str
    text: str
    lines: tuple[int, ...]


class Notebook(NamedTuple):
    """The code of a notebook's cells. `left_out`: numbers of code cells, from 1, that are neither
    Python nor shell."""

    codes: tuple[Code, ...]
    left_out: tuple[int, ...]


class Line(NamedTuple):
    """A line of a cell, and its line in the file."""

    text: str
    number: int


def opened(text: str, name: str, *, writes: bool = False) -> Notebook | None:
    """Return a text as a notebook, None if it is none. `writes`: include files that cells write
    (%%writefile). Raises BadFileError for too many cells."""
    document = _document(text, name)
    if document is None:
        return None
    cells = document.data["cells"]
    if len(cells) > MOST_CELLS:
        raise BadFileError(sentence("file.cells", most=MOST_CELLS), where=name)
    script, shell, left_out = [], [], []
    places = [n for n, cell in enumerate(cells) if cell.get("cell_type") == "code"]
    for number, place in enumerate(places, start=1):
        lines = list(_lines(document, ("cells", place, "source"), cells[place].get("source")))
        python = (
            _written(lines) if writes and lines and FILE.match(lines[0].text) else _python(lines)
        )
        if python is None:
            left_out.append(number)
        script += python or []
        shell += list(_shell(lines))
    codes = tuple(filter(lambda code: code.text, (_code("python", script), _code("shell", shell))))
    return Notebook(codes, tuple(left_out))


def _document(text: str, name: str) -> Document | None:
    """Return a text's JSON if it has notebook cells, None for other texts."""
    if not text.lstrip().startswith("{") or '"cells"' not in text:
        return None
    try:
        document = documents(text, "json", name)[0]
    except BadFileError:
        return None  # the JSON reader reports what is wrong
    cells = document.data.get("cells")
    if not isinstance(cells, list) or not all(isinstance(each, dict) for each in cells):
        return None
    return document if any("cell_type" in each for each in cells) else None


def placed(run: PlannedRun, code: Code, book: Notebook) -> PlannedRun:
    """Return a run with line numbers of the notebook's file, and a note on cells left out."""

    def line(number: int) -> int:
        return code.lines[number - 1] if 0 < number <= len(code.lines) else 0

    notes = run.notes
    if book.left_out:
        lines_left = ", ".join(map(str, book.left_out[:MOST_TOLD]))
        more = " and more" if len(book.left_out) > MOST_TOLD else ""
        notes = (
            *notes,
            f"code cells of the notebook that are no Python are left out: {lines_left}{more}",
        )
    return replace(
        run,
        understood=tuple(
            replace(one, line=line(one.line), start=0, end=0) for one in run.understood
        ),
        unread=tuple(replace(one, line=line(one.line)) for one in run.unread),
        notes=notes,
    )


def _lines(document: Document, path: Path, source: Any) -> Iterator[Line]:
    """Yield the lines of a cell, whose source is a text or a list of lines."""
    if isinstance(source, str):
        place = document.place(path).line
        yield from (Line(each, place) for each in source.split("\n"))
    elif isinstance(source, list):
        for number, part in enumerate(source):
            place = document.place((*path, number)).line
            yield from (Line(each, place) for each in str(part).removesuffix("\n").split("\n"))


def _python(lines: list[Line]) -> list[Line] | None:
    """Return a cell's lines as Python; [] for a shell cell, None if it is neither."""
    entire = ENTIRE.match(lines[0].text) if lines else None
    if entire and entire[1] in SHELLS:
        return []
    if entire and entire[1] not in PYTHON:
        return None
    if _parses(lines):
        return lines
    plain = list(_without_magic(lines))
    return plain if _parses(plain) else None


def _written(lines: list[Line]) -> list[Line]:
    """Return a %%writefile cell as Python that writes the file, line by line."""
    head = FILE.match(lines[0].text)
    mode, path = ("a" if head and head["more"] else "w"), head["path"] if head else ""
    content = "\n".join(line.text for line in lines[1:]) + "\n"
    first = f"with open({path!r}, {mode!r}) as _file: _file.write({content!r})"
    return [Line(first, lines[0].number), *(Line("", line.number) for line in lines[1:])]


def _without_magic(lines: list[Line]) -> Iterator[Line]:
    """Yield a cell's lines with magics and shell lines replaced by Python."""
    goes_on = False
    for line in lines:
        magic = MAGIC.match(line.text)
        if goes_on:
            yield Line("", line.number)
        elif magic:
            yield Line(f"{magic[1] or magic[2] or ''}{_statement(line)}", line.number)
        else:
            yield line
            continue
        goes_on = line.text.rstrip().endswith("\\")


def _statement(line: Line) -> str:
    """Return a magic or shell line as Python: the variable it sets, else `pass`."""
    variable = ENV.match(line.text)
    if variable is None:
        return "pass"
    return f"__import__('os').environ[{variable['name']!r}] = {variable['value']!r}"


def _shell(lines: list[Line]) -> Iterator[Line]:
    """Yield a cell's shell lines: those after `!`, variables of `%env`, or a whole `%%bash`
    cell."""
    entire = ENTIRE.match(lines[0].text) if lines else None
    if entire and entire[1] in SHELLS:
        yield from lines[1:]
        return
    goes_on = False
    for line in lines:
        command = SHELL.match(line.text)
        variable = None if goes_on else ENV.match(line.text)
        if variable:
            yield Line(f"export {variable['name']}={variable['value']}", line.number)
        elif goes_on or command:
            yield Line(line.text if goes_on or command is None else command[1], line.number)
            goes_on = line.text.rstrip().endswith("\\")


def _parses(lines: list[Line]) -> bool:
    try:
        ast.parse("\n".join(line.text for line in lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _code(syntax: str, lines: list[Line]) -> Code:
    return Code(
        syntax, "\n".join(line.text for line in lines), tuple(line.number for line in lines)
    )

"""Notebooks as one program: the Python of their code cells."""

import json
import linecache
from collections.abc import Sequence

from weighbridge.base.errors import BadFileError
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.notebook import SUFFIX as SUFFIX
from weighbridge.files.runfiles.notebook import opened


def _parsed(content: bytes, left_out: Sequence[int], path: str) -> None:
    """Raise the SyntaxError of a cell that is not Python, unless a magic says that it is not."""
    cells = [c for c in json.loads(content)["cells"] if c.get("cell_type") == "code"]
    for number in left_out:
        text = "".join(cells[number - 1]["source"])
        if not text.lstrip().startswith("%%"):
            compile(text, f"{path}, code cell {number}", "exec")


def source(content: bytes, path: str) -> bytes:
    """Return a notebook's program. If its file has one line per line of the program, they keep
    these numbers, so that places are those in an editor. Raises BadFileError."""
    notebook = opened(content.decode(errors="replace"), path, writes=True)
    if notebook is None:
        raise BadFileError(sentence("trace.notebook", path=path))
    code = next((code for code in notebook.codes if code.syntax == "python"), None)
    if code is None:
        raise BadFileError(sentence("trace.notebook", path=path))
    _parsed(content, notebook.left_out, path)
    lines = code.text.splitlines()
    if len(set(code.lines)) == len(lines) == len(code.lines):
        placed = dict(zip(code.lines, lines, strict=True))
        lines = [placed.get(number, "") for number in range(1, max(code.lines) + 1)]
    text = "\n".join(lines) + "\n"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    return text.encode()

"""Notebooks, as one program of what their code cells say in Python."""

import linecache

from weighbridge.base.errors import BadFileError
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.notebook import SUFFIX as SUFFIX
from weighbridge.files.runfiles.notebook import opened


def source(content: bytes, path: str) -> bytes:
    """Return a notebook's program; where its file has a line for each of the program's, at these
    lines, so that places are those of an editor. Raises BadFileError."""
    notebook = opened(content.decode(errors="replace"), path)
    if notebook is None:
        raise BadFileError(sentence("trace.notebook", path=path))
    code = next((code for code in notebook.codes if code.syntax == "python"), None)
    if code is None:
        raise BadFileError(sentence("trace.notebook", path=path))
    lines = code.text.splitlines()
    if len(set(code.lines)) == len(lines) == len(code.lines):
        placed = dict(zip(code.lines, lines, strict=True))
        lines = [placed.get(number, "") for number in range(1, max(code.lines) + 1)]
    text = "\n".join(lines) + "\n"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    return text.encode()

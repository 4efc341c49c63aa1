"""Files that a shell script writes before it starts what reads them.

    cat > dataset.toml << 'EOF'       up to EOF; so with `tee`, and with >> what comes behind
    echo 'batch_size = 4' >> a.toml   one text in quotes; so with `printf`

What the script sets stands in place of its variables, but where EOF is quoted.
"""

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import takewhile

from weighbridge.base.records import NamedTuple

# `program <<EOF more`: lines up to EOF are a text that the program reads
GIVEN = re.compile(
    r"^(?P<program>[^#(]*?)(?<!<)<<-?[ \t]*(?P<quote>['\"]?)(?P<end>[A-Za-z_]\w*)(?P=quote)"
)
TARGET = re.compile(
    r"(?P<way>>>?|\btee(?: -a)?)[ \t]*(?P<quote>[\"']?)(?P<name>[^\s\"'<>|;&]+)(?P=quote)"
)
SAID = re.compile(
    r"^[ \t]*(?:echo|printf)(?: -[ne]{1,2})? (?P<quote>[\"'])(?P<text>[^\"'\n]*)(?P=quote)"
    r"[ \t]*(?P<to>>.*)$"
)
LONGEST = 1 << 18  # characters of a script: the limit of arrays.py for variables


class Heredoc(NamedTuple):
    """A heredoc: `line` names the program that reads it, `text` is its content."""

    line: str
    text: str
    quoted: bool
    shifted: bool  # leading tabs are taken off


def lines_of(text: str) -> Iterator[str | Heredoc]:
    """Yield each line of a script with its line end; heredocs as records."""
    lines = iter(text.splitlines(keepends=True))
    for line in lines:
        given = GIVEN.match(line)
        if given is None:
            yield line
        else:
            body = "".join(takewhile(partial(_goes_on, given["end"]), lines))
            yield Heredoc(line, body, bool(given["quote"]), "<<-" in line)


def _goes_on(end: str, line: str) -> bool:
    return line.strip() != end


def written(script: str, name: str) -> str | None:
    """Return what a script writes into the file `name`, None if it does not write it."""
    if len(script) > LONGEST or not ("<<" in script or "echo" in script or "printf" in script):
        return None
    return _files(script).get(name.removeprefix("./"))


@lru_cache(maxsize=8)
def _files(script: str) -> dict[str, str]:
    """Return the files that a script writes, by name. Quoted heredocs stay unchanged; in others the
    variables are filled in."""
    from weighbridge.files.runfiles.training.arrays import (
        filled_in,
        taken,
    )  # reads what lies beside

    files: dict[str, str] = {}
    both = zip(lines_of(taken(script)), lines_of(filled_in(script)), strict=False)
    for plain, filled in both:
        if isinstance(plain, Heredoc) and isinstance(filled, Heredoc):
            text = plain.text if plain.quoted else filled.text
            _write(files, filled.line, re.sub(r"(?m)^\t+", "", text) if plain.shifted else text)
        elif isinstance(filled, str) and (said := SAID.match(filled)):
            _write(files, said["to"], said["text"].replace("\\n", "\n") + "\n")
    return files


def _write(files: dict[str, str], line: str, text: str) -> None:
    targets = [m for m in TARGET.finditer(line) if not m["name"].startswith("/dev/")]
    for target in targets[:1]:
        name = target["name"].removeprefix("./")
        before = files.get(name, "") if target["way"] in (">>", "tee -a") else ""
        files[name] = before + text

"""Lines to paste for a Modelfile that somebody has: what they change is put into a copy of it, so
that its other lines stay (Ollama docs/modelfile.mdx).
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.files.runfiles.serving.modelfile import COUNTS

MADE = re.compile(r"printf '(?P<lines>FROM [^']*)' > Modelfile")
SERVE = re.compile(r"(?m)^(?:OLLAMA_\S+ )+ollama serve & sleep 5")


def lines(paste: str, text: str, path: str, name: str, change: Mapping[str, Any]) -> str:
    """Return lines that start the user's Modelfile with a change; `paste` creates the changed
    copy."""
    served = SERVE.search(paste)
    printf = MADE.search(paste)
    old_lines = printf["lines"].split("\\n") if printf is not None else []
    wanted = dict(filter(None, map(_pair, old_lines)))
    if "context" in change:
        wanted["PARAMETER num_ctx"] = str(change["context"])
    edits = list(_edits(text, wanted))
    file = f"{name}.Modelfile" if edits else path
    parts = [served[0]] if served is not None else []
    parts += [_copy(edits, path, file)] if edits else []
    return "\n".join((*parts, f"ollama create {name} -f {shlex.quote(file)}", f"ollama run {name}"))


def _pair(line: str) -> tuple[str, str] | None:
    """Return the key and value of a Modelfile's line."""
    key, _, value = line.rpartition(" ")
    return (key, value) if key == "FROM" or key.rpartition(" ")[2] in COUNTS else None


def _edits(text: str, wanted: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Yield (key, value, present): what to set in a text, and whether a line already has the
    key."""
    for key, value in wanted.items():
        pattern = r"(?im)^[ \t]*" + r"[ \t]+".join(map(re.escape, key.split())) + r"[ \t]+(\S+)"
        parameter = re.search(pattern, text)
        if parameter is None or parameter[1] != value:
            yield key, value, parameter is not None


def _copy(edits: list[tuple[str, str, bool]], path: str, file: str) -> str:
    changed = [f"-e 's|^{key} .*|{key} {value}|'" for key, value, there in edits if there]
    added = [f"echo '{key} {value}'" for key, value, there in edits if not there]
    first = (
        " ".join(("sed", *changed, shlex.quote(path))) if changed else f"cat {shlex.quote(path)}"
    )
    whole = "; ".join((first, *added))
    return f"{{ {whole}; }} > {shlex.quote(file)}" if added else f"{whole} > {shlex.quote(file)}"

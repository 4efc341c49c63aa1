"""llama-swap's YAML: a command for each model that it may start.

Source: https://github.com/mostlygeek/llama-swap, config.example.yaml (models.NAME.cmd, macros).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.serving.lines import of_text

NESTED = 5  # macros within macros


def tells(document: Document) -> bool:
    """Return whether a document has models with a `cmd`."""
    data = document.data
    models = data.get("models") if isinstance(data, dict) else None
    return isinstance(models, dict) and any(
        isinstance(each, dict) and "cmd" in each for each in models.values()
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each model; one that the user's own script starts has no estimate."""
    if not tells(document):
        return
    macros = document.data.get("macros")
    for name, model in document.data["models"].items():
        if not isinstance(model, dict) or not isinstance(model.get("cmd"), str):
            continue
        variables = {
            **(macros if isinstance(macros, dict) else {}),
            **_own_macros(model),
            "MODEL_ID": name,
        }
        text = _filled(model["cmd"], variables)
        line = document.place(("models", str(name), "cmd")).line
        yield from of_text(text, name=str(name), line=line)


def _own_macros(model: Mapping[str, Any]) -> Mapping[str, Any]:
    macros = model.get("macros")
    return macros if isinstance(macros, dict) else {}


def _filled(text: str, macros: Mapping[str, Any]) -> str:
    """Return a command with its macros filled in, on one line, since llama-swap splits it at any
    blank."""
    text = re.sub(r"(?m)^[ \t]*#.*$", "", text)
    for _ in range(NESTED):
        text = re.sub(r"\$\{([\w-]+)\}", lambda m: str(macros.get(m[1], m[0])).strip(), text)
    return " ".join(text.replace("${PORT}", "8080").replace("\\\n", " ").split())


KIND = Kind(
    name="llama-swap",
    title=sentence("title.config", program="llama-swap"),
    syntaxes=("yaml",),
    source="https://github.com/mostlygeek/llama-swap/blob/main/config.example.yaml",
    tells=tells,
    read=read,
)

"""Flags of a launch line, changed in the values of vLLM's production-stack: by a key of vllmConfig
where it has one, else in its extraArgs.
"""

from collections.abc import Sequence
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.files.runfiles.document import Document, Path, documents
from weighbridge.files.runfiles.record import PlannedRun
from weighbridge.files.runfiles.serving.kubernetes import SPECS, STACK

KEYS = {flag: key for key, flag in STACK.items()}
CONFIG, EXTRA = "vllmConfig", "extraArgs"


def changed(text: str, run: PlannedRun, wanted: Sequence[tuple[str, str]]) -> str:
    """Return chart values with flags changed; "" for another kind of text, or if a flag has no
    place."""
    for name, value in wanted:
        try:
            document = documents(text, "yaml")[0] if SPECS in text else None
        except (BadFileError, IndexError):
            return ""
        path = _config(document, run.model) if document is not None else ()
        if document is None or not path:
            return ""
        text = _key(document, path, KEYS[name], value) if name in KEYS else ""
        text = text or _extra(document, path, [word for word in (name, value) if word])
    return text


def _config(document: Document, model: str) -> Path:
    """Return the path of the model's vllmConfig if it is a block mapping; else ()."""
    specs = document.data.get(SPECS) if isinstance(document.data, dict) else None
    models = specs.get("modelSpec") if isinstance(specs, dict) else None
    for number, each in enumerate(models if isinstance(models, list) else ()):
        if isinstance(each, dict) and each.get("modelURL") == model:
            path: Path = (SPECS, "modelSpec", number, CONFIG)
            place = document.places.get(path)
            return path if place is not None and not place.end and each.get(CONFIG) else ()
    return ()


def _key(document: Document, path: Path, key: str, value: str) -> str:
    place = document.places.get((*path, key))
    if place is not None and place.end:
        return document.text[: place.start] + value + document.text[place.end :]
    return _line_in(document, path, f"{key}: {value}")


def _line_in(document: Document, path: Path, line: str) -> str:
    """Return the text with `line` inserted before the first key of a mapping."""
    first = min(p.line for each, p in document.places.items() if each[:-1] == path)
    lines = document.text.split("\n")
    indent = lines[first - 1][: len(lines[first - 1]) - len(lines[first - 1].lstrip())]
    return "\n".join((*lines[: first - 1], f"{indent}{line}", *lines[first - 1 :]))


def _extra(document: Document, path: Path, words: Sequence[str]) -> str:
    """Return the text with a flag in extraArgs changed or added."""
    value: Any = document.data
    for part in path:
        value = value[part]
    args = value.get(EXTRA)
    items = [f'"{word}"' for word in words]
    if not args:
        empty = EXTRA not in value
        return _line_in(document, path, f"{EXTRA}: [{', '.join(items)}]") if empty else ""
    number = list(map(str, args)).index(words[0]) + 1 if words[0] in args else 0
    if number and len(words) > 1 and number < len(args):
        place = document.places[(*path, EXTRA, number)]
        return document.text[: place.start] + items[1] + document.text[place.end :]
    return _behind(document, (*path, EXTRA), len(args) - 1, items)


def _behind(document: Document, path: Path, last: int, items: Sequence[str]) -> str:
    """Return the text with items added at the end of a list, in its style."""
    place, whole = document.places[(*path, last)], document.places[path]
    if whole.end:  # [a, b]
        return (
            document.text[: place.end]
            + "".join(f", {i}" for i in items)
            + (document.text[place.end :])
        )
    lines = document.text.split("\n")
    indent = lines[place.line - 1].partition("-")[0]
    new = [f"{indent}- {item}" for item in items]
    return "\n".join((*lines[: place.line], *new, *lines[place.line :]))

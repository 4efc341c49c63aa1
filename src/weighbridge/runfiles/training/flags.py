"""The words of a command -> a document: flags are its keys, as a config has them.

mapping(["--bf16", "True", "--lora-r=8", "--packing"]) -> {"bf16": True, "lora_r": 8, ...}
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.runfiles.document import Document, Path, Place

FLAG = re.compile(r"--?([A-Za-z][\w.\-]*)(?:=(.*))?", re.DOTALL)
COMPUTED = "$computed"  # read as any other variable
WORDS = {"true": True, "false": False, "none": None, "null": None}


def mapping(words: Sequence[str]) -> dict[str, Any]:
    """Return the flags of a command with their values: several make a list, and none is true."""
    found: dict[str, Any] = {}
    name = ""
    for word in words:
        flag = FLAG.fullmatch(word)
        if flag is not None:
            name = flag[1].replace("-", "_")
            found[name] = True if flag[2] is None else _plain(flag[2])
        elif name and found[name] is True:
            found[name] = _plain(word)
        elif name:
            before = found[name] if isinstance(found[name], list) else [found[name]]
            found[name] = [*before, _plain(word)]
    return {name: COMPUTED if _computed(value) else value for name, value in found.items()}


def _computed(value: Any) -> bool:
    """Tell whether the shell computes a value: $(expr 16 / 2)."""
    words = value if isinstance(value, list) else [value]
    return any(isinstance(word, str) and word.startswith("$(") for word in words)


def document(text: str, words: Sequence[str], name: str) -> Document:
    """Return the flags of a command as a document; each stands at the line of its flag."""
    data = mapping(words)
    places: Mapping[Path, Place] = {
        (key,): Place(text.count("\n", 0, match.start()) + 1)
        for key in data
        if (match := re.search(rf"--?{re.escape(key).replace('_', '[-_]')}\b", text))
    }
    return Document(syntax="shell", text=text, data=data, name=name, places=places)


def _plain(word: str) -> Any:
    """Return a word as the value that a config would have."""
    low = word.strip().lower()
    if low in WORDS:
        return WORDS[low]
    for kind in (int, float):
        try:
            return kind(low)
        except ValueError:
            continue
    return word.strip()

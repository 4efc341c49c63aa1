"""Plain data -> the text of a file: dotted keys become mappings within mappings."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.files.runfiles.record import Value

Words = Mapping[str, Value]


def dumped(words: Words, syntax: str, comment: str = "") -> str:
    """Return the text of a file with the keys `words`, below `comment` as its first lines."""
    lines = comment.splitlines() if syntax != "json" else ()
    head = "".join(f"# {line}\n" for line in lines)
    if syntax == "modelfile":
        return head + "".join(f"{word} {value}\n" for word, value in words.items())
    data = nested(words)
    if syntax == "json":
        return json.dumps(data, indent=2) + "\n"
    if syntax == "toml":
        return head + "".join(_toml(data, ())).lstrip("\n")
    import yaml

    return head + str(yaml.safe_dump(data, sort_keys=False, width=100, allow_unicode=True))


def nested(words: Words) -> dict[str, Any]:
    """Return dotted keys as nested mappings: {"a.b": 1} becomes {"a": {"b": 1}}."""
    data: dict[str, Any] = {}
    for key, value in words.items():
        *above, last = key.split(".")
        inside = data
        for name in above:
            inside = inside.setdefault(name, {})
        inside[last] = list(value) if isinstance(value, tuple) else value
    return data


def _toml(data: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    if above:
        yield f"\n[{'.'.join(above)}]\n"
    for name, value in data.items():
        if not isinstance(value, dict):
            yield f"{name} = {json.dumps(value)}\n"
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _toml(value, (*above, name))

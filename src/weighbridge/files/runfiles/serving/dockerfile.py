"""Dockerfiles: what the image of the last stage starts, by ENTRYPOINT and CMD.

Source: https://docs.docker.com/reference/dockerfile (FROM, ENV, ENTRYPOINT, CMD; exec form and
shell form).
"""

import json
import re
from collections.abc import Iterator

from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import filled
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.serving.compose import words as split
from weighbridge.files.runfiles.serving.lines import Container, of_container

LINE = re.compile(r"(?im)^[ \t]*(FROM|ENV|ENTRYPOINT|CMD)[ \t]+((?:[^\\\n]|\\[^\n]|\\\n)+)")
BEGINS = re.compile(r"(?i)(?:[ \t]*(?:#[^\n]*|ARG[ \t][^\n]*)?\n)*[ \t]*FROM[ \t]+\S")
STARTS = re.compile(r"(?im)^[ \t]*(?:ENTRYPOINT|CMD)[ \t]+\S")
SET = re.compile(r"([A-Za-z_]\w*)=(\"[^\"]*\"|\S*)")


def tells(document: Document) -> bool:
    """Return whether a text is a Dockerfile that starts something."""
    text = document.text
    return BEGINS.match(text) is not None and STARTS.search(text) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that the last stage starts; none if it serves no model."""
    image, line = "", 0
    env: dict[str, str] = {}
    parts: dict[str, tuple[str, ...]] = {}
    for match in LINE.finditer(document.text):
        word, argument = match[1].upper(), match[2].replace("\\\n", " ").strip()
        if word == "FROM":
            image, line = _image(argument), document.line_of(match.start())
            env, parts = {}, {}
        elif word == "ENV":
            env |= {name: value.strip('"') for name, value in SET.findall(argument)}
        else:
            parts[word] = _words(argument)
            line = document.line_of(match.start())
    words = (*parts.get("ENTRYPOINT", ()), *parts.get("CMD", ()))
    yield from of_container(Container(image=image, words=words, env=env, line=line))


def _image(argument: str) -> str:
    """Return the image in a stage's FROM arguments: `--platform=x IMAGE AS NAME`."""
    return next((word for word in argument.split() if not word.startswith("--")), "")


def _words(argument: str) -> tuple[str, ...]:
    """Return a command as words: a JSON list, or a line as a shell splits it."""
    try:
        listed = json.loads(argument) if argument.startswith("[") else None
    except (ValueError, RecursionError):
        listed = None
    return split(listed if isinstance(listed, list) else filled(argument))


KIND = Kind(
    name="dockerfile",
    title="Dockerfile",
    syntaxes=("modelfile", "text", "shell"),
    source="https://docs.docker.com/reference/dockerfile",
    tells=tells,
    read=read,
)

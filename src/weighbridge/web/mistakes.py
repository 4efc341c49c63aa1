"""Errors as a page says them: a setting by its label, no command of a terminal."""

import re
from collections.abc import Mapping
from typing import Any

from weighbridge.errors import NoCardError, WeighbridgeError
from weighbridge.questions.requests import failed
from weighbridge.settings import TABLES
from weighbridge.web import labels
from weighbridge.words import LANGUAGES, words_in

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
GPUS = "`weighbridge gpus` lists all, and --gpu-memory 24GiB takes a size"
LIBRARY = re.compile(r"to build it on the meta device: pip install 'weighbridge\[(\w+)\]'.*")


def told(error: WeighbridgeError, ask: Mapping[str, Any]) -> dict[str, Any]:
    """What takes the place of an answer: `setting` is the one that it is about, `wants` one that
    is still to be named."""
    lang = _lang(ask)
    words = words_in(lang, "page")
    if isinstance(error, NoCardError):
        found = failed(words("gpu.wanted"), error.code)
        return {"error": {**found["error"], "wants": "gpu"}}
    message, names = str(error), _names(ask)
    first = FLAG.match(message)
    about = {"setting": names[first[0]]} if first is not None and first[0] in names else {}
    if message.startswith("no accelerator ") and "--gpu" in names:
        about = {"setting": "gpu"}
    message = message.replace(GPUS, words("gpu.all"))
    message = LIBRARY.sub(lambda m: words("needs.library", name=m[1]), message)
    task = str(ask.get("task"))
    said = FLAG.sub(lambda m: _label(names.get(m[0]), task, lang) or m[0], message)
    return {"error": {**failed(said, error.code)["error"], **about}}


def _lang(ask: Mapping[str, Any]) -> str:
    view = ask.get("view")
    lang = view.get("lang") if isinstance(view, dict) else None
    return lang if isinstance(lang, str) and lang in LANGUAGES else LANGUAGES[0]


def _names(ask: Mapping[str, Any]) -> dict[str, str]:
    """The settings by their options; none where a command was pasted, which has its own."""
    task, workload = ask.get("task"), ask.get("workload")
    if not isinstance(task, str) or task not in TABLES:
        return {}
    if isinstance(workload, dict) and workload.get("command"):
        return {}
    return {f"--{name.replace('_', '-')}": name for name in TABLES[task]}


def _label(name: str | None, task: str, lang: str) -> str:
    return labels.label(TABLES[task][name], lang) if name else ""

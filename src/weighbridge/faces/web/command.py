"""The command of weighbridge that gives the answer of a request."""

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.requests import meant_task
from weighbridge.base.errors import UsageError
from weighbridge.models.catalogue.pipelines import makes_pictures
from weighbridge.settings.kinds import COUNT, FLAG, IMAGE, SIZE, WHOLE
from weighbridge.settings.setting import Setting
from weighbridge.workload import TABLES

if TYPE_CHECKING:
    from weighbridge.faces.web.asks import AnswerView

NUMBERS = (COUNT, WHOLE, SIZE)
COMMANDS = {"image": "image", "train_image": "train-image"}  # task -> its command
CONFIG = "./config.json"  # file name that stands for an inline config


def command(request: Mapping[str, Any], view: "AnswerView") -> str:
    """Return the command line for a request, quoted for a POSIX shell; settings unknown to the task
    stay in it."""
    task = meant_task(request)
    words = ["weighbridge", COMMANDS.get(task, task), *_model(request.get("model"))]
    workload = request.get("workload") or {}
    if task == "fit" and makes_pictures(request.get("model")):
        task = "image"
    for name, value in workload.items():
        words += _option_words(task, name, value)
    return shlex.join([*words, *_look_words(view)])


def _model(model: Any) -> Iterator[str]:
    if isinstance(model, str):
        if model.startswith("-"):
            yield "--"
        yield model
    elif isinstance(model, dict):
        file = model.get("file")
        name = file.get("name") if isinstance(file, dict) else None
        yield f"./{name}" if isinstance(name, str) else CONFIG


def _option_words(task: str, name: str, value: Any) -> Iterator[str]:
    if value is None or (task == "load" and name == "engine"):  # `load` reads it from the file
        return
    setting = TABLES[task].get(name)
    if setting is None:
        flag = f"--{name.removesuffix('_').replace('_', '-')}"
        yield from _flag_and_value(flag, str(value))
    elif setting.kind is FLAG:
        yield from _switch_words(task, setting, value)
    else:
        yield from _flag_and_value(setting.flag, text(setting, value))


def _switch_words(task: str, setting: Setting[Any], value: Any) -> Iterator[str]:
    if value:
        yield setting.flag
    elif task != "load" and not setting.flag.startswith("--no-"):
        yield f"--no-{setting.flag[2:]}"


def _flag_and_value(flag: str, value: str) -> Iterator[str]:
    """Yield a flag and its value, joined by "=" if the value begins with "-"."""
    if value.startswith("-"):
        yield f"{flag}={value}"
    else:
        yield flag
        yield value


def text(setting: Setting[Any], value: Any) -> str:
    """Return a setting's value as the user types it after the flag."""
    if setting.kind is IMAGE and isinstance(value, list | tuple):
        height, width = value
        return f"{width}x{height}"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if setting.name == "gpu":
        return _card_text(str(value))
    whole = setting.kind in NUMBERS and isinstance(value, float)
    return str(setting.value(value) if whole else value)


def _card_text(value: str) -> str:
    """Return a card and its count joined by a colon ("a100:8"), if the comma between them would
    name two cards; else `value`."""
    name, comma, count = value.partition(",")
    if not comma or "," in count:
        return value
    from weighbridge.machines.accelerators.names import find

    try:
        find(name), find(count)
    except UsageError:
        return value
    return f"{name.strip()}:{count.strip()}"


def _look_words(view: "AnswerView") -> Iterator[str]:
    """Yield the options for how the screen looks: unit, language, details."""
    if view.unit is not None:
        yield from ("--unit", view.unit)
    if view.lang != "en":
        yield from ("--lang", view.lang)
    if view.details:
        yield "--details"
    if view.explain:
        yield "--explain"

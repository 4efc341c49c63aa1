"""A report's own `workload`, sent back as a request: the question that it came from.

A report says every effective setting: those that were asked, the defaults of the rest, and what
came of both (`n_ctx`, `enable_chunked_prefill`), some in words that no flag takes (`sdpa`). What
was asked is found by asking: with the few settings that decide the defaults of others first, then
with those besides in which the answer differs, until it says the same.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.workload import TABLES

Settings = dict[str, Any]

# Every report has these, null or not; nobody types them all.
OF_REPORTS = frozenset(("dtype", "gpu", "gpu_memory", "headroom", "ram"))
OF_KINDS = frozenset(("engine", "engine_version")), frozenset(("pipeline", "framework"))
# What the defaults of others hang on
_FIRST = """
engine engine_version framework framework_version method tuner gpu gpu_memory headroom ram
platform base_model
"""
FIRST = tuple(_FIRST.split())
PICTURED = {"width": "size", "height": "size"}  # of a report -> the setting that it comes from
MOST_ASKED = 12  # answers until one says the same: most take two


def is_echo(workload: Mapping[str, Any]) -> bool:
    """Tell whether these are the settings of a report, not those of a person."""
    names = workload.keys()
    return names >= OF_REPORTS and any(names >= kind for kind in OF_KINDS)


def question(task: str, echo: Mapping[str, Any], ask: Callable[[Settings], Any]) -> Settings:
    """Return the settings that are answered with this `workload`; `ask` answers some of them with
    the workload of the report. Raises UsageError where none are: somebody changed what comes of
    other settings."""
    settings = {name: value for name, value in echo.items() if value is not None}
    settings |= _pictured(settings)
    asked = {name: settings[name] for name in FIRST if _takes(task, name, settings.get(name), {})}
    for _ in range(MOST_ASKED):
        answered = json.loads(json.dumps(ask(asked)))
        other = [name for name in echo if echo[name] != answered.get(name)]
        names = dict.fromkeys(PICTURED.get(name, name) for name in other)
        names |= dict.fromkeys(_unsaid(answered) - _unsaid(echo))
        more = [name for name in names if _takes(task, name, settings.get(name), asked)]
        if not more:
            break
        section = _first_section(task, more)
        asked |= {name: settings[name] for name in more if TABLES[task][name].section == section}
    if other:
        name = other[0]
        raise UsageError(
            sentence(
                "echo.other", name=name, value=shown(echo[name]), answered=shown(answered.get(name))
            )
        )
    return asked


def _pictured(settings: Settings) -> Settings:
    """Return the settings of pictures that a report says in other words."""
    typed: Settings = {}
    if settings.keys() >= PICTURED.keys():
        typed["size"] = f"{settings['width']}x{settings['height']}"
    if settings.get("guidance") == "none":
        typed["guidance"] = "off"
    return typed


def _unsaid(workload: Mapping[str, Any]) -> set[str]:
    """Return what decides and nobody said: what has the same value was said."""
    return set(workload.get("unsaid") or ())


def _first_section(task: str, names: list[str]) -> str:
    """The section of the first of `names` in the table's order: what is asked of a request decides
    what an engine's own settings come to."""
    return next(s.section for name, s in TABLES[task].items() if name in names)


def _takes(task: str, name: str, value: Any, asked: Settings) -> bool:
    """Tell whether it is a setting that was not asked yet, and this one of its values."""
    setting = TABLES[task].get(name)
    if setting is None or value is None or name in asked:
        return False
    try:
        setting.value(value)
    except UsageError:
        return False
    return True

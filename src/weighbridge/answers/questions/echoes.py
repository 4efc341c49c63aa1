"""A report's own `workload`, sent back as a request: find the question that it came from.

A report has every effective setting: the user's, defaults, and derived ones (`n_ctx`,
`enable_chunked_prefill`), some in values that no flag accepts (`sdpa`). The user's settings are
found by trying: first the few that decide other defaults, then those in which the answer still
differs, until the answer has the same workload.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.workload import TABLES

Settings = dict[str, Any]

# Every report has these, null or not; no user types them all.
OF_REPORTS = frozenset(("dtype", "gpu", "gpu_memory", "headroom", "ram"))
OF_KINDS = frozenset(("engine", "engine_version")), frozenset(("pipeline", "framework"))
# Settings that decide the defaults of others
_FIRST = """
engine engine_version framework framework_version method tuner gpu gpu_memory headroom ram
platform base_model
"""
FIRST = tuple(_FIRST.split())
PICTURED = {"width": "size", "height": "size"}  # key of a report -> the setting it comes from
MOST_ASKED = 12  # answers that are tried: most questions take two


def is_echo(workload: Mapping[str, Any]) -> bool:
    """Return whether `workload` is from a report and not typed by a user."""
    names = workload.keys()
    return names >= OF_REPORTS and any(names >= kind for kind in OF_KINDS)


def question(task: str, echo: Mapping[str, Any], ask: Callable[[Settings], Any]) -> Settings:
    """Return the settings whose report has this `echo` as its workload; `ask` returns the workload
    of a report for some settings. Raises UsageError if none has: somebody changed a derived
    setting."""
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
    """Return picture settings that a report has under another name or value."""
    typed: Settings = {}
    if settings.keys() >= PICTURED.keys():
        typed["size"] = f"{settings['width']}x{settings['height']}"
    if settings.get("guidance") == "none":
        typed["guidance"] = "off"
    return typed


def _unsaid(workload: Mapping[str, Any]) -> set[str]:
    """Return the deciding settings that the user left unset: equal values do not show that."""
    return set(workload.get("unsaid") or ())


def _first_section(task: str, names: list[str]) -> str:
    """Return the section of the first of `names` in the table's order: settings of the request
    decide the defaults of the engine's."""
    return next(s.section for name, s in TABLES[task].items() if name in names)


def _takes(task: str, name: str, value: Any, asked: Settings) -> bool:
    """Return whether `name` is a setting of the task, not in `asked` yet, and accepts `value`."""
    setting = TABLES[task].get(name)
    if setting is None or value is None or name in asked:
        return False
    try:
        setting.value(value)
    except UsageError:
        return False
    return True

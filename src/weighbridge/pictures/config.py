"""A component's config as its program reads it: the class's own defaults where it says nothing."""

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence

MOST_NUMBER = 1 << 24  # most of a width, a count or a size; more is hostile
MOST_LISTED = 256
LEAST_NUMBER = -1  # -1 means "the last"


class ComponentConfig:
    """A component's config values by name; None if neither the config nor the class has one."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        return self._values.get(name)

    def __bool__(self) -> bool:
        return bool(self._values)

    def numbers(self) -> dict[str, float]:
        """Return the numbers in the config by name; items of a list as name.0, name.1."""
        known: dict[str, float] = {}
        for key, value in self._values.items():
            if isinstance(value, int | float):
                known[key] = value
            elif isinstance(value, list):
                known |= {f"{key}.{i}": one for i, one in enumerate(value)}
        return known

    def below(self, name: str) -> "ComponentConfig":
        """Return the nested config `name`; an empty one if there is none."""
        values = self._values.get(name)
        if not isinstance(values, Mapping):
            return ComponentConfig({})
        for key, value in values.items():
            _bounded(key, value)
        return ComponentConfig(values)


def class_of(config: Mapping[str, Any]) -> str:
    """Return the class name in a config, as diffusers or transformers writes it; "" without one."""
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else ""
    return str(config.get("_class_name") or named)


def config_of(config: Mapping[str, Any]) -> ComponentConfig:
    """Return a config with its class's defaults. Raises UnsupportedError for impossible numbers."""
    for name, value in config.items():
        _bounded(name, value)
    return ComponentConfig(_merged(_defaults().get(class_of(config), {}), config))


def _merged(defaults: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` merged over `defaults`, nested configs too: files only hold differences."""
    values = {**defaults, **config}
    for name, value in config.items():
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping):
            values[name] = _merged(defaults[name], value)
    return values


def _bounded(name: str, value: Any) -> None:
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) > MOST_LISTED:
        raise UnsupportedError(sentence("component_number", name=name, value=len(numbers)))
    for one in numbers:
        if isinstance(one, list):
            _bounded(name, one)
        elif isinstance(one, int | float):
            least = LEAST_NUMBER if isinstance(one, int) else -MOST_NUMBER
            if not least <= one <= MOST_NUMBER:  # no network has such a number
                raise UnsupportedError(sentence("component_number", name=name, value=one))


@cache
def _defaults() -> dict[str, dict[str, Any]]:
    """Return the constructor defaults of classes in diffusers 0.42, by class and argument."""
    path = os.path.join(os.path.dirname(__file__), "defaults.json")
    with open(path, encoding="utf-8") as file:
        defaults: dict[str, dict[str, Any]] = json.load(file)
    return defaults

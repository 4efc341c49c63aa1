"""One model of a registry, and its config as bytes: JSON, or what is wrong with it."""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.models.formats.strict_json import strict_json

CONFIG = "config.json"


class RegisteredModel(NamedTuple):
    """One model. Where `unread` is said, there is no config. `weights` is the path of its files,
    where they are at hand, and `header` a hash of what they list (headers.py)."""

    id: str
    sha: str | None
    downloads: int | None
    config: Mapping[str, Any] | None
    unread: str | None = None
    weights: str | None = None
    header: str = ""


def parsed(model: RegisteredModel, raw: bytes) -> RegisteredModel:
    """Return the model with its config, or with what is wrong with it."""
    try:
        config = strict_json(raw, constants=True)
    except BadFileError as error:
        return model._replace(unread=str(error))
    return with_config(model, config)


def with_config(model: RegisteredModel, config: Any) -> RegisteredModel:
    if isinstance(config, dict):
        return model._replace(config=config)
    return model._replace(unread=f"holds a JSON {type(config).__name__}; an object was expected")

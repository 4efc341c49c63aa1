"""One model of a registry, and its config as JSON, or the reason why it cannot be read."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError, WeighbridgeError
from weighbridge.base.records import NamedTuple
from weighbridge.base.wording import one_line
from weighbridge.models.formats.strict_json import strict_json

CONFIG = "config.json"


class RegisteredModel(NamedTuple):
    """One model of a registry. With `unread`, the reason, it has no config. `weights` is the path
    of its files if they are local, and `header` a hash of the tensors they list
    (`with_headers`)."""

    id: str
    sha: str | None
    downloads: int | None
    config: Mapping[str, Any] | None
    unread: str | None = None
    weights: str | None = None
    header: str = ""


def parsed(model: RegisteredModel, raw: bytes) -> RegisteredModel:
    """Return the model with the config `raw`, or with the reason why that is no valid JSON
    object."""
    try:
        config = strict_json(raw, constants=True)
    except BadFileError as error:
        return model._replace(unread=str(error))
    return with_config(model, config)


def with_config(model: RegisteredModel, config: Any) -> RegisteredModel:
    if isinstance(config, dict):
        return model._replace(config=config)
    return model._replace(unread=f"holds a JSON {type(config).__name__}; an object was expected")


# A model with local weights is estimated from its files: dtypes and shapes of each tensor, and all
# of a GGUF file. Its key covers its config and what its headers list, so fine-tunes of one base and
# format are still asked once

GGUF, WEIGHTS = ".gguf", ".safetensors"


def with_headers(model: RegisteredModel, place: Path) -> RegisteredModel:
    """Return a model with its weights, a folder or a GGUF file at `place`; or with the reason why
    they cannot be read. A model of no known class keeps its config only: the answers have the
    reason."""
    from weighbridge.faces.api import prepare

    try:
        inventory: Any = prepare(str(place.resolve()), offline=True).source
    except BadFileError as error:
        return model._replace(config=None, unread=one_line(str(error)))
    except WeighbridgeError as error:
        known = model.config is not None and isinstance(error, UnsupportedError)
        return model if known else model._replace(config=None, unread=one_line(str(error)))
    part, *others = inventory.parts
    if others or not part.tensors:
        return model
    digest = sha256()
    for tensor in sorted(part.tensors):
        digest.update(f"{tensor.name}\0{tensor.dtype.name}\0{tensor.shape}\n".encode())
    header = digest.hexdigest()
    config = model.config if model.config is not None else dict(part.config or {})
    return model._replace(
        config=config, sha=model.sha or header, weights=str(place.resolve()), header=header
    )

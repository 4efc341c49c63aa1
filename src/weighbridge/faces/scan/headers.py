"""What headers of weights say that a config does not: dtypes and shapes of every tensor, and all of
a GGUF file.

A model whose weights are at hand is asked by its files. Its key is of its config and of what its
headers list, so fine-tunes of one base and format are still asked once.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError, WeighbridgeError
from weighbridge.base.wording import one_line
from weighbridge.faces.scan.registered import RegisteredModel

GGUF, WEIGHTS = ".gguf", ".safetensors"


def with_headers(model: RegisteredModel, place: Path) -> RegisteredModel:
    """Return a model with its weights, a folder or a GGUF file; or with what is wrong with them.
    What is of no known class stays as its config says: the answers have the reason."""
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
    found = sha256()
    for tensor in sorted(part.tensors):
        found.update(f"{tensor.name}\0{tensor.dtype.name}\0{tensor.shape}\n".encode())
    header = found.hexdigest()
    config = model.config if model.config is not None else dict(part.config or {})
    return model._replace(
        config=config, sha=model.sha or header, weights=str(place.resolve()), header=header
    )

"""Models are opened from what the user typed, and errors on the way name the file.

The config or metadata of a file can contradict itself in more ways than are checked one by one. If
arithmetic over it fails, a one-line error says so, and where. The built-in catalogue is ours: a
failure there is a defect, as is one with a live module.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError, WeighbridgeError
from weighbridge.base.wording import clipped
from weighbridge.models.checkpoint.gather import (
    GatherOptions,
    gather,
    gather_config,
    has_name,
    naming,
)
from weighbridge.models.checkpoint.inventory import Inventory
from weighbridge.models.checkpoint.model import Model, ModelPart

OF_VALUES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
BROKEN = (*OF_VALUES, RecursionError, MemoryError)


@contextmanager
def following(model: Any, *named: type[WeighbridgeError]) -> Iterator[None]:
    """Add the file's name to errors that show only while it is estimated. `named`: the error
    classes to extend, by default BadFileError and UnsupportedError."""
    text = os.fspath(model) if isinstance(model, str | os.PathLike) else ""
    known = named or (BadFileError, UnsupportedError)
    try:
        yield
    except known as error:
        if not text:
            raise
        raise naming(text, error) from error
    except BROKEN as error:
        if not isinstance(model, str | os.PathLike | Mapping) or has_name(text):
            raise
        raise _unfollowed(text, error) from error


def _unfollowed(text: str, error: Exception) -> BadFileError:
    import traceback

    place = traceback.extract_tb(error.__traceback__)[-1]
    unreadable = BadFileError(
        f"what it holds could not be followed ({type(error).__name__}: {clipped(str(error), 50)}"
        f" at {os.path.basename(place.filename)}:{place.lineno}): its values contradict each other,"
        " or that no model has; if other programs load it, report this"
    )
    return naming(text, unreadable) if text else unreadable  # type: ignore[return-value]


def inventory(model: Any, options: GatherOptions) -> Inventory:
    """Return the tensors and config of a model: headers of files, or a config mapping."""
    if isinstance(model, Mapping):
        return gather_config(model)
    return gather(os.fspath(model), options)


def live(module: Any) -> Model:
    """Return the model of a live `torch.nn.Module`."""
    from weighbridge.models.arch.torch_modules import from_module, own_dtype

    dtype = own_dtype(module)
    plan = from_module(module, dtype=dtype)
    config = getattr(module, "config", None)
    raw = config.to_dict() if config is not None and callable(getattr(config, "to_dict", 0)) else {}
    return Model(
        reference=plan.cls,
        name=plan.cls,
        revision=None,
        parts=(
            ModelPart(name="", library="torch", blueprint=plan, config={**raw, "dtype": dtype}),
        ),
        read_from=("the live module",),
    )

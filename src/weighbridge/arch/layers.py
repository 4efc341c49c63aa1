"""What the layers of a model remember, by the reader that the table names for its model type.

    layers(config) -> one Layer a layer, of the records in `mixers.py`; from the config alone

A model that holds a language model is answered by that one's config. A model type without a cache
has the reason in its row.
"""

from collections.abc import Callable
from importlib import import_module

from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Layer
from weighbridge.arch.table import column
from weighbridge.errors import UnsupportedError


def layers(c: Config) -> tuple[Layer, ...]:
    """What the layers of the language model, or of the decoder, remember. Empty: no cache."""
    if c.model_type in column("no_cache"):
        return ()
    readers = column("layers")
    if c.model_type not in readers:
        raise UnsupportedError(
            f"{c.where}: model type {c.model_type!r}: its caches are not in our tables"
        )
    module, name = readers[c.model_type].split(":")
    reader: Callable[[Config], tuple[Layer, ...]] = getattr(
        import_module(f"weighbridge.arch.cache_layers.{module}"), name
    )
    return reader(c)

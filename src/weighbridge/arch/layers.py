"""What the layers of a model remember: by its tree of modules, or by a reader that the table names.

    layers(config) -> one Layer a layer, of the records in `mixers.py`; from the config alone

A model that holds a language model is answered by that one's config. A model type without a cache
has the reason in its row.
"""

from dataclasses import replace
from importlib import import_module

from weighbridge.arch.cache_layers.attention import seen, sharing
from weighbridge.arch.compose import TEXT, nested
from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Attention, Layer, Mixer
from weighbridge.arch.model_types import LayerReader, facts
from weighbridge.arch.modules import Decoder, Submodules
from weighbridge.arch.windows import FULL
from weighbridge.errors import UnsupportedError


def layers(c: Config) -> tuple[Layer, ...]:
    """What the layers of the language model, or of the decoder, remember. Empty: no cache."""
    known = facts(c.model_type)
    if known.no_cache:
        return ()
    if known.language:
        return layers(nested(c, replace(TEXT, config=known.language, flat=known.flat)))
    if known.layers:
        return _reader(known.layers)(c)
    tree = known.family.tree if known.family is not None else None
    if tree is None:
        raise UnsupportedError(
            f"{c.where}: model type {c.model_type!r}: its caches are not in our tables"
        )
    return remembered(tree(c), c)


def _reader(named: LayerReader | str) -> LayerReader:
    """Return the reader itself, or the shared one of that name."""
    if not isinstance(named, str):
        return named
    module, _, function = named.partition(".")
    place = import_module(f"weighbridge.arch.cache_layers.{module}")
    shared: LayerReader = getattr(place, function)
    return shared


def embeds(model_type: str) -> bool:
    """Whether what it holds is a language model that reads its input at once."""
    return facts(model_type).no_cache == "embeds"


def remembered(tree: Decoder, c: Config) -> tuple[Layer, ...]:
    """The mixers of each layer, its attention as far as the kind of the layer sees."""
    kinds = (FULL,) * len(tree.layers) if tree.kinds is None else tree.kinds(c)
    made: dict[tuple[int, str], Layer] = {}  # like layers are one object
    found = []
    for one, kind in zip(tree.layers, kinds, strict=False):
        key = (id(one), kind)
        if key not in made:
            made[key] = Layer(mixers=tuple(_mixers(one, c, kind)))
        found.append(made[key])
    return sharing(found, len(found) - tree.sharing) if tree.sharing else tuple(found)


def _mixers(one: Submodules, c: Config, kind: str) -> list[Mixer]:
    mixers = (part.mixer for part in one if part.mixer is not None)
    return [seen(c, m, kind) if isinstance(m, Attention) else m for m in mixers]

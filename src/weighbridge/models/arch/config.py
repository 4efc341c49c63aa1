"""A typed reader of raw configs: aliases, nulls and class defaults in, plain values out.

It remembers which keys were read, so that an unread key that looks like memory can be reported. A
value is looked for in three places, in this order:

1. the config, under the names that the caller gives and the aliases of its model type
(`attribute_map` of transformers: GPT-2 calls `num_attention_heads` `n_head`); null is absent; 2.
the class default of its model type (`defaults.json`, generated from transformers); 3. the caller's
default.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.parsed import Parsed
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.model_types import facts

MAX_LAYERS = 1024  # limit for configs from strangers; real models have up to 200
MAX_SIZE = 1 << 32

# Keys that decide nothing about which tensors there are, though their names look like memory.
IRRELEVANT = frozenset(
    {
        "use_cache",
        "cache_implementation",
        "attn_implementation",
        "_attn_implementation",
        "initializer_range",
        "num_attention_heads",  # families read it wherever it decides a shape
        "embedding_multiplier",
        "max_window_layers",
        "use_sliding_window",
        "sliding_window",
    }
)
NOTHING: Mapping[str, Any] = {}
MEMORY_WORDS = (
    "_rank",
    "cache",
    "expert",
    "hidden_size",
    "intermediate",
    "_layers",
    "head",
    "_dim",
    "vocab",
    "window",
)
# Parts of keys that say how large or how many: a value for these is a size of tensors.
SIZES = re.compile(
    r"hidden_size|d_model|n_embd|intermediate|ffn|d_ff|n_inner|_layers?$|heads?$|head_dim|vocab"
    r"|experts$|_rank$|_dim$|^dim$|depths?$|^layers$"
)
# Families have rules for what is left out (4 D, D / N), which are what their configs mean. Of this
# one, a multiple of the cache hangs on it.
OF_CACHE = "num_key_value_heads"


@cache
def _defaults() -> Parsed[str, str, Mapping[str, Any]]:
    """Return model type -> defaults and aliases, each parsed from its line of defaults.json when
    first read."""
    path = os.path.join(os.path.dirname(__file__), "defaults.json")
    with open(path, encoding="utf-8") as file:
        return Parsed({line.split('"', 2)[1]: line for line in file if line[0] == '"'}, _of_class)


def of_transformers(model_type: str) -> bool:
    """Return whether transformers has a class for the model type."""
    return model_type in _defaults()


def _of_class(line: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(line.partition(": ")[2].rstrip(",\n"))
    return found


def has_sizes(raw: Mapping[str, Any]) -> bool:
    """Return whether a config, or one nested in it, states any size or count."""
    return any(
        has_sizes(value)
        if isinstance(value, Mapping)
        else isinstance(value, int | list) and bool(value) and SIZES.search(key) is not None
        for key, value in raw.items()
    )


class Config:
    """A reader of a config or a nested one. `cls` is the class to build, `where` the path in
    errors."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        where: str = "config.json",
        model_type: str = "",
        cls: str = "",
    ) -> None:
        self.raw = raw
        self.where = where
        self.model_type = str(raw.get("model_type") or model_type)
        architectures = raw.get("architectures")
        named = architectures[0] if isinstance(architectures, list) and architectures else ""
        self.cls = cls or str(named)
        known = _defaults().get(self.model_type, NOTHING)
        self._defaults: Mapping[str, Any] = known.get("defaults", {})
        self._aliases: Mapping[str, Sequence[str]] = known.get("aliases", {})
        self._seen: set[str] = set()
        self._sizes: dict[str, int] = {}  # missing size -> the default in use
        self._found: dict[tuple[str, ...], Any] = {}  # read values: layers repeat them
        self._whole_ones: dict[tuple[str, ...], int] = {}
        self._children: list[Config] = []

    def get(self, *names: str) -> Any:
        """Return the first of `names` that is set, else the first class default, else None."""
        if names not in self._found:
            self._found[names] = self._look_up(names)
        return self._found[names]

    def _look_up(self, names: tuple[str, ...]) -> Any:
        spellings = [s for n in names for s in (n, *self._aliases.get(n, ()))]
        self._seen.update(spellings)
        for known in (self.raw, self._defaults):
            for spelling in spellings:
                value = known.get(spelling)
                if value is not None:
                    if known is not self.raw:
                        self._take(names[0], value)
                    return value
        return None

    def _take(self, name: str, value: Any) -> None:
        """Record a size that the file lacks, with the default in use; 0 is not recorded."""
        if type(value) is int and value > 0 and SIZES.search(name):
            self._sizes.setdefault(name, value)

    def has(self, name: str) -> bool:
        """Return whether the config itself sets `name` to a value; class defaults do not count."""
        self._seen.add(name)
        return self.raw.get(name) is not None

    @property
    def sees_both_ways(self) -> bool:
        """Return whether each token of a decoder also attends to later ones (EmbeddingGemma)."""
        return self.raw.get("use_bidirectional_attention") is True

    def null(self, name: str) -> bool:
        """Return whether the config itself sets `name` to null, where null has a meaning."""
        self._seen.add(name)
        return name in self.raw and self.raw[name] is None

    def num(self, *names: str, default: int | None = None) -> int:
        known = self._whole_ones.get(names)
        if known is not None:
            return known
        value = self.get(*names)
        if value is None:
            if default is None:
                raise self.error(names[0], "is.missing")
            if names[0] == OF_CACHE:
                self._take(OF_CACHE, default)
            return default
        known = self._whole_ones[names] = self._whole_number(value, names[0])
        return known

    def layers(self, *names: str, default: int | None = None) -> int:
        """Return a number of layers, at most MAX_LAYERS, since each is built."""
        count = self.num(*names, default=default)
        if count > MAX_LAYERS:
            raise self.error(names[0], "asks.layers", count=count, most=MAX_LAYERS)
        return count

    def maybe(self, *names: str) -> int | None:
        value = self.get(*names)
        return None if value is None else self._whole_number(value, names[0])

    def ratio(self, *names: str, default: float | None = None) -> float:
        """Return a factor of at least 0, such as MLP width over hidden size."""
        value = self.get(*names)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(names[0], "must.number", value=shown(value))
        if not 0 <= value <= MAX_SIZE:
            raise self.error(names[0], "is.outside", value=shown(value), most=MAX_SIZE)
        return float(value)

    def pair(self, *names: str) -> tuple[int, int]:
        """Return (height, width) from a list of two numbers, or from one number for both."""
        value = self.get(*names)
        if not isinstance(value, list | tuple):
            return (self.num(*names),) * 2
        if len(value) != 2:
            raise self.error(names[0], "must.one_or_two", value=shown(value))
        return self._whole_number(value[0], names[0]), self._whole_number(value[1], names[0])

    def flag(self, *names: str, default: bool = False) -> bool:
        value = self.get(*names)
        if value is None:
            return default
        if isinstance(value, bool | int):
            return bool(value)
        raise self.error(names[0], "must.flag", value=shown(value))

    def enabled(self, *names: str) -> bool:
        """Return a flag that is true by default."""
        return self.flag(*names, default=True)

    def word(self, *names: str, default: str = "") -> str:
        value = self.get(*names)
        return default if value is None else str(value)

    def many(self, *names: str) -> list[Any]:
        """Return a list; [] if it is missing."""
        value = self.get(*names)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise self.error(names[0], "must.list", value=shown(value))
        return list(value)

    def nums(self, *names: str) -> tuple[int, ...]:
        return tuple(self._whole_number(value, names[0]) for value in self.many(*names))

    def per_layer(self, *names: str, count: int, default: int | None = None) -> tuple[int, ...]:
        """Return one number per layer, from a list or from one number for all layers."""
        value = self.get(*names)
        if not isinstance(value, list | tuple):
            return (self.num(*names, default=default),) * count
        if len(value) != count:
            raise self.error(names[0], "has.layers", count=len(value), layers=count)
        return tuple(self._whole_number(v, names[0]) for v in value)

    def sub(self, *names: str, cls: str = "", absent: Mapping[str, Any] = NOTHING) -> "Config":
        """Return a nested config; if missing, `absent` or the class's default. Without a model type
        it gets the one that the outer class holds there. Keys are read only in the nested config. A
        second call returns the same object, which remembers what was read."""
        usual = self._defaults.get("sub_defaults", {}).get(names[0], {})
        value = self.get(*names)
        if value is None:
            value = absent or usual
        if not isinstance(value, Mapping):
            raise self.error(names[0], "must.object", value=shown(value))
        fixed = self._defaults.get("sub_configs", {}).get(names[0])
        if fixed:  # the class reads it as this type, whatever model type it names
            value = {**value, "model_type": fixed}
        child = Config(
            value, where=f"{self.where}: {names[0]}", model_type=self.held(names[0]), cls=cls
        )
        for known in self._children:
            if known._identity() == child._identity():
                return known
        self._children.append(child)
        return child

    def held(self, key: str) -> str:
        """Return the model type of the config under `key`: from transformers' class, else from our
        table; "" if neither has one."""
        fixed = self._defaults.get("sub_configs", {}).get(key)
        usual = self._defaults.get("sub_defaults", {}).get(key, {}).get("model_type")
        return str(fixed or usual or facts(self.model_type).holds.get(key, ""))

    def retyped(self, model_type: str) -> "Config":
        """Return a reader of the same keys with the class defaults of another model type."""
        child = Config({**self.raw, "model_type": model_type}, where=self.where, cls=self.cls)
        child._seen, child._sizes = self._seen, self._sizes
        self._children.append(child)
        return child

    def skip(self, *names: str) -> None:
        """Mark keys as read that do not affect this family's tensors."""
        self._seen.update(names)

    def unread(self) -> list[str]:
        """Return unread keys with a number whose names suggest a size, each with its place."""
        own = [
            f"{self.where}: {key}"
            for key, value in self.raw.items()
            if key not in self._seen
            and key not in IRRELEVANT
            and isinstance(value, int | float | list)
            and not isinstance(value, bool)
            and any(word in key for word in MEMORY_WORDS)
            and value != self._defaults.get(key)
        ]
        return own + [key for child in self._children for key in child.unread()]

    def tree(self) -> "Iterator[Config]":
        """Yield this config and all nested ones that were read, each once."""
        yield self
        for child in self._children:
            yield from child.tree()

    def default(self, name: str) -> Any:
        """Return the class default of a key; None without one."""
        return self._defaults.get(name)

    def assumed(self) -> list[str]:
        """Return the sizes that the file lacks, each as text with the default in use."""
        found = (
            f"{part._place()}{name} {n:,}"
            for part in self.tree()
            for name, n in part._sizes.items()
        )
        return list(dict.fromkeys(found))

    def _place(self) -> str:
        """Return the dotted keys that lead to this config; "" for the outermost."""
        path = self.where.split(": ")[1:]
        return ".".join((*path, "")) if path else ""

    def error(self, name: str, key: str, /, **values: object) -> BadFileError:
        what = sentence(key, **values)
        return BadFileError(sentence("of_key", name=name, what=what), where=self.where)

    def _identity(self) -> tuple[str, str, str]:
        return (self.where, self.model_type, self.cls)

    def _whole_number(self, value: Any, name: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, "must.whole", value=shown(value))
        if not 0 <= value <= MAX_SIZE:
            raise self.error(name, "is.outside", value=_count(value), most=MAX_SIZE)
        return value


def _count(value: int) -> str:
    text = shown(value)
    return f"{value:,}" if text == str(value) else text

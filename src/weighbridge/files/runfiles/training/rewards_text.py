"""Scripts and configs of programs that learn from rewards, as keys with values, nested by dots.

    a.b=1 +a.c=2           words of Hydra            --a.b 1 --a_b 2            flags
    defaults: base.yaml    below what a config says  ${policy.precision}        another key's value

A config that is named and is not here is said to be missing, but for those that programs ship and
whose values rewards.jsonl has.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.shell import commands
from weighbridge.files.programs import programs
from weighbridge.files.runfiles.beside import beside, missing
from weighbridge.files.runfiles.document import Document, Path, Place
from weighbridge.files.runfiles.record import Unread, Value
from weighbridge.files.runfiles.training import arrays, flags, ranks, starters

NAMED = re.compile(r"\$\{(?P<above>\.*)(?P<path>[\w.]+)\}")  # leading dots: relative to its place
PRODUCT = re.compile(r"\$\{mul:\s*(\d+),\s*(\d+)\}")
NESTED = 5  # names within names
MOST_BASES = 8  # configs below configs
EACH_CARD = "nproc_per_node"


Shipped = Mapping[str, Mapping[str, Any]]


class RewardProgram(NamedTuple):
    """A line of rewards.jsonl: a `name` of programs.toml, the `framework` for --framework, the
    `table` of its keys, the keys that its YAML files have `together`, and further keys."""

    name: str
    framework: str
    table: str
    models: Sequence[str]
    targets: str  # of adapters
    usual_method: str = ""
    together: Sequence[str] = ()
    method: Sequence[str] = ()
    cards: Sequence[tuple[str, str]] = ()  # keys of the cards per machine, and of the machines
    usual_cards: int = 0
    words: str = ""  # its section of training/learning/words.txt; "": the framework's
    tunes: bool = False  # the same keys also fine-tune
    sequence: str = ""  # how ranks of a sequence exchange it
    verbs: Sequence[str] = ()  # after its name; (): any
    usual: Mapping[str, tuple[Value, str]] = {}  # a setting -> its default, and the key of it
    shipped: Mapping[str, Mapping[str, Any]] = {}  # configs by name -> what they say


class RewardRun(NamedTuple):
    """A run as keys. `absent`: missing files that it refers to; `verb`: the module that a script
    starts."""

    program: RewardProgram
    document: Document
    absent: tuple[Unread, ...] = ()
    notes: tuple[str, ...] = ()
    verb: str = ""


class ConfigLayer(NamedTuple):
    """A config merged over those that it is based on."""

    data: Mapping[str, Any]
    absent: tuple[Unread, ...] = ()
    notes: tuple[str, ...] = ()


REWARD_PROGRAMS = tuple(
    RewardProgram(**json.loads(line)) for line in lines_beside(__file__, "rewards.jsonl")
)
SHIPPED = {name: says for each in REWARD_PROGRAMS for name, says in each.shipped.items()}


def of_config(document: Document) -> RewardProgram | None:
    """Return the program of a config document; None for other documents."""
    run = with_config(document)
    return None if run is None else run.program


def with_config(document: Document) -> RewardRun | None:
    """Return the run of a config, recognized together with the configs that it is based on; None
    for other documents."""
    if not isinstance(document.data, dict):
        return None
    data, absent, notes = _layer(document, SHIPPED)
    program = next(
        (d for d in REWARD_PROGRAMS if d.together and all(key in data for key in d.together)), None
    )
    if program is None:
        return None
    whole = _resolved(data)
    places = dict(document.places)
    for path, value in _leaves(whole, ()):
        if _value(document.data, ".".join(map(str, path)), "") != value:
            places[path] = Place(places[path].line if path in places else 0)
    keyed = replace(document, data=whole, places=places)
    return RewardRun(program, keyed, absent, notes)


def started(document: Document) -> RewardRun | None:
    """Return the first run of one of these programs in a script; None without one."""
    if _dialect(document.text) is None:
        return None
    text = arrays.filled_in(document.text)
    for branch in list(arrays.branches(text)):  # an undecided branch sets nothing
        if _dialect(branch) is None:
            text = text.replace(branch, "\n" * branch.count("\n"))
    try:
        runs = (_launched(document, each.words, each.env) for each in commands(text))
        return next(filter(None, runs), None)
    except UsageError:
        return None


def _dialect(text: str) -> RewardProgram | None:
    known = programs()
    return next(
        (d for d in REWARD_PROGRAMS if d.name in known and known[d.name].starts(text)), None
    )


def _launched(document: Document, words: Sequence[str], env: Mapping[str, str]) -> RewardRun | None:
    pairs = [" ".join(words[n : n + 2]) for n in range(len(words))]
    last = next((n for n in reversed(range(len(words))) if _dialect(pairs[n]) is not None), None)
    program = None if last is None else _dialect(pairs[last])
    if last is None or program is None:
        return None
    of_program = words[last + 1 :]
    if program.verbs and (not of_program or of_program[0] not in program.verbs):
        return None
    assigned = [word for word in of_program if "=" in word and not word.startswith("-")]
    values = flags.mapping([word for word in of_program if word not in assigned])
    split = (word.lstrip("+~").partition("=") for word in assigned)
    values |= {key: flags.plain(value) for key, _, value in split}
    values = {key: v for key, v in values.items() if not key.startswith("$") and v != ""}
    layer = _named(document, program, values.pop("config", None))
    launched = ranks.of_program("swift", words[:last], env, "swift").ranks
    if launched and any(EACH_CARD in each for each, _ in program.cards):
        values[EACH_CARD] = launched
    whole = starters.changed(replace(document, data=layer.data), values)
    keyed = replace(whole, data=_resolved(whole.data), places=_places(document, values))
    verb = " ".join(word for word in words[last : last + 2] if "=" not in word)
    return RewardRun(program, keyed, layer.absent, layer.notes, verb.partition(" -")[0])


def _places(document: Document, values: Mapping[str, Value]) -> dict[Path, Place]:
    """Return the lines of a script's keys."""
    places: dict[Path, Place] = {}
    for key in values:
        pattern = rf"(?<![\w.]){re.escape(key).replace('_', '[-_]')}(?=[=\s])"
        match = re.search(pattern, document.text)
        if match is not None:
            places[tuple(key.split("."))] = Place(document.line_of(match.start()))
    return places


def _named(document: Document, program: RewardProgram, name: Value) -> ConfigLayer:
    """Return the config that a command names; the command's words override it."""
    known = program.shipped
    return _base(document, known, name, MOST_BASES) if isinstance(name, str) else ConfigLayer({})


def _layer(document: Document, shipped: Shipped, left: int = MOST_BASES) -> ConfigLayer:
    """Return a config merged over its `defaults`; later ones override earlier ones."""
    named = document.data.get("defaults")
    names = named if isinstance(named, list) else [named]
    layer = ConfigLayer({})
    if left and all(isinstance(name, str) for name in names):
        for below in (_base(document, shipped, name, left) for name in names[:MOST_BASES]):
            notes = (*layer.notes, *below.notes)
            data = _above(layer.data, below.data)
            layer = ConfigLayer(data, (*layer.absent, *below.absent), notes)
    return layer._replace(data=_above(layer.data, document.data))


def _base(document: Document, shipped: Shipped, name: str, left: int) -> ConfigLayer:
    """Return the config `name`: a file next to the document, or one that the program ships. The
    files that it refers to are next to itself."""
    config = beside(document, name, ("yaml",))
    if config is not None and isinstance(config.data, dict):
        there = os.path.join(document.folder, os.path.dirname(name))
        return _layer(replace(config, folder=there), shipped, left - 1)
    base = name.rpartition("/")[2]
    if base in shipped:
        return ConfigLayer(shipped[base], (), (sentence("base.by_name", base=base),))
    line = document.line_of(max(0, document.text.find(name)))
    return ConfigLayer({}, (missing(name, "config", line),))


def _above(below: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below`, with the values of `data` over it; mappings in both are merged."""
    both = dict(below)
    for key, value in data.items():
        inner = both.get(key)
        both[key] = value
        if isinstance(value, dict) and isinstance(inner, dict):
            both[key] = _above(inner, value)
    return both


def _resolved(data: Mapping[str, Any], above: Path = (), whole: Any = None) -> dict[str, Any]:
    """Return a mapping with references to other keys (`${policy.precision}`, `${..size}`, `${mul:2,
    3}`) replaced by their values."""
    whole = data if whole is None else whole
    return {
        key: _resolved(value, (*above, key), whole)
        if isinstance(value, dict)
        else _put(value, whole, above)
        for key, value in data.items()
    }


def _put(value: Any, data: Mapping[str, Any], above: Path) -> Any:
    def named(match: re.Match[str]) -> str:
        up = len(match["above"])
        start = above[: len(above) - up + 1] if up else ()
        return str(_value(data, ".".join((*map(str, start), match["path"])), match[0]))

    for _ in range(NESTED):
        if not isinstance(value, str) or "${" not in value:
            break
        put = PRODUCT.sub(lambda m: str(int(m[1]) * int(m[2])), NAMED.sub(named, value))
        value = flags.plain(put) if put != value else value
    return value


def _leaves(data: Mapping[str, Any], above: Path) -> Iterator[tuple[Path, Any]]:
    """Yield (path, value) of all values that are neither mappings nor lists."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        elif not isinstance(value, list):
            yield (*above, key), value


def _value(data: Mapping[str, Any], path: str, unknown: str) -> Any:
    inner: Any = data
    for part in path.split("."):
        inner = inner.get(part) if isinstance(inner, dict) else None
    return unknown if inner is None or isinstance(inner, dict | list) else inner

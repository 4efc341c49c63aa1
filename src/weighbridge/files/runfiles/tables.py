"""The table of a kind of file: what its keys are here, and what our settings are in its words.

A section each:

    [settings]                         a key, and the setting of ours that it is
    micro_batch_size   batch_size
    [ignored]                          keys that decide no memory, by their names alone
    output_dir datasets
    [memory]                           keys that do, and why they are not understood; a `-` before
                                       it: the run takes less with it than is counted; a `+`: more
    unfrozen_parameters   layers are frozen by name
    [values]                           a setting, one of its values, and the key that says it: the
                                       first of several is what is written, with what goes along
    checkpointing  offload  gradient_checkpointing = offload | unsloth; a = 1; plugins += x
    [new]                              the same, as only a new file says it
    [names]                            a key, what one of its values is called, and what that is
    model_type  FLUX_DEV_1  flux.1-dev
    [rules]                            what several keys decide together (rules.py)

Keys are dotted where they stand in a mapping (`fsdp_config.offload_params`); `name.*` is all
of it, and `name_*` are all keys that begin so.
"""

import json
import re
from collections.abc import Mapping
from functools import cache

from weighbridge.base.records import NamedTuple
from weighbridge.files.runfiles.record import Value

# switches that a file writes even if they are off
EITHER = (
    *("use_reentrant", "zero_overlap_comm", "zero_pin_memory", "reshard_after_forward"),
    "gather_on_save",
)

Phrases = Mapping[tuple[str, Value], Mapping[str, Value]]


class KeyTable(NamedTuple):
    """The meaning of the keys in one kind of file."""

    settings: Mapping[str, str]
    ignored: frozenset[str]
    memory: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]  # key -> its value, as text -> ours
    phrases: Phrases  # a setting and its value -> keys with their values
    newly: Phrases  # the same, of new files
    names: Mapping[str, Mapping[str, str]]  # key -> a value's name -> the value
    rules: tuple[tuple[str, str, str], ...]  # (setting, its value, condition)


@cache
def table(text: str) -> KeyTable:
    """Return the table in a text with the sections above."""
    settings: dict[str, str] = {}
    memory: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}
    phrases: dict[str, dict[tuple[str, Value], Mapping[str, Value]]] = {"values": {}, "new": {}}
    ignored: set[str] = set()
    names: dict[str, dict[str, str]] = {}
    rules: list[tuple[str, str, str]] = []
    section = ""
    for line in filter(str.strip, text.splitlines()):
        name, _, after_sign = line.strip().partition(" ")
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == "rules":
            means, when = re.split("  +", after_sign.strip())
            rules.append((name, means, when))
        elif section == "settings":
            settings[name] = after_sign.strip()
        elif section == "memory":
            memory[name] = after_sign.strip()
        elif section == "names":
            called, meaning = after_sign.split()
            names.setdefault(name, {})[called] = meaning
        elif section in phrases:
            meaning, phrase = after_sign.split(maxsplit=1)
            words = dict(map(_phrase, phrase.split(";")))
            phrases[section][name, meaning] = {key: each[0] for key, each in words.items()}
            first = next(iter(words))
            values.setdefault(first, {}).update((str(v).lower(), meaning) for v in words[first])
        else:
            ignored.update(line.split())
    written = phrases["values"], phrases["new"]
    return KeyTable(settings, frozenset(ignored), memory, values, *written, names, tuple(rules))


def _phrase(text: str) -> tuple[str, list[Value]]:
    """Return (key, values) of `key = a | b`; values for a list (`+=`) are a tuple."""
    key, _, values_said = text.strip().partition(" ")
    sign, _, listed = values_said.partition(" ")
    values = [each.strip() for each in listed.split("|")]
    return key, [tuple(values)] if sign == "+=" else [plain_value(each) for each in values]


def plain_value(text: str) -> Value:
    """Return a word of a table as a number, true or false, a list, or else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


# Changes of settings, as keys of a file


def phrased(
    change: Mapping[str, Value], names: Mapping[str, str], phrases: Phrases
) -> Mapping[str, Value] | None:
    """Return changed settings of ours as keys of a file, None if it has no keys for them. A key has
    the value itself, or a phrase stands for one value; `a|b` is the first of these keys that the
    file has, else the last."""
    words: dict[str, Value] = {}
    for setting, value in change.items():
        text = value[0] if isinstance(value, tuple) and len(value) == 1 else value
        if isinstance(text, str) and (setting, text) in phrases:
            words.update(phrases[setting, text])
        elif setting in names:
            words[names[setting]] = value
        else:
            return None
    return words


def _says_nothing(setting: str, value: Value) -> bool:
    """Return whether a value is the default, which a file need not state."""
    if value is None or value in ((), []) or (value is False and setting not in EITHER):
        return True
    return bool(value == 1 and setting.endswith("_parallel_size"))


def worded(
    settings: Mapping[str, Value], keys: str, names: Mapping[str, str], phrases: Phrases
) -> dict[str, Value]:
    """Return settings as keys of a new file, without defaults and settings that it has no keys for.
    `keys` is the kind's table; of `a|b` the last is written."""
    plain: dict[str, str] = {}
    for key, setting in table(keys).settings.items():
        plain.setdefault(setting, key)
    plain |= names
    words: dict[str, Value] = {}
    for setting, value in settings.items():
        if _says_nothing(setting, value):
            continue
        if isinstance(value, str) and (setting, value) in phrases:
            words.update(phrases[setting, value])
        elif setting in plain:
            words[plain[setting].rpartition("|")[2]] = value
    return words

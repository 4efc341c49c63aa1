"""Keys of programs for our settings: one table, by which files are read and changes are written.

    keyed("verl", {"batch_size": 2})    -> {"actor_rollout_ref.actor.ppo_micro_...": 2}
    spelled("verl", {"batch_size": 2})  -> "actor_rollout_ref.actor.ppo_micro_...=2"
    section("verl")                     -> its rows, for the reader of its files

A form is how keys are written: `flags` (--key value), `switches` (the same, and --key if it is on),
`dashes` (--a-key), `assigned` (key=value), `python` (arguments of a call) and `yaml`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from json import loads
from typing import Any

from weighbridge.base.parsed import sections_beside
from weighbridge.base.records import NamedTuple
from weighbridge.workload.train import REWARDS

SWITCHES, DASHES = "switches", "dashes"
ANY, EACH, UNSAID, NONE_OF = "*", "{}", "-", "!"


class ProgramWords(NamedTuple):
    """The configuration keys of one program. `rows`: those of words.txt; `names`: a setting's keys;
    `phrases`: keys and values for one value of a setting; `follows`: settings that the program
    derives from others."""

    form: str
    rows: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    phrases: Mapping[tuple[str, str], Mapping[str, Any]]
    follows: frozenset[str]


NONE = ProgramWords("", (), {}, {}, frozenset())


@cache
def wordings() -> Mapping[str, ProgramWords]:
    """Return the configuration keys of each program, by its name, from words.txt."""
    known: dict[str, ProgramWords] = {}
    for title, lines in sections_beside(__file__, "words.txt").items():
        program, form, *more = title.split()
        known[program] = _wording(form, lines, known[more[0]] if more else NONE)
    return known


def _wording(form: str, rows: Sequence[str], below: ProgramWords) -> ProgramWords:
    names: dict[str, tuple[str, ...]] = {}
    phrases, follows, lacks = dict(below.phrases), set(below.follows), set[str]()
    for row in rows:
        first, second, *phrase = row.split(maxsplit=2)
        if phrase:
            phrases[first, second] = dict(_pairs(phrase[0]))
        elif first == UNSAID:
            follows.add(second)
        elif first == NONE_OF:
            lacks.add(second)
            phrases = {which: words for which, words in phrases.items() if which[0] != second}
        else:
            names[second] = (*names.get(second, ()), first)
    for setting in below.names.keys() - lacks:
        keys = below.names[setting]
        names[setting] = (*names.get(setting, ()), *keys)
    return ProgramWords(form, (*below.rows, *rows), names, phrases, frozenset(follows))


def _pair(text: str) -> tuple[str, Any]:
    key, _, value = text.partition(" = ")
    value = value.partition("|")[0].strip()  # the first of several that mean the same
    try:
        return key.strip(), value if value == EACH else loads(value)
    except ValueError:
        return key.strip(), value


def program_of(settings: Mapping[str, Any]) -> str:
    """Return the name of the program whose keys a run uses: a framework, its Megatron backend, or
    its script for preferences."""
    framework = str(settings.get("framework") or "")
    of_pairs = settings.get("method") not in REWARDS
    part = "megatron" if settings.get("megatron_args") else "pairs" if of_pairs else ""
    program = f"{framework}-{part}"
    return program if program in wordings() else framework


def follows(program: str) -> frozenset[str]:
    """Return the names of settings that a program derives from others."""
    return wordings()[program].follows if program in wordings() else frozenset()


def section(program: str) -> str:
    """Return a program's rows of words.txt as a table of keys, empty if there are none. A setting
    that takes any value is listed under its key."""
    settings, values = list[str](), list[str]()
    for row in wordings()[program].rows if program in wordings() else ():
        first, second, *phrase = row.split(maxsplit=2)
        if phrase and second == ANY:
            holds = next(key for key, value in _pairs(phrase[0]) if value == EACH)
            settings.append(f"{holds} {first}")
        elif phrase:
            values.append(row)
        elif first not in (UNSAID, NONE_OF):
            settings.append(row)
    return "\n".join(("[settings]", *settings, "[values]", *values))


def _pairs(phrase: str) -> Iterator[tuple[str, Any]]:
    yield from map(_pair, phrase.split(";"))


def keyed(program: str, change: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return changed settings as keys and values of a program; None if one has no key. `a|b` are
    older and newer names of one key, the usual one last."""
    known = wordings().get(program)
    keys: dict[str, Any] = {}
    for name in sorted(change, key="offload".__eq__):  # last: files of DeepSpeed say shards, too
        words = None if known is None else _keyed(known, name, change[name])
        if words is None:
            return None
        keys |= words
    return (
        keys
        if known is None
        else {
            (key.replace("_", "-") if known.form == DASHES else key): (
                "" if on is True and known.form in (SWITCHES, DASHES) else on
            )
            for key, on in keys.items()
        }
    )


def _keyed(known: ProgramWords, name: str, value: Any) -> Mapping[str, Any] | None:
    phrase = known.phrases.get((name, str(value).lower()))
    if phrase is None and (name, ANY) in known.phrases:
        whole = known.phrases[name, ANY]
        phrase = {key: value if word == EACH else word for key, word in whole.items()}
    if phrase is None and name in known.names:
        phrase = {"|".join(reversed(known.names[name])): value}
    return {} if phrase is None and name in known.follows else phrase


def spelled(program: str, change: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return (text in the program's syntax, settings without a key) for changed settings."""
    others = tuple(name for name in change if keyed(program, {name: change[name]}) is None)
    keys = keyed(program, {k: v for k, v in change.items() if k not in others}) or {}
    usual = {key.rpartition("|")[2]: value for key, value in keys.items()}
    return FORMS[wordings()[program].form](usual) if usual else "", others


def _flags(keys: Mapping[str, Any]) -> str:
    return " ".join(f"--{key} {_plain(value)}".rstrip() for key, value in keys.items())


def _assigned(keys: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_plain(value)}" for key, value in keys.items())


def _python(keys: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}={value!r}" for key, value in keys.items())


def _yaml(keys: Mapping[str, Any]) -> str:
    lines = list[str]()
    above: list[str] = []
    for key, value in keys.items():
        *path, last = key.split(".")
        same = next((n for n, (a, b) in enumerate(zip(path, above, strict=False)) if a != b), None)
        begins = min(len(path), len(above)) if same is None else same
        lines += [f"{'  ' * n}{path[n]}:" for n in range(begins, len(path))]
        lines.append(f"{'  ' * len(path)}{last}: {_plain(value)}")
        above = path
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


FORMS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "flags": _flags,
    SWITCHES: _flags,
    DASHES: _flags,
    "assigned": _assigned,
    "python": _python,
    "yaml": _yaml,
}

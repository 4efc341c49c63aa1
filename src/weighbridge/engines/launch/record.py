"""The records of a launch: a command, its program, a flag, and how an engine writes both.

`flags` makes the flags of an engine: those that say a setting, by its record; others from a text,
one line a flag that matters for memory, and long lists of those that do not.

    [ignored value]
    --host --port
    [memory]
    --hf-overrides                value   !own_config
    --runner                      value   !as_generation unless auto generate
    --speculative-config -sc      value   @speculative
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import starmap
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base.errors import Ground
from weighbridge.base.records import NamedTuple, field, frozen_record
from weighbridge.settings.kinds import FLAG
from weighbridge.settings.setting import LaunchFlag, Setting, Settings, launched

if TYPE_CHECKING:
    from weighbridge.engines.launch.reading import CommandReading

Value = str | bool | int | float
# either: a "no" is not sure, too; beside: unless it is of weights alone
Stop = Literal["no", "unknown", "either", "beside"]


class Obstacle(NamedTuple):
    """Why an engine does not start, or may not. A "no" is a claim: it has the class of a refusal
    (weighbridge.base.errors), and where that is "tried" the engine's own words."""

    answer: Stop
    why: str
    ground: Ground = ""
    seen: str = ""
    cards: int | None = None  # that a command sees, where those are too few for it to start


@frozen_record
class Launch:
    """`settings` are named as in `workload.Infer`. `defaults`: (setting, value, why)."""

    engine: str
    program: str
    model: str
    revision: str | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    served: Mapping[str, str] = field(default_factory=dict)  # how clients see it
    devices: int | None = None  # accelerators that it uses, where the command tells
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    defaults: tuple[tuple[str, Value, str], ...] = ()
    warnings: tuple[str, ...] = ()
    stops: tuple[Obstacle, ...] = ()
    unmodelled: str = ""  # keys of what is counted in the place of flags: engines/ignorance.py
    stored_as: str = ""  # the format that the checkpoint is said to be stored in
    longest: bool = False  # the engine takes the longest context that fits
    given: frozenset[str] = frozenset()  # names of flags, as they were typed
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    mounts: Mapping[str, str] = field(default_factory=dict)  # of its container


@frozen_record
class LaunchedProgram:
    """A program that was found in a command: its own words, and what is around it."""

    engine: str
    name: str  # "vllm serve"
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None  # of a container's image
    devices: int | None = None  # that a container is given
    memory: str = ""  # of the host, that a container may take, as Docker has it: 6g
    mounts: Mapping[str, str] = field(default_factory=dict)  # folder inside -> what is there
    ports: tuple[str, ...] = ()  # that it publishes, as Docker has them: 8200:8000


@frozen_record
class Flag:
    """`effect`: "=" sets the field `detail`, "!" changes memory in a way that we do not model
    ("~": only where it is switched off; the sentence flag.`detail` says what is counted),
    "@" is read by the function `detail`, "-" nothing."""

    names: tuple[str, ...]
    takes: str  # switch, value, values (as many as there are), maybe (one or none), pair
    effect: str
    detail: str = ""
    kind: str = ""  # how the value of "=" is read
    plain: tuple[str, ...] = ()  # values that mean the default: nothing happens


@frozen_record
class GivenFlag:
    """A flag of a command, or a word that is none (`name` "")."""

    name: str
    flag: Flag | None = None
    value: object = True


@frozen_record
class Dialect:
    """An engine's command line: its flags, and the rules by which they are read."""

    engine: str
    flags: Mapping[str, Flag]
    finish: "Callable[[CommandReading], None]"  # what needs more than one flag
    defaults: "Callable[[CommandReading], tuple[tuple[str, Value, str], ...]]"
    argparse: bool = True  # Python's rules: --flag=value, unique beginnings, no value like a flag
    dotted: bool = False  # --json-flag.key value
    optional: frozenset[str] = frozenset()  # values that a "maybe" takes; empty: any
    env: Mapping[str, str] = field(default_factory=dict)  # variables that matter for memory
    tells: frozenset[str] = frozenset()  # flags by which it is told from others of its programs
    # (image, words behind it) -> (words, the program that runs), where images are of several kinds
    runs: "Callable[[str, list[str]], tuple[list[str], str]] | None" = None


# Flags from records and from text

LINE = re.compile(r"(-\S+(?: -\S+)*) {2,}(switch|value|values|maybe|pair) +([!~@])(.+)")


def flags(
    table: str, declared: type[Settings] = Settings, *, negations: bool = False
) -> dict[str, Flag]:
    """Return flags under each of their names: those of `declared`, and a table's. With `negations`,
    also under those that turn a switch off: --no-x, --disable-x."""
    said = ((setting, one) for setting, one in launched(declared) if one.reads != "code")
    rows = (*starmap(_of_setting, said), *_rows(table))
    by_name = {name: flag for flag in rows for name in flag.names}
    return {**_negated(by_name), **by_name} if negations else by_name


def _of_setting(setting: Setting[Any], said: LaunchFlag) -> Flag:
    switch = setting.kind is FLAG and said.reads in ("", "false")
    return Flag(
        names=said.names,
        takes="switch" if switch else "value",
        effect="=",
        detail=setting.name,
        kind=said.reads or ("true" if switch else setting.kind.name),
        plain=said.plain,
    )


def _rows(table: str) -> Iterator[Flag]:
    section = ""
    for line in filter(None, table.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section.startswith("ignored"):
            takes = section.split()[1]
            yield from (Flag(names=(name,), takes=takes, effect="-") for name in line.split())
        else:
            yield _row(line)


def _row(line: str) -> Flag:
    columns = LINE.fullmatch(line)
    assert columns is not None, line
    names, takes, effect, detail = columns.groups()
    detail, _, plain = detail.partition(" unless ")
    return Flag(
        names=tuple(names.split()),
        takes=takes,
        effect=effect,
        detail=detail,
        plain=tuple(plain.split()),
    )


def _negated(known: dict[str, Flag]) -> dict[str, Flag]:
    """vllm/utils/argparse_utils.py: EnableDisableAction, and argparse's own --no-x."""
    return {
        off: flag
        for name, flag in known.items()
        if flag.takes == "switch" and name.startswith("--")
        for off in opposites(name)
    }


def opposites(name: str) -> tuple[str, ...]:
    swapped = re.sub("^--(enable|disable)-", lambda m: SWAP[m[1]], name)
    return (f"--no-{name[2:]}", *(() if swapped == name else (swapped,)))


SWAP = {"enable": "--disable-", "disable": "--enable-"}

"""Records of a launch: a command, its program, a flag, and how an engine writes both.

`flags` makes the flags of an engine: those for a setting from its record; others from a text, with
one line per flag that matters for memory, and long lists of those that do not.

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
# either: even a "no" is not sure; beside: it is not, unless due to weights alone
Stop = Literal["no", "unknown", "either", "beside"]


class Obstacle(NamedTuple):
    """A reason why an engine does not start, or may not. A "no" is a claim: it has the class of a
    refusal (weighbridge.base.errors), and if that is "tried" the engine's own words."""

    answer: Stop
    why: str
    ground: Ground = ""
    seen: str = ""
    cards: int | None = None  # cards that the command sees, if too few to start


@frozen_record
class Launch:
    """A parsed command; `settings` as in `workload.Infer`, `defaults`: (setting, value, why)."""

    engine: str
    program: str
    model: str
    revision: str | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    served: Mapping[str, str] = field(default_factory=dict)  # what clients see
    devices: int | None = None  # accelerators in use, if the command tells
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    defaults: tuple[tuple[str, Value, str], ...] = ()
    warnings: tuple[str, ...] = ()
    stops: tuple[Obstacle, ...] = ()
    unmodelled: str = ""  # keys of what is counted instead of flags: engines/ignorance.py
    stored_as: str = ""  # the checkpoint's format, as the flag says
    longest: bool = False  # the engine takes the longest context that fits
    given: frozenset[str] = frozenset()  # names of flags, as typed
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    mounts: Mapping[str, str] = field(default_factory=dict)  # of its container


@frozen_record
class LaunchedProgram:
    """A program found in a command, with its arguments and context."""

    engine: str
    name: str  # "vllm serve"
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None  # of a container's image
    devices: int | None = None  # devices of the container
    memory: str = ""  # limit of the container's host memory, in Docker's notation: 6g
    mounts: Mapping[str, str] = field(default_factory=dict)  # folder inside -> what is there
    ports: tuple[str, ...] = ()  # published ports, in Docker's notation: 8200:8000


@frozen_record
class Flag:
    """A flag of an engine. `effect`: "=" sets the field `detail`, "!" changes memory in a way that
    we do not model ("~": only if switched off; the sentence flag.`detail` says what is counted),
    "@" is read by the function `detail`, "-" nothing."""

    names: tuple[str, ...]
    takes: str  # switch, value, values (any number), maybe (one or none), pair
    effect: str
    detail: str = ""
    kind: str = ""  # parser of the value of "="
    plain: tuple[str, ...] = ()  # values that mean the default and are ignored


@frozen_record
class GivenFlag:
    """A flag of a command, or a word that is no flag (`name` "")."""

    name: str
    flag: Flag | None = None
    value: object = True


@frozen_record
class Dialect:
    """An engine's command line: its flags, and the rules for parsing them."""

    engine: str
    flags: Mapping[str, Flag]
    finish: "Callable[[CommandReading], None]"  # reads what needs more than one flag
    defaults: "Callable[[CommandReading], tuple[tuple[str, Value, str], ...]]"
    argparse: bool = True  # Python's rules: --flag=value, unique beginnings, no value like a flag
    dotted: bool = False  # --json-flag.key value
    optional: frozenset[str] = frozenset()  # values that a "maybe" takes; empty: any
    env: Mapping[str, str] = field(default_factory=dict)  # variables that matter for memory
    tells: frozenset[str] = frozenset()  # flags that no other engine of its programs has
    # (image, its arguments) -> (arguments, the program that runs), if images are of several kinds
    runs: "Callable[[str, list[str]], tuple[list[str], str]] | None" = None


# Flags from records and from text

LINE = re.compile(r"(-\S+(?: -\S+)*) {2,}(switch|value|values|maybe|pair) +([!~@])(.+)")


def flags(
    table: str, declared: type[Settings] = Settings, *, negations: bool = False
) -> dict[str, Flag]:
    """Return flags by each of their names: those of `declared`, and a table's. With `negations`,
    also by the names that turn a switch off: --no-x, --disable-x."""
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
    """Return negated switches (vllm/utils/argparse_utils.py: EnableDisableAction; --no-x)."""
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

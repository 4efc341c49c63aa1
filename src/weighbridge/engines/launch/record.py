"""The records of a launch: what was found, and what a flag is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from weighbridge.engines.launch.reading import CommandReading

Value = str | bool | int | float
Stop = Literal["no", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
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
    stops: tuple[tuple[Stop, str], ...] = ()  # why the engine does not start, or may not
    stored_as: str = ""  # the format that the checkpoint is said to be stored in
    longest: bool = False  # the engine takes the longest context that fits
    given: frozenset[str] = frozenset()  # names of flags, as they were typed
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedProgram:
    """A program that was found in a command: its own words, and what is around it."""

    engine: str
    name: str  # "vllm serve"
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None  # of a container's image
    devices: int | None = None  # that a container is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """`effect`: "=" sets the field `detail`, "!" changes memory in a way that we do not model
    ("~": only where it is switched off), "@" is read by the function `detail`, "-" nothing."""

    names: tuple[str, ...]
    takes: str  # switch, value, values (as many as there are), maybe (one or none), pair
    effect: str
    detail: str = ""
    kind: str = ""  # how the value of "=" is read
    plain: tuple[str, ...] = ()  # values that mean the default: nothing happens


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFlag:
    """A flag of a command, or a word that is none (`name` "")."""

    name: str
    flag: Flag | None = None
    value: object = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How an engine writes its command line."""

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

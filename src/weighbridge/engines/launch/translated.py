"""The command line of an engine that another one stands in for, in that one's flags."""

from collections.abc import Iterator

from weighbridge.base.records import replace
from weighbridge.engines.launch.programs import dialect
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Dialect, Flag, GivenFlag, Value
from weighbridge.engines.stand_ins import STAND_INS, StandIn
from weighbridge.engines.table import ENGINES


def dialect_of(name: str) -> Dialect:
    """Return the dialect of any engine's command line. For one that was not read, flags are only
    split from their values: `in_flags_of_near` says what they mean."""
    if name in ENGINES:
        return dialect(ENGINES[name])
    own, near = _of(name)
    flags = dict(near.flags) if own.fork else {}
    for flag, meant in own.flags.items():
        first = near.flags.get(meant.partition(" ")[0])
        takes = "value" if first is None else first.takes
        flags[flag] = Flag(names=(flag,), takes="values" if meant == "*" else takes, effect="-")
    flags.pop("", None)  # a word, which is no flag
    for flag in own.switches:
        flags[flag] = Flag(names=(flag,), takes="switch", effect="-")
    for flag, instead in own.counted.items():
        flags[flag] = Flag(names=(flag,), takes="value", effect="!", detail=instead)
    return replace(near, engine=own.name, flags=flags, defaults=_defaults, argparse=True)


def in_flags_of_near(given: GivenFlag, name: str) -> Iterator[GivenFlag]:
    """Yield the flags of the nearest engine that say what a flag of this one says: the flag itself
    where the engine was read, or where none says it."""
    if name in ENGINES or given.name not in (flags := STAND_INS[name].flags):
        yield given
        return
    own, near = _of(name)
    value = own.values.get(given.name, {}).get(str(given.value), given.value)
    meant = flags[given.name].strip("*").split() if value != "" else []
    for flag in meant:
        yield replace(given, name=given.name or flag, flag=near.flags[flag], value=value)
    if not meant:
        yield given


def _of(name: str) -> tuple[StandIn, Dialect]:
    own = STAND_INS[name]
    return own, dialect(ENGINES[own.near])


def _defaults(reading: CommandReading) -> tuple[tuple[str, Value, str], ...]:
    """Return what the nearest engine takes where the command says nothing."""
    own, near = _of(reading.dialect.engine)
    said = near.defaults(reading)
    return tuple((name, value, f"as {ENGINES[own.near].title} has it") for name, value, _ in said)

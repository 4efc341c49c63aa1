"""Flags of an engine: those that say a setting, by its record; others as text, one line a flag that
matters for memory, and long lists of those that do not.

[ignored value]
--host --port
[memory]
--hf-overrides                value   !the model's own config is used as it is
--runner                      value   !pooling models are not modelled unless auto generate
--speculative-config -sc      value   @speculative
"""

import re
from collections.abc import Iterator
from itertools import starmap
from typing import Any

from weighbridge.engines.launch.record import Flag
from weighbridge.settings.kinds import FLAG
from weighbridge.settings.setting import LaunchFlag, Setting, Settings, launched

LINE = re.compile(r"(-\S+(?: -\S+)*) {2,}(switch|value|values|maybe|pair) +([!~@])(.+)")


def flags(
    table: str, declared: type[Settings] = Settings, *, negations: bool = False
) -> dict[str, Flag]:
    """Return flags under each of their names: those of `declared`, and a table's. With `negations`,
    also under those that turn a switch off: --no-x, --disable-x."""
    said = ((setting, one) for setting, one in launched(declared) if one.reads != "code")
    rows = (*starmap(_of_setting, said), *_rows(table))
    found = {name: flag for flag in rows for name in flag.names}
    return {**_negated(found), **found} if negations else found


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
    found = LINE.fullmatch(line)
    assert found is not None, line
    names, takes, effect, detail = found.groups()
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

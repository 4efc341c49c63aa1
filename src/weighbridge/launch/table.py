"""Flags as text: one line a flag that matters for memory, and long lists of those that do not.

[ignored value]
--host --port
[memory]
--tensor-parallel-size -tp    value   =tensor_parallel_size whole
--hf-overrides                value   !the model's own config is used as it is
--runner                      value   !pooling models are not modelled unless auto generate
--speculative-config -sc      value   @speculative
"""

import re
from collections.abc import Iterator

from weighbridge.launch.record import Flag

LINE = re.compile(r"(-\S+(?: -\S+)*) {2,}(switch|value|values|maybe|pair) +([=!~@])(.+)")


def flags(table: str, *, negations: bool = False) -> dict[str, Flag]:
    """Return a table's flags under each of their names. With `negations`, also under those that
    turn a switch off: --no-x, --disable-x."""
    found = {name: flag for flag in _rows(table) for name in flag.names}
    return {**_negated(found), **found} if negations else found


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
    kind = ""
    if effect == "=":
        detail, _, kind = detail.partition(" ")
    return Flag(
        names=tuple(names.split()),
        takes=takes,
        effect=effect,
        detail=detail,
        kind=kind,
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

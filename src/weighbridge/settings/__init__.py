"""Settings: one table for the command line, for requests and for Python.

    read("infer", {"context": "8K"}) -> Infer(context=8192)

Unknown keys and wrong values are one line of UsageError. A setting that belongs to some engines is
refused with the others (`foreign`): silence would be a guess.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UsageError
from weighbridge.settings.kinds import KINDS, Kind
from weighbridge.settings.table import OF_LOAD, TABLE
from weighbridge.settings.training import TRAINING
from weighbridge.workload import Infer, Load, Train

LINE = re.compile(r"(\w+)((?: --?[\w-]+)*) {2,}(\w+)(?: (\S+))? {2,}(.+)")
MOST = float(1 << 50)  # a bound on what a stranger's number can make us do


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`flags` are spellings besides --its-name. `engines` () is every engine."""

    name: str
    section: str
    kind: Kind
    help: str
    flags: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    least: float = 0
    most: float = MOST
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def value(self, given: Any) -> Any:
        """Raises UsageError with the setting's name where `given` is not one of its values."""
        try:
            found = self.kind.read(given)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{self.flag} is {self.kind.says}, not {given!r:.80}") from None
        if self.choices:
            return self._choice(found, given)
        if isinstance(found, int | float) and not self.least <= found <= self.most:
            low = found < self.least
            bound = f"at least {_plainly(self.least)}" if low else f"at most {_plainly(self.most)}"
            if found != found:
                bound = self.kind.says
            raise UsageError(f"{self.flag} is {bound}, not {given!r:.80}")
        return found

    def _choice(self, found: Any, given: Any) -> str:
        """In the table's spelling."""
        spelled = {choice.lower(): choice for choice in self.choices}
        made = spelled.get(found.lower()) if isinstance(found, str) else None
        if made is None:
            raise UsageError(f"{self.flag} is one of {', '.join(self.choices)}, not {given!r:.80}")
        return made


def _plainly(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


def _settings(table: str) -> Iterator[Setting]:
    section = ""
    engines: tuple[str, ...] = ()
    for line in filter(None, table.splitlines()):
        if line.startswith("["):
            section, _, named = line.strip("[]").partition(" | ")
            engines = tuple(named.split())
            continue
        found = LINE.fullmatch(line)
        assert found is not None, line
        name, flags, kind, rule, text = found.groups()
        yield Setting(
            name=name,
            section=section,
            kind=KINDS[kind],
            help=text,
            flags=tuple(flags.split()),
            engines=engines,
            **_bounds(rule),
        )


def _bounds(rule: str | None) -> dict[str, Any]:
    """Of "1..4096", "1.." or "auto|cuda"."""
    if rule is None:
        return {}
    if ".." not in rule:
        return {"choices": tuple(rule.split("|"))}
    least, _, most = rule.partition("..")
    return {"least": float(least), "most": float(most) if most else MOST}


INFER: Mapping[str, Setting] = {s.name: s for s in _settings(TABLE)}
LOAD: Mapping[str, Setting] = {name: INFER[name] for name in OF_LOAD}
TRAIN: Mapping[str, Setting] = {s.name: s for s in _settings(TRAINING)}
WORKLOADS: Mapping[str, tuple[type[Load | Infer | Train], Mapping[str, Setting]]] = {
    "load": (Load, LOAD),
    "infer": (Infer, INFER),
    "train": (Train, TRAIN),
}


def read(task: str, given: Mapping[str, Any]) -> Any:
    """The workload of `task`. None is the default. Raises UsageError."""
    record, table = WORKLOADS[task]
    unknown = sorted(given.keys() - table.keys())
    if unknown:
        raise UsageError(f"{task} has no setting {unknown[0]!r}; {_near(unknown[0], table)}")
    return record(**{n: table[n].value(v) for n, v in given.items() if v is not None})


def _near(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"


def foreign(w: Infer, engine: str) -> None:
    """Raises UsageError where a setting of another engine was given."""
    for name, setting in INFER.items():
        given = getattr(w, name)
        if given is None or given is False or not setting.engines or engine in setting.engines:
            continue
        theirs = " and ".join(setting.engines)
        raise UsageError(f"{setting.flag} is a setting of {theirs}, not of {engine}")

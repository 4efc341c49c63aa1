"""Settings: one table for the command line, for requests and for Python.

    read("infer", {"context": "8K"}) -> Infer(context=8192)

Unknown keys and wrong values are one line of UsageError. A setting that belongs to some engines is
refused with the others (`foreign`): silence would be a guess.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from weighbridge import workload
from weighbridge.errors import UsageError
from weighbridge.parsed import Deferred, Parsed
from weighbridge.settings.kinds import KINDS, ValueKind
from weighbridge.settings.table import OF_LOAD, TABLE
from weighbridge.settings.training import TRAINING
from weighbridge.wording import either

if TYPE_CHECKING:
    from weighbridge.workload import Infer

MOST_BESIDE = 12  # answers side by side, on the command line and on the page
MOST = float(1 << 50)  # a bound on what a stranger's number can make us do


class Setting(NamedTuple):  # not a frozen dataclass: every start makes it
    """`flags` are spellings besides --its-name."""

    name: str
    section: str
    kind: ValueKind
    help: str
    flags: tuple[str, ...] = ()
    shared: bool = True  # every engine has it
    least: float = 0
    most: float = MOST
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that have it; () is every engine."""
        if self.shared:
            return ()
        from weighbridge.engines.table import ENGINES  # a start reads one record, or none

        return tuple(
            e.name for e in ENGINES.values() if self.section in e.sections or self.name in e.also
        )

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
        """Return the choice in the table's spelling."""
        spelled = {choice.lower(): choice for choice in self.choices}
        made = spelled.get(found.lower()) if isinstance(found, str) else None
        if made is None:
            raise UsageError(f"{self.flag} is one of {', '.join(self.choices)}, not {given!r:.80}")
        return made


def _plainly(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


def _table(text: str) -> Mapping[str, Setting]:
    """Settings by name."""
    return Parsed({line[0]: line for line in _lines(text)}, lambda line: _setting(*line))


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, its section, the line) of every setting. A section of some engines has a bar."""
    section = ""
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        else:
            yield line.partition(" ")[0], section, line


def _setting(name: str, section: str, line: str) -> Setting:
    """Columns are two blanks apart at least: name and flags, kind and rule, help."""
    title, some, _ = section.partition(" |")
    spelled, _, rest = line.partition("  ")
    ruled, _, text = rest.strip().partition("  ")
    kind, _, rule = ruled.partition(" ")
    return Setting(
        name=name,
        section=title,
        kind=KINDS[kind],
        help=text.strip().replace("{engines}", _engines() if name == "engine" else ""),
        flags=tuple(spelled.split()[1:]),
        shared=not some,
        **_bounds(rule),
    )


def _engines() -> str:
    """Name all engines in a sentence; the first is the default."""
    from weighbridge.engines.table import FOLDERS

    first, *others = FOLDERS
    return either((f"{first} (default)", *others))


def _bounds(rule: str) -> dict[str, Any]:
    """What "1..4096", "1.." and "auto|cuda" mean; "" is nothing."""
    if not rule:
        return {}
    if ".." not in rule:
        return {"choices": tuple(rule.split("|"))}
    least, _, most = rule.partition("..")
    return {"least": float(least), "most": float(most) if most else MOST}


def _serving() -> Mapping[str, Setting]:
    """Settings of every engine and of each: all records are read for it."""
    from weighbridge.engines.table import ENGINES

    return _table("".join((TABLE, *(e.settings for e in ENGINES.values()))))


def _asked() -> Mapping[str, Setting]:
    """What `fit` asks about: every method, and it traces nothing."""
    named = {name: name for name in (*INFER, *TRAIN) if name not in ("method", "exact")}
    return Parsed(named, lambda name: INFER[name] if name in INFER else TRAIN[name])


_COMMON = _table(TABLE)
TRAIN: Mapping[str, Setting] = _table(TRAINING)
INFER: Mapping[str, Setting] = Deferred(_serving)
LOAD: Mapping[str, Setting] = Parsed(
    {name: name for name in OF_LOAD},
    lambda name: _COMMON[name] if name in _COMMON else INFER[name],
)
FIT: Mapping[str, Setting] = Deferred(_asked)
TABLES: Mapping[str, Mapping[str, Setting]] = {  # by the task of a request
    "load": LOAD,
    "infer": INFER,
    "train": TRAIN,
    "fit": FIT,
}
# task -> the name of its record, and its table
WORKLOADS = {"load": ("Load", LOAD), "infer": ("Infer", INFER), "train": ("Train", TRAIN)}


def read(task: str, given: Mapping[str, Any]) -> Any:
    """The workload of `task`. None is the default. Raises UsageError."""
    record, table = WORKLOADS[task]
    unknown = sorted(given.keys() - table.keys())
    if unknown:
        raise UsageError(f"{task} has no setting {unknown[0]!r}; {_near(unknown[0], table)}")
    return getattr(workload, record)(
        **{n: table[n].value(v) for n, v in given.items() if v is not None}
    )


def checked(task: str, given: Any) -> Any:
    """A workload that was made by hand, each value of it read as `read` reads it. Raises
    UsageError."""
    from dataclasses import replace

    record, table = WORKLOADS[task]
    if not isinstance(given, getattr(workload, record)):
        named = given.__name__ if isinstance(given, type) else type(given).__name__
        raise UsageError(f"{task} takes its settings by name or as a {record}, not as {named}")
    said = {name: getattr(given, name) for name in table}
    return replace(given, **{n: table[n].value(v) for n, v in said.items() if v is not None})


def besides(task: str, asked: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that `asked` says and `told` does not, as JSON has them."""
    said = {name: getattr(asked, name) for name in TABLES[task] if name not in told}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in said.items()
        if value is not None and value is not False
    }


def _near(name: str, known: Mapping[str, Setting]) -> str:
    from difflib import get_close_matches

    flag = f"--{name.replace('_', '-')}"
    alias = next((n for n in known if flag in known[n].flags), None)
    if alias is not None:
        return f"it is {alias!r} here"
    close = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"


def foreign(w: "Infer", engine: str) -> None:
    """Raises UsageError where a setting of another engine was given."""
    for name in INFER:
        given = getattr(w, name)
        if given is None or given is False:
            continue
        setting = INFER[name]
        if not setting.engines or engine in setting.engines:
            continue
        theirs = " and ".join(setting.engines)
        raise UsageError(f"{setting.flag} is a setting of {theirs}, not of {engine}")
